"""The tokenizer of a Hugging Face folder: its special tokens, its chat template, and which ids end and pad."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import sha256_of
from tokenization.documents import TokenizerFacts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tokenization.chats.template import ChatTemplate

TOKENIZER, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
_STRANGE = "qxzjvq \u0378\ua66e \U00013000 \U000e0fff"
"""What no vocabulary has in it, but as bytes."""
TOKENS_MAP = "special_tokens_map.json"
TOKEN_FIELDS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TokenizerFolder:
    """The tokenizer of a folder with ``tokenizer.json`` and ``tokenizer_config.json``.

    Attributes:
        path: the folder.
        tokenizer: Hugging Face's, which neither cuts nor pads nor adds tokens.
        special: text to id of the special tokens.
        template: the chat template; None where there is none.
        eod_text: the text of EOD, which is the tokenizer's ``eos_token``.
        unknown_id: stands for text that the tokenizer does not know; None where it never makes this token of a text.
        facts: ids and hashes, for the manifest.

    Raises:
        UserError: a file is missing or damaged, or there is no EOD token.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokenizer = load_tokenizer(path / TOKENIZER)
        names = _token_names(path)
        file, source = _template_source(path)
        self.template = None if source is None else _template(file, source, names)
        self.special = _special_tokens(self.tokenizer)
        eod_id = self._eod(names)
        self.eod_text = names["eos_token"]
        self.unknown_id = self._unknown(names)
        self.facts = TokenizerFacts(
            tokenizer_sha256=sha256_of(path / TOKENIZER),
            template_sha256=None if source is None else hashlib.sha256(source.encode()).hexdigest(),
            vocab_size=_vocab_size(self.tokenizer),
            eod_id=eod_id,
            pad_id=self._pad(names, source or "", eod_id),
        )

    def decode(self, tokens: NDArray[np.integer[Any]]) -> str:
        """The text of tokens, special tokens included."""
        return self.tokenizer.decode(tokens.tolist(), skip_special_tokens=False)

    def _unknown(self, names: Mapping[str, str]) -> int | None:
        """Many byte-level tokenizers name a token that they never use, such as EOD."""
        name = getattr(self.tokenizer.model, "unk_token", None) or names.get("unk_token")
        number = None if name is None else self.tokenizer.token_to_id(name)
        if number is None or number not in self.tokenizer.encode(_STRANGE, add_special_tokens=False).ids:
            return None
        return number

    def _eod(self, names: Mapping[str, str]) -> int:
        path = self.path / CONFIG
        if "eos_token" not in names:
            raise UserError(f"{path}: eos_token: missing, and documents are ended with it; add it")
        eod_id = self.tokenizer.token_to_id(names["eos_token"])
        if eod_id is None:
            raise UserError(
                f"{path}: eos_token: {names['eos_token']!r} is not a token of {TOKENIZER}; name one that is"
            )
        return eod_id

    def _pad(self, names: Mapping[str, str], template: str, eod_id: int) -> int:
        """The pad token, or a special token that the template does not print and texts, unless asked for, cannot hold.

        Where there is none, as in Llama 2, any other token serves, since what is padding is known by its place: the
        unknown token, which texts seldom hold. But the id of EOD, as many tokenizers have it, would look like the end
        of a document: Megatron would then leave the padding in the loss.
        """
        pad_id = self.tokenizer.token_to_id(names["pad_token"]) if "pad_token" in names else None
        if pad_id is not None and pad_id != eod_id:
            return pad_id
        unused = [token for token in self.special if token not in names.values() and token not in template]
        if unused:
            return self.special[min(unused, key=lambda token: ("pad" not in token.lower(), self.special[token]))]
        if self.unknown_id not in (None, eod_id):
            return self.unknown_id
        return min(number for number in self.tokenizer.get_vocab().values() if number != eod_id)


def load_tokenizer(path: Path) -> Tokenizer:
    """A ``tokenizer.json``, which then neither cuts nor pads nor adds tokens.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; give a folder with {TOKENIZER} and {CONFIG} (of a model on the hub: hf download)"
        )
    from tokenizers import Tokenizer  # here, since packing hardly ever needs it

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # broad: the class that tokenizers raises, and no other
        raise UserError(f"{path}: not a Hugging Face tokenizer ({error}); save it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # We add no special tokens; all that is left of a post-processor is that it may trim the space off the offsets.
    tokenizer.post_processor = None
    return tokenizer


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; give a folder with {TOKENIZER} and {CONFIG} (of a model on the hub: hf download)"
        )
    try:
        value = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error}); save the tokenizer again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(value).__name__}; save the tokenizer again")
    return value


def _token_names(folder: Path) -> dict[str, str]:
    """``bos_token`` and so on to the token's text, as transformers takes them from two files.

    Older tokenizers have them in a file of their own, which goes before a config that does not list its added tokens.
    """
    config = _names_in(folder / CONFIG)
    if not (folder / TOKENS_MAP).is_file():
        return config
    own = _names_in(folder / TOKENS_MAP)
    return own | config if "added_tokens_decoder" in _config(folder / CONFIG) else config | own


def _names_in(path: Path) -> dict[str, str]:
    """A token may be written as an object with ``content``."""
    config = _config(path)
    names: dict[str, str] = {}
    for field in TOKEN_FIELDS:
        if (value := config.get(field)) is None:
            continue
        name = value.get("content", value) if isinstance(value, dict) else value
        if not isinstance(name, str):
            raise UserError(
                f"{path}: {field}: expected a string, found {type(name).__name__}; give the text of a token"
            )
        names[field] = name
    return names


def _template_source(folder: Path) -> tuple[Path, str | None]:
    """The chat template and the file that holds it: its own, or the config; None where there is none."""
    path = folder / TEMPLATE
    if path.exists():
        try:
            return path, path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read as UTF-8 text ({error}); save the template again") from error
    source = _config(folder / CONFIG).get("chat_template")
    if isinstance(source, list):  # templates by name
        source = next((named.get("template") for named in source if named.get("name") == "default"), source)
    if source is not None and not isinstance(source, str):
        raise UserError(
            f"{folder / CONFIG}: chat_template: expected a string, or a list with a template named 'default', found "
            f"{type(source).__name__}; keep one of them"
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
    """Text to id of the special tokens."""
    added = tokenizer.get_added_tokens_decoder()
    return {token.content: number for number, token in added.items() if token.special}
