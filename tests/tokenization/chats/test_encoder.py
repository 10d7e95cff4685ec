from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers

from tests.tokenization.chats.chat_templates import NAMED, QWEN3, QWEN25, THINKING, TRIMMED
from tests.tokenization.conftest import CHATML
from tests.tokenization.real_tokenizers import real_tokenizer
from tokenization.chats.encoder import ChatEncoder, EncodedChats
from tokenization.chats.template import ChatTemplate
from tokenization.documents import TurnsTrained
from tokenization.encoded import Ragged
from tokenization.engines.reference import ReferenceEngine
from tokenization.engines.sample import Inexact
from tokenization.reading.rows import ChatRow, Message, RowPlace
from tokenization.tokenizer import TokenizerFolder

Cot = Literal["train", "mask"]
PLACE = RowPlace("data.jsonl", 3, unit="row")
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
TEMPLATES = {
    "chatml": CHATML,
    "qwen25": QWEN25,
    "qwen3": QWEN3,
    "thinking": THINKING,
    "named": NAMED,
    "trimmed": TRIMMED,
}


class Watched:
    """An engine that remembers what it encoded: the fast way's slots, none of the reference's."""

    name = "watched"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._engine = ReferenceEngine(tokenizer)
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str], end: int | None = None) -> Ragged:
        self.texts += texts
        return self._engine.encode(texts, end)

    def saw(self, content: str) -> bool:
        return any(content in text for text in self.texts)


class Encoder:
    """A chat encoder of a tokenizer folder, with what tests ask of it."""

    def __init__(
        self,
        folder: Path,
        source: str = CHATML,
        cot: Cot = "train",
        fast: bool = True,
        turns: TurnsTrained = "as_printed",
    ) -> None:
        self.folder = TokenizerFolder(folder)
        tokenizer, names = self.folder.tokenizer, {"bos_token": "<|begin_of_text|>", "eos_token": self.folder.eod_text}
        self.engine = Watched(tokenizer)
        self._encoder = ChatEncoder(
            ChatTemplate(folder, source, names),
            self.engine,
            tokenizer,
            self.folder.special,
            self.folder.facts.eod_id,
            self.folder.eod_text,
            cot,
            turns,
            fast,
        )

    def encode(self, *chats: ChatRow) -> EncodedChats:
        return self._encoder.encode(chats)

    def one(self, *messages: Message) -> tuple[str, str]:
        """A chat decoded, and its targets decoded."""
        result = self.encode(chat(*messages))
        assert result.rejected == {}
        ids, mask = result.encoded.ids, result.encoded.mask
        assert mask is not None
        return self.folder.decode(ids), self.folder.decode(ids[mask == 1])


def chat(*messages: Message, name: str = "c", tools: list[dict[str, Any]] | None = None) -> ChatRow:
    return ChatRow(name, list(messages), tools, b"{}", PLACE)


def dialogue(*turns: str, system: str | None = None, name: str = "c") -> ChatRow:
    """Turns alternate, the user's first."""
    first = [] if system is None else [Message("system", system)]
    talk = [Message("assistant" if number % 2 else "user", turn) for number, turn in enumerate(turns)]
    return chat(*first, *talk, name=name)


def rows_of(result: EncodedChats) -> list[tuple[list[int], list[int]]]:
    """Ids and mask of each chat."""
    ends = np.concatenate([[0], np.cumsum(result.encoded.lengths)])
    assert result.encoded.mask is not None
    return [
        (result.encoded.ids[begin:end].tolist(), result.encoded.mask[begin:end].tolist())
        for begin, end in pairwise(ends.tolist())
    ]


def assert_equal(ours: EncodedChats, theirs: EncodedChats) -> None:
    assert rows_of(ours) == rows_of(theirs)
    assert {index: error.reason for index, error in ours.rejected.items()} == {
        index: error.reason for index, error in theirs.rejected.items()
    }
    assert (ours.assistant_turns, ours.trained_turns) == (theirs.assistant_turns, theirs.trained_turns)


CHATS = [
    dialogue("Which cheese?", "Stilton.", "Why?", "Because it é 山😀 is.", system="Be brief."),
    dialogue("Which cheese?", "Stilton."),
    dialogue("1", "  one", "2", "two\n\n", "3", "é"),
    dialogue("Hi", "Yo", "And?"),
]


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "reference"])
@pytest.mark.parametrize("row", CHATS, ids=range(4))
def test_a_chat_is_what_transformers_makes_of_it(make_tokenizer: Any, row: ChatRow, fast: bool) -> None:
    import transformers

    source = CHATML.replace("'<|im_end|>\\n' }}{% endgeneration %}", "'<|im_end|>' }}{% endgeneration %}{{ '\\n' }}")
    folder = make_tokenizer(chat_template=source)
    expected = transformers.AutoTokenizer.from_pretrained(folder).apply_chat_template(
        [{"role": message.role, "content": message.content} for message in row.messages],
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    encoder = Encoder(folder, source, fast=fast)
    [(ids, mask)] = rows_of(encoder.encode(row))
    assert ids == [*expected["input_ids"], encoder.folder.facts.eod_id]
    assert mask == [*expected["assistant_masks"], int(row.messages[-1].role == "assistant")]


@pytest.fixture(scope="session")
def bpe_folder(bpe: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.json").write_text(bpe)
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}')
    return folder


SHREDS = (
    *("The cheese", "is", " ", "\n", "\n\n", "é", "山", "😀", "\u0301", "\ue000", "<", "|>", '"', "\\"),
    *("<think>", "</think>\n", "/no_think", "[/A]", "<tool_response>"),
    *("<|im_end|>", "<|im_start|>assistant\n", "<|endoftext|>"),
)
contents = st.lists(st.sampled_from(SHREDS), min_size=1, max_size=6).map("".join)
assistants = st.builds(
    Message, st.just("assistant"), contents, name=st.sampled_from([None] * 5 + ["Ada", "<|pad|>"])
) | st.builds(Message, st.just("assistant"), contents, reasoning_content=contents)
turns = st.tuples(st.builds(Message, st.just("user"), contents), assistants)
any_chats = st.builds(
    lambda system, pairs, last: chat(*system, *(message for pair in pairs for message in pair), *last),
    st.lists(st.builds(Message, st.just("system"), contents), max_size=1),
    st.lists(turns, min_size=1, max_size=3),
    st.lists(st.builds(Message, st.just("user"), contents), max_size=1),
)


@pytest.mark.parametrize("cot", ["train", "mask"])
@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES)
@settings(max_examples=25)
@given(data=st.data())
def test_the_fast_way_equals_the_reference(bpe_folder: Path, source: str, cot: Cot, data: st.DataObject) -> None:
    rows = data.draw(st.lists(any_chats, min_size=1, max_size=8))
    fast = Encoder(bpe_folder, source, cot).encode(*rows)
    assert_equal(fast, Encoder(bpe_folder, source, cot, fast=False).encode(*rows))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "source", "last"),
    [
        ("qwen25", QWEN25, "Yo<|im_end|>"),
        ("qwen3", QWEN3, "</think>\n\nYo<|im_end|>"),
        ("llama3", TRIMMED, "Yo<|eot_id|>"),
    ],
)
def test_real_tokenizers(name: str, source: str, last: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    import transformers

    folder = real_tokenizer(name, tmp_path_factory)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    talks = [
        dialogue("Hi", "Yo"),
        dialogue("Which cheese?", "Stilton.", "Why /no_think", "Yo", system="Be brief."),
        dialogue("1", "<think>\nhm é 山\n</think>\n\n2", "3", "<think>\nhm\n</think>\n\nYo"),
        dialogue(" x ", "Yo", "  ", "\n\nYo"),
    ]
    encoder = Encoder(folder, source)
    rows = rows_of(encoder.encode(*talks))
    assert rows == rows_of(Encoder(folder, source, fast=False).encode(*talks))
    for talk, (ids, mask) in zip(talks, rows, strict=True):
        messages = [{"role": message.role, "content": message.content} for message in talk.messages]
        expected = theirs.apply_chat_template(messages, chat_template=source, tokenize=True, return_dict=False)
        assert ids == [*expected, encoder.folder.facts.eod_id]
        produced = encoder.folder.decode(np.array(ids)[np.array(mask) == 1])
        assert produced.removesuffix(encoder.folder.eod_text).endswith(last)
    assert encoder.engine.saw("Stilton.")


def test_contents_alone_are_encoded(make_tokenizer: Any) -> None:
    encoder = Encoder(make_tokenizer())
    encoder.encode(dialogue("Hi", "Yo"))
    encoder.engine.texts.clear()
    encoder.encode(dialogue("Which?", "Stilton."), dialogue("Why?", "Because."))
    assert encoder.engine.texts == ["user\nWhich?", "assistant\nStilton.", "user\nWhy?", "assistant\nBecause."]


@pytest.mark.parametrize(
    ("source", "content", "is_fast"),
    [
        (CHATML, " spaces \n", True),
        (TRIMMED, " spaces \n", False),
        (QWEN3, "\nline", False),
        (CHATML, "a <think> in it", True),
        (QWEN3, "a </think> in it", False),
        (CHATML, " \n", False),
        (CHATML, "a <|im_end|> in it", False),
    ],
)
def test_what_may_change_the_printing_goes_by_the_reference(
    make_tokenizer: Any, source: str, content: str, is_fast: bool
) -> None:
    encoder = Encoder(make_tokenizer(), source)
    encoder.encode(dialogue("Hi", content))
    encoder.encode(dialogue(content, "Yo"))
    assert encoder.engine.saw(content) == is_fast


def test_every_message_field_but_content_and_name_goes_by_the_reference(make_tokenizer: Any) -> None:
    encoder = Encoder(make_tokenizer(), QWEN25)
    call = [{"type": "function", "function": {"name": "look", "arguments": {}}}]
    encoder.encode(
        chat(Message("user", "Hi"), Message("assistant", "slow", tool_calls=call), Message("assistant", "Yo")),
        chat(Message("user", "Hi"), Message("assistant", "slow", tool_call_id="1")),
        chat(Message("user", "Hi"), Message("assistant", "slow"), tools=TOOLS),
    )
    assert not encoder.engine.saw("slow")


def test_chats_with_a_word_that_the_template_looks_for_go_by_the_reference(make_tokenizer: Any) -> None:
    source = "{% if 'cow' in messages[0]['content'] %}[A] {% endif %}" + CHATML
    encoder = Encoder(make_tokenizer(), source)
    encoder.encode(dialogue("Hi", "Yo"))
    assert encoder.one(Message("user", "A cow?"), Message("assistant", "Yo"))[0].startswith("[A] ")


class Faulty(Watched):
    """An engine that errs where there is a cow."""

    def encode(self, texts: Sequence[str], end: int | None = None) -> Ragged:
        return super().encode([text.replace("cow", "bull") for text in texts], end)


def test_an_engine_that_errs_in_chats_is_found_out(make_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "Watched", Faulty)
    encoder = Encoder(make_tokenizer())
    encoder.encode(dialogue("Hi", "Yo"))
    with pytest.raises(Inexact, match="row 3: the fast way"):
        encoder.encode(dialogue("Hi", "A cow."))


def test_a_template_that_escapes_is_not_learned(make_tokenizer: Any) -> None:
    encoder = Encoder(make_tokenizer(), CHATML.replace("message['content']", "message['content'] | tojson"))
    assert encoder.one(Message("user", "Hi"), Message("assistant", '"Yo"'))[1] == '"\\"Yo\\""<|im_end|><|endoftext|>'
    assert not encoder.engine.saw("Yo")


def test_which_chats_are_checked_depends_on_their_ids_alone(
    make_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first of a shape; ``id-147`` is the first id that is one of 512."""
    monkeypatch.setitem(globals(), "Watched", Faulty)
    encoder = Encoder(make_tokenizer())
    encoder.encode(*(dialogue("Hi", "Yo", name="usual") for _ in range(100)))
    encoder.encode(dialogue("Hi", "A cow.", name="usual"))
    with pytest.raises(Inexact):
        encoder.encode(dialogue("Hi", "A cow.", name="id-147"))


def test_special_text_in_a_message_stays_text(make_tokenizer: Any) -> None:
    encoder = Encoder(make_tokenizer())
    [(ids, mask)] = rows_of(encoder.encode(dialogue("<|im_end|> é", "I end <|im_end|> here")))
    text = "<|im_start|>user\n<|im_end|> é<|im_end|>\n<|im_start|>assistant\nI end <|im_end|> here<|im_end|>\n"
    assert encoder.folder.decode(np.array(ids)) == f"{text}<|endoftext|>"
    assert ids.count(encoder.folder.special["<|im_end|>"]) == 2
    targets = np.array(ids)[np.array(mask) == 1]
    assert encoder.folder.decode(targets) == "I end <|im_end|> here<|im_end|><|endoftext|>"


@pytest.mark.parametrize("flags", [{"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"normalized": True}])
def test_where_special_tokens_are_no_borders_their_text_is_refused(make_tokenizer: Any, flags: dict[str, bool]) -> None:
    folder = make_tokenizer()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens([AddedToken("<|odd|>", special=True, **{"normalized": False, **flags})])
    tokenizer.save(str(folder / "tokenizer.json"))
    encoder = Encoder(folder)
    result = encoder.encode(dialogue("Hi", "Yo"), dialogue("Say <|im_end|>", "No"))
    assert len(result.encoded.lengths) == 1
    assert result.rejected[1].reason == "special"
    assert not encoder.engine.saw("Yo")


def test_rejected_chats_leave_the_others_in_order(make_tokenizer: Any) -> None:
    source = CHATML.replace(
        "{% for", "{% if 'bad' in messages[0].content %}{{ raise_exception('no') }}{% endif %}{% for", 1
    )
    encoder = Encoder(make_tokenizer(), source, fast=False)
    good = [dialogue("Hi", "Yo"), dialogue("1", "  one", "2", "two")]
    result = encoder.encode(good[0], dialogue("bad", "Yo"), dialogue("Anyone?", name="lonely"), good[1])
    assert rows_of(result) == [rows_of(encoder.encode(row))[0] for row in good]
    assert {index: error.reason for index, error in result.rejected.items()} == {1: "chat", 2: "untrainable"}
    assert "data.jsonl:row 3: messages: no token of chat 'lonely'" in str(result.rejected[2])


@pytest.mark.parametrize("fast", [True, False])
def test_no_chats(make_tokenizer: Any, fast: bool) -> None:
    result = Encoder(make_tokenizer(), fast=fast).encode()
    assert (len(result.encoded.ids), len(result.encoded.lengths), result.assistant_turns) == (0, 0, 0)


def test_rewritten_turns_are_counted_either_way(make_tokenizer: Any) -> None:
    rows = [dialogue("Hi", "Yo", "?", "!"), dialogue("Hi", "<think>hm</think>Yo", "?", "!")]
    qwen3, thinking = Encoder(make_tokenizer(), QWEN3), Encoder(make_tokenizer("other"), THINKING)
    results = [encoder.encode(*rows) for encoder in (qwen3, thinking)]
    assert [(result.assistant_turns, result.trained_turns) for result in results] == [(4, 2), (4, 3)]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("source", [CHATML, QWEN3, THINKING])
def test_only_the_last_turn_is_trained_when_asked(make_tokenizer: Any, source: str, fast: bool) -> None:
    encoder = Encoder(make_tokenizer(), source, fast=fast, turns="each_by_its_prefix")
    _, targets = encoder.one(*dialogue("Hi", "Yo", "?", "!").messages)
    assert targets.removeprefix("<think>\n\n</think>\n\n") == "!<|im_end|><|endoftext|>"
    result = encoder.encode(dialogue("Hi", "Yo", "?", "!"))
    assert (result.assistant_turns, result.trained_turns) == (1, 1)


@pytest.mark.parametrize("fast", [True, False])
def test_a_token_that_begins_in_the_prompt_is_no_target(make_tokenizer: Any, fast: bool) -> None:
    """The tokenizer merges the prompt's newline with the answer's; after the prompt a model cannot produce that."""
    encoder = Encoder(make_tokenizer(), fast=fast)
    _, targets = encoder.one(Message("user", "Hi"), Message("assistant", "\n\nYo"))
    assert targets == "\nYo<|im_end|><|endoftext|>"


@pytest.mark.parametrize("fast", [True, False])
def test_a_turn_that_ends_with_eod_does_not_end_twice(make_tokenizer: Any, fast: bool) -> None:
    encoder = Encoder(make_tokenizer(eos_token="<|im_end|>"), fast=fast)
    text, targets = encoder.one(*dialogue("Hi", "Yo", "?", "!").messages)
    assert text.endswith("assistant\n!<|im_end|>")
    assert targets == "Yo<|im_end|>!<|im_end|>"


@pytest.mark.parametrize("fast", [True, False])
def test_thoughts_can_be_left_out_of_the_loss(make_tokenizer: Any, fast: bool) -> None:
    encoder = Encoder(make_tokenizer(), cot="mask", fast=fast)
    messages = dialogue("Hi", "<think>\nhm\n</think>\n\nYo").messages
    assert encoder.one(*messages)[1] == "Yo<|im_end|><|endoftext|>"
    assert Encoder(make_tokenizer("other"), fast=fast).one(*messages)[1].startswith("<think>\nhm")
    [error] = encoder.encode(dialogue("Hi", "<think>never closed")).rejected.values()
    assert error.reason == "untrainable"
