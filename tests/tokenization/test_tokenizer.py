import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from tests.tokenization.corpus_rows import chat
from tokenization.corpus import Chat, Document, Message, Place
from tokenization.errors import BadInput
from tokenization.tokenizer import DocumentTokenizer, Encoded

SYSTEM = chat("s", "Which cheese?", "Stilton.", "Why?", " Because.\n\nIt é 山😀 is. ", system="Be brief.")
CHATS = [
    SYSTEM,
    chat("one", "Which cheese?", "Stilton."),
    chat("three", "1", "  one", "2", "two\n\n", "3", "é"),
    chat("open", "Hi", "Yo", "And?"),
]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "data.jsonl").write_text("\n\n")
    return Place(tmp_path / "data.jsonl", 1)


@pytest.fixture
def as_chat(place: Place) -> Any:
    return lambda row: Chat(row["id"], tuple(Message(**message) for message in row["messages"]), {}, place)


def encode_text(folder: Path, text: str, place: Place) -> list[int]:
    [encoded] = DocumentTokenizer(folder).encode([Document("d", text, {}, place)])
    assert encoded.mask.tolist() == [1] * len(encoded.tokens)
    return list(encoded.tokens)


def mask_by_control_tokens(tokens: list[int], reference: Tokenizer) -> list[int]:
    """The mask of ChatML by another road: from the token after ``<|im_start|>assistant\\n`` to the next turn."""
    start = reference.token_to_id("<|im_start|>")
    header = reference.encode("<|im_start|>assistant\n").ids
    mask, inside = [], False
    for index, token in enumerate(tokens):
        if token == start:
            inside = False
        mask.append(int(inside))
        if tokens[index + 1 - len(header) : index + 1] == header:
            inside = True
    return mask


def test_a_document_is_its_text_and_eod(make_tokenizer: Any, place: Place) -> None:
    folder = make_tokenizer()
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "Which cheese do you like? é 山\n"
    assert encode_text(folder, text, place) == [*reference.encode(text).ids, reference.token_to_id("<|endoftext|>")]


def test_a_document_gets_no_bos_and_is_not_truncated(make_tokenizer: Any, place: Place) -> None:
    folder = make_tokenizer()
    plain = encode_text(folder, "Which cheese do you like?", place)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing("<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert encode_text(folder, "Which cheese do you like?", place) == plain


def test_control_token_text_in_a_document_stays_text(make_tokenizer: Any, place: Place) -> None:
    folder = make_tokenizer()
    tokens = encode_text(folder, "Say <|im_end|> and <|endoftext|>", place)
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    control = {reference.token_to_id(name) for name in ("<|im_end|>", "<|endoftext|>", "<|im_start|>", "<|pad|>")}
    assert control.isdisjoint(tokens[:-1])
    assert DocumentTokenizer(folder).decode(np.array(tokens[:-1])) == "Say <|im_end|> and <|endoftext|>"


@pytest.mark.parametrize("row", CHATS, ids=lambda row: row["id"])
def test_a_chat_is_what_transformers_makes_of_it(make_tokenizer: Any, as_chat: Any, row: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    folder = make_tokenizer()
    expected = transformers.AutoTokenizer.from_pretrained(folder).apply_chat_template(
        row["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    tokenizer = DocumentTokenizer(folder)
    [encoded] = tokenizer.encode([as_chat(row)])
    assert encoded.tokens.tolist() == [*expected["input_ids"], tokenizer.facts.eod_id]
    ends_with_assistant = row["messages"][-1]["role"] == "assistant"
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert encoded.mask.tolist()[:-1] == mask_by_control_tokens(expected["input_ids"], reference)
    assert encoded.mask[-1] == ends_with_assistant
    assert encoded.mask.tolist()[:-1] == expected["assistant_masks"]


def test_trimmed_offsets_do_not_move_the_boundary(make_tokenizer: Any, as_chat: Any) -> None:
    """Some post-processors trim space off the offsets, so that the space that ends a prompt seems the assistant's."""
    source = (
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}|{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    folder = make_tokenizer(chat_template=source)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    trimming = DocumentTokenizer(folder)
    [encoded] = trimming.encode([as_chat(chat("c", "Hi", "\n\nYo"))])
    assert trimming.decode(encoded.tokens[encoded.mask == 1]) == "\n\nYo|<|endoftext|>"


def test_a_token_that_begins_in_the_prompt_is_not_a_target(make_tokenizer: Any, as_chat: Any) -> None:
    """The tokenizer merges the prompt's newline with the answer's; after the prompt a model cannot produce that."""
    tokenizer = DocumentTokenizer(make_tokenizer())
    [encoded] = tokenizer.encode([as_chat(chat("c", "Hi", "\n\nYo"))])
    first = int(np.flatnonzero(encoded.mask)[0])
    assert tokenizer.decode(encoded.tokens[first - 1 : first]) == "\n\n"
    assert tokenizer.decode(encoded.tokens[first:]) == "\nYo<|im_end|>\n<|endoftext|>"


def test_rows_come_back_in_order(make_tokenizer: Any, as_chat: Any, place: Place) -> None:
    tokenizer = DocumentTokenizer(make_tokenizer())
    rows = [Document("d", "first", {}, place), as_chat(CHATS[1]), Document("e", "last", {}, place)]
    alone = [tokenizer.encode([row])[0] for row in rows]

    def plain(encoded: list[Encoded]) -> list[tuple[list[int], list[int]]]:
        return [(item.tokens.tolist(), item.mask.tolist()) for item in encoded]

    assert plain(tokenizer.encode(rows)) == plain(alone)


def test_eod_is_not_doubled(make_tokenizer: Any, as_chat: Any) -> None:
    source = "{% for message in messages %}{{ message['content'] }}{{ eos_token }}{% endfor %}"
    tokenizer = DocumentTokenizer(make_tokenizer(chat_template=source))
    [encoded] = tokenizer.encode([as_chat(chat("c", "Hi", "Yo"))])
    assert tokenizer.decode(encoded.tokens) == "Hi<|endoftext|>Yo<|endoftext|>"
    assert tokenizer.decode(encoded.tokens[encoded.mask == 1]) == "Yo<|endoftext|>"


@pytest.mark.parametrize("row", CHATS, ids=lambda row: row["id"])
def test_a_turn_that_ends_with_eod_does_not_end_twice(make_tokenizer: Any, as_chat: Any, row: dict[str, Any]) -> None:
    """ChatML models whose EOD is ``<|im_end|>``: all is as with another EOD, less the newline that ends the chat."""
    tokenizer = DocumentTokenizer(make_tokenizer(eos_token="<|im_end|>"))
    [encoded] = tokenizer.encode([as_chat(row)])
    [other] = DocumentTokenizer(make_tokenizer("other")).encode([as_chat(row)])
    assert tokenizer.decode(other.tokens[-3:]) == "<|im_end|>\n<|endoftext|>"
    assert encoded.tokens.tolist() == other.tokens[:-2].tolist()
    assert encoded.mask.tolist() == other.mask[:-2].tolist()
    assert encoded.tokens[-1] == tokenizer.facts.eod_id
    assert encoded.mask[-1] == (row["messages"][-1]["role"] == "assistant")


def test_the_targets_of_several_turns_that_end_with_eod(make_tokenizer: Any, as_chat: Any) -> None:
    tokenizer = DocumentTokenizer(make_tokenizer(eos_token="<|im_end|>"))
    one, two = tokenizer.encode([as_chat(chat("c", "Hi", "Yo")), as_chat(chat("d", "Hi", "Yo", "?", "!"))])
    assert tokenizer.decode(one.tokens[one.mask == 1]) == "Yo<|im_end|>"
    assert tokenizer.decode(two.tokens[two.mask == 1]) == "Yo<|im_end|>\n!<|im_end|>"


def test_the_template_may_have_its_own_file(make_tokenizer: Any, as_chat: Any) -> None:
    folder = make_tokenizer(chat_template=None)
    (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message['content'] }}|{% endfor %}")
    tokenizer = DocumentTokenizer(folder)
    [encoded] = tokenizer.encode([as_chat(chat("c", "Hi", "Yo"))])
    assert tokenizer.decode(encoded.tokens) == "Hi|Yo|<|endoftext|>"


def test_a_template_file_that_is_no_text_is_refused(make_tokenizer: Any) -> None:
    path = make_tokenizer() / "chat_template.jinja"
    path.write_bytes(b"{{ messages }}\xff")
    with pytest.raises(BadInput, match=r"chat_template\.jinja: cannot be read as UTF-8 text"):
        DocumentTokenizer(path.parent)
    path.unlink()
    path.mkdir()
    with pytest.raises(BadInput, match=r"chat_template\.jinja: cannot be read as UTF-8 text"):
        DocumentTokenizer(path.parent)


@pytest.mark.parametrize("pad", ["<|pad|>", "<|endoftext|>", None, {"content": "<|pad|>"}])
def test_padding_is_never_eod(make_tokenizer: Any, pad: Any) -> None:
    folder = make_tokenizer(pad_token=pad)
    facts = DocumentTokenizer(folder).facts
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert facts.eod_id == reference.token_to_id("<|endoftext|>")
    assert facts.pad_id == reference.token_to_id("<|pad|>")
    assert facts.vocab_size == reference.get_vocab_size()


def test_padding_is_no_token_that_a_chat_can_hold(make_tokenizer: Any) -> None:
    """Without ``<|pad|>`` the other control tokens are EOD and those that the template prints."""
    folder = make_tokenizer(pad_token=None)
    path = folder / "tokenizer.json"
    description = json.loads(path.read_text())
    description["added_tokens"] = [token for token in description["added_tokens"] if token["content"] != "<|pad|>"]
    path.write_text(json.dumps(description))
    with pytest.raises(BadInput, match="pad_token: missing or equal to eos_token"):
        DocumentTokenizer(folder)


def test_a_chat_with_control_token_text_is_refused(make_tokenizer: Any, as_chat: Any) -> None:
    tokenizer = DocumentTokenizer(make_tokenizer())
    with pytest.raises(BadInput, match=r"data\.jsonl:2: messages\[1\]\.content: .*'<\|im_end\|>'"):
        tokenizer.encode([as_chat(chat("c", "Hi", "I end <|im_end|> here"))])
    named = {"id": "c", "messages": [{"role": "assistant", "content": "Hi", "name": "<|pad|>"}]}
    with pytest.raises(BadInput, match=r"messages\[0\]\.name: .*'<\|pad\|>'"):
        tokenizer.encode([as_chat(named)])


def test_a_chat_without_an_assistant_is_refused_by_id(make_tokenizer: Any, as_chat: Any) -> None:
    with pytest.raises(BadInput, match=r"data\.jsonl:2: messages: no token of chat 'lonely'"):
        DocumentTokenizer(make_tokenizer()).encode([as_chat(chat("lonely", "Anyone?"))])


def test_a_chat_needs_a_template(make_tokenizer: Any, as_chat: Any, place: Place) -> None:
    folder = make_tokenizer(chat_template=None)
    assert encode_text(folder, "A document does not.", place)
    with pytest.raises(BadInput, match=r"chat_template: missing, and .*data\.jsonl:2 is a chat"):
        DocumentTokenizer(folder).encode([as_chat(CHATS[0])])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eos_token": None}, "eos_token: missing"),
        ({"eos_token": "</s>"}, "eos_token: '</s>' is not a token"),
        ({"eos_token": 3}, "eos_token: expected a string, found int"),
        ({"eos_token": {}}, "eos_token: expected a string, found dict"),
        ({"pad_token": {"content": None}}, "pad_token: expected a string, found NoneType"),
        ({"chat_template": [{"name": "default", "template": ""}]}, "chat_template: expected a string, found list"),
        ({"chat_template": "{% if %}"}, "chat_template: line 1"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(make_tokenizer: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=rf"tokenizer_config\.json: {message}"):
        DocumentTokenizer(make_tokenizer(**changes))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(("text", "message"), [(None, "no such file"), ("{", "not (valid JSON|a Hugging Face)")])
def test_a_damaged_folder_is_refused(make_tokenizer: Any, name: str, text: str | None, message: str) -> None:
    path = make_tokenizer() / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(BadInput, match=f"{name}: {message}"):
        DocumentTokenizer(path.parent)
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(BadInput, match=f"{name}: no such file"):
        DocumentTokenizer(path.parent)
