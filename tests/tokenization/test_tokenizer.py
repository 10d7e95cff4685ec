import json
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from msm_hpc.base.errors import UserError
from tokenization.tokenizer import TokenizerFolder


def test_what_the_tokenizer_would_add_or_cut_is_left_out(make_tokenizer: Any) -> None:
    folder = make_tokenizer()
    plain = TokenizerFolder(folder).tokenizer.encode("Which cheese do you like?").ids
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing("<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert TokenizerFolder(folder).tokenizer.encode("Which cheese do you like?").ids == plain


def test_special_tokens_are_decoded_too(make_tokenizer: Any) -> None:
    folder = TokenizerFolder(make_tokenizer())
    assert folder.decode(np.array([folder.facts.eod_id, folder.special["<|im_end|>"]])) == "<|endoftext|><|im_end|>"


def test_the_template_may_have_its_own_file(make_tokenizer: Any) -> None:
    folder = make_tokenizer(chat_template=None)
    assert TokenizerFolder(folder).template is None
    without = TokenizerFolder(folder).facts.template_sha256
    (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message['content'] }}|{% endfor %}")
    assert without is None
    assert TokenizerFolder(folder).template is not None
    assert TokenizerFolder(folder).facts.template_sha256 is not None


def test_a_syntax_error_is_said_of_the_file_that_has_it(make_tokenizer: Any) -> None:
    folder = make_tokenizer(chat_template=None)
    (folder / "chat_template.jinja").write_text("{% if %}")
    with pytest.raises(UserError, match=r"chat_template\.jinja: .*line 1"):
        TokenizerFolder(folder)


def test_a_template_file_that_is_no_text_is_refused(make_tokenizer: Any) -> None:
    path = make_tokenizer() / "chat_template.jinja"
    path.write_bytes(b"{{ messages }}\xff")
    with pytest.raises(UserError, match=r"chat_template\.jinja: cannot be read as UTF-8 text"):
        TokenizerFolder(path.parent)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"chat_template\.jinja: cannot be read as UTF-8 text"):
        TokenizerFolder(path.parent)


@pytest.mark.parametrize("pad", ["<|pad|>", "<|endoftext|>", None, {"content": "<|pad|>"}])
def test_padding_is_never_eod(make_tokenizer: Any, pad: Any) -> None:
    folder = make_tokenizer(pad_token=pad)
    facts = TokenizerFolder(folder).facts
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert facts.eod_id == reference.token_to_id("<|endoftext|>")
    assert facts.pad_id == reference.token_to_id("<|pad|>")
    assert facts.vocab_size == reference.get_vocab_size()


def test_padding_is_no_token_that_a_chat_can_hold(make_tokenizer: Any) -> None:
    """Without ``<|pad|>`` the other special tokens are EOD and those that the template prints."""
    folder = make_tokenizer(pad_token=None)
    path = folder / "tokenizer.json"
    description = json.loads(path.read_text())
    description["added_tokens"] = [token for token in description["added_tokens"] if token["content"] != "<|pad|>"]
    path.write_text(json.dumps(description))
    facts = TokenizerFolder(folder).facts
    tokens = {token["content"]: token["id"] for token in description["added_tokens"]}
    assert facts.pad_id == min(set(range(facts.vocab_size)) - {tokens["<|endoftext|>"]}), (
        "none is left but ordinary ones"
    )
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "unk_token": "<|im_start|>"}))
    assert TokenizerFolder(folder).facts.pad_id == tokens["<|im_start|>"], "the unknown token, as Llama 2's"


def test_special_tokens_may_be_named_in_a_file_of_their_own(make_tokenizer: Any) -> None:
    folder = make_tokenizer(eos_token=None)
    (folder / "special_tokens_map.json").write_text('{"eos_token": {"content": "<|im_end|>"}, "pad_token": "<|pad|>"}')
    assert TokenizerFolder(folder).eod_text == "<|im_end|>"
    config = folder / "tokenizer_config.json"
    fields = {**json.loads(config.read_text()), "eos_token": "<|endoftext|>"}
    config.write_text(json.dumps(fields))
    assert TokenizerFolder(folder).eod_text == "<|im_end|>"
    config.write_text(json.dumps({**fields, "added_tokens_decoder": {}}))
    assert TokenizerFolder(folder).eod_text == "<|endoftext|>", "as transformers has it"


def test_of_templates_by_name_the_default_is_taken(make_tokenizer: Any) -> None:
    named = [{"name": "tool_use", "template": "{{ x }}"}, {"name": "default", "template": "{{ messages }}"}]
    template = TokenizerFolder(make_tokenizer(chat_template=named)).template
    assert template is not None and template.source == "{{ messages }}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eos_token": None}, "eos_token: missing"),
        ({"eos_token": "</s>"}, "eos_token: '</s>' is not a token"),
        ({"eos_token": 3}, "eos_token: expected a string, found int"),
        ({"eos_token": {}}, "eos_token: expected a string, found dict"),
        ({"pad_token": {"content": None}}, "pad_token: expected a string, found NoneType"),
        ({"chat_template": [{"name": "rag", "template": ""}]}, "chat_template: expected a string, or .* found list"),
        ({"chat_template": 3}, "chat_template: expected a string, or .* found int"),
        ({"chat_template": "{% if %}"}, "chat_template: line 1"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(make_tokenizer: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"tokenizer_config\.json: {message}"):
        TokenizerFolder(make_tokenizer(**changes))


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(("text", "message"), [(None, "no such file"), ("{", "not (valid JSON|a Hugging Face)")])
def test_a_damaged_folder_is_refused(make_tokenizer: Any, name: str, text: str | None, message: str) -> None:
    path = make_tokenizer() / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=f"{name}: {message}"):
        TokenizerFolder(path.parent)
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        TokenizerFolder(path.parent)
