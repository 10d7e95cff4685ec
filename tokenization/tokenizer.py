"""The tokenizer of a Hugging Face folder: its control tokens, its chat template, and which ids end and pad."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tokenization.documents import TokenizerFacts
from tokenization.errors import BadInput
from tokenization.manifest import sha256_of
from tokenization.tokenizer_file import CONFIG, TOKENIZER, load_tokenizer

if TYPE_CHECKING:
    from tokenization.chats.template import ChatTemplate

TEMPLATE = "chat_template.jinja"
TOKEN_FIELDS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TokenizerFolder:
    """The tokenizer of a folder with ``tokenizer.json`` and ``tokenizer_config.json``.

    Attributes:
        path: the folder.
        tokenizer: Hugging Face's, which neither cuts nor pads nor adds tokens.
        special: text to id of the control tokens.
        template: the chat template; None where there is none.
        eod_text: the text of EOD, which is the tokenizer's ``eos_token``.
        unknown_id: stands for words that the tokenizer does not know; None where it knows every text.
        facts: ids and hashes, for the manifest.

    Raises:
        BadInput: a file is missing or damaged, or there is no EOD token, or no token to pad with.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokenizer = load_tokenizer(path / TOKENIZER)
        names = _token_names(path / CONFIG)
        file, source = _template_source(path)
        self.template = None if source is None else _template(file, source, names)
        self.special = _special_tokens(self.tokenizer)
        eod_id = self._eod(names)
        self.eod_text = names["eos_token"]
        self.unknown_id = self.tokenizer.token_to_id(names["unk_token"]) if "unk_token" in names else None
        self.facts = TokenizerFacts(
            tokenizer_sha256=sha256_of(path / TOKENIZER),
            template_sha256=None if source is None else hashlib.sha256(source.encode()).hexdigest(),
            vocab_size=_vocab_size(self.tokenizer),
            eod_id=eod_id,
            pad_id=self._pad(names, source or "", eod_id),
        )

    def decode(self, tokens: NDArray[np.integer[Any]]) -> str:
        """The text of tokens, control tokens included."""
        return self.tokenizer.decode(tokens.tolist(), skip_special_tokens=False)

    def _eod(self, names: Mapping[str, str]) -> int:
        path = self.path / CONFIG
        if "eos_token" not in names:
            raise BadInput(f"{path}: eos_token: missing, and documents are ended with it; add it")
        eod_id = self.tokenizer.token_to_id(names["eos_token"])
        if eod_id is None:
            raise BadInput(f"{path}: eos_token: {names['eos_token']!r} is not a token of {TOKENIZER}; name one that is")
        return eod_id

    def _pad(self, names: Mapping[str, str], template: str, eod_id: int) -> int:
        """The pad token, or a control token that the template does not print and texts, unless asked for, cannot hold.

        With the id of EOD, as many tokenizers have it, padding could not be told from the end of a document:
        Megatron would then leave the padding in the loss.
        """
        pad_id = self.tokenizer.token_to_id(names["pad_token"]) if "pad_token" in names else None
        if pad_id is not None and pad_id != eod_id:
            return pad_id
        unused = [token for token in self.special if token not in names.values() and token not in template]
        if not unused:
            raise BadInput(
                f"{self.path / CONFIG}: pad_token: missing or equal to eos_token, and no other control token is "
                "free; add a token of its own to the tokenizer"
            )
        return self.special[min(unused, key=lambda token: ("pad" not in token.lower(), self.special[token]))]


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(
            f"{path}: no such file; give a folder with {TOKENIZER} and {CONFIG} (of a model on the hub: hf download)"
        )
    try:
        value = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise BadInput(f"{path}: not valid JSON ({error}); save the tokenizer again") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path}: expected a JSON object, found {type(value).__name__}; save the tokenizer again")
    return value


def _token_names(path: Path) -> dict[str, str]:
    """``bos_token`` and so on to the token's text; a token may be written as an object with ``content``."""
    config = _config(path)
    names: dict[str, str] = {}
    for field in TOKEN_FIELDS:
        if (value := config.get(field)) is None:
            continue
        name = value.get("content", value) if isinstance(value, dict) else value
        if not isinstance(name, str):
            raise BadInput(f"{path}: {field}: expected a string, found {type(name).__name__}; give the text of a token")
        names[field] = name
    return names


def _template_source(folder: Path) -> tuple[Path, str | None]:
    """The chat template and the file that holds it: its own, or the config; None where there is none."""
    path = folder / TEMPLATE
    if path.exists():
        try:
            return path, path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: cannot be read as UTF-8 text ({error}); save the template again") from error
    source = _config(folder / CONFIG).get("chat_template")
    if source is not None and not isinstance(source, str):
        raise BadInput(
            f"{folder / CONFIG}: chat_template: expected a string, found {type(source).__name__}; keep one of them"
        )
    return folder / CONFIG, source


def _template(file: Path, source: str, names: Mapping[str, str]) -> ChatTemplate:
    # Imported here: without a template a task starts without Jinja.
    from tokenization.chats.template import ChatTemplate

    return ChatTemplate(file, source, names)


def _vocab_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id; ids may have gaps, but to make a dict of all tokens takes long."""
    count: int = tokenizer.get_vocab_size()
    if None not in map(tokenizer.id_to_token, range(count)):
        return count
    return max(tokenizer.get_vocab().values()) + 1


def _special_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Text to id of the control tokens."""
    added = tokenizer.get_added_tokens_decoder()
    return {token.content: number for number, token in added.items() if token.special}
