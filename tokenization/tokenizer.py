"""Documents and chats to token ids and loss masks, with the tokenizer of a Hugging Face folder.

The one danger is control-token text in data. A document that *mentions* ``<|im_end|>`` must not contain the control
token, so documents are encoded as ordinary text. In a chat the template's control tokens must be recognised, and
message and template are one string; so a chat whose messages hold such text is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tokenization.corpus import Chat, Document, Row
from tokenization.documents import TokenizerFacts
from tokenization.errors import BadInput
from tokenization.manifest import sha256_of
from tokenization.template import ChatTemplate, Rendered

TOKENIZER, CONFIG, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
TOKEN_FIELDS = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class Encoded:
    """One document: (length,) int32 token ids, the last one EOD, and (length,) uint8, 1 for a training target."""

    tokens: NDArray[np.int32]
    mask: NDArray[np.uint8]


class DocumentTokenizer:
    """The tokenizer of a folder with ``tokenizer.json`` and ``tokenizer_config.json``.

    Policy: texts are encoded without BOS and end with EOD, the tokenizer's ``eos_token``; chats are what the chat
    template prints, BOS included where it prints one, and end with one EOD too: where the last end of turn is EOD
    itself, what white space the template prints after it is left out.

    Attributes:
        facts: ids and hashes, for the manifest.

    Raises:
        BadInput: a file is missing or damaged, or there is no EOD token, or no token to pad with.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tokenizer = _load(folder / TOKENIZER)
        names = _token_names(folder / CONFIG)
        source = _template_source(folder)
        self._template = None if source is None else ChatTemplate(folder / CONFIG, source, names)
        self._special = _special_tokens(self._tokenizer)
        self._special_text = re.compile("|".join(map(re.escape, self._special)) or r"(?!)")
        eod_id = self._eod(names)
        self._eod_text = names["eos_token"]
        self.facts = TokenizerFacts(
            tokenizer_sha256=sha256_of(folder / TOKENIZER),
            template_sha256=None if source is None else hashlib.sha256(source.encode()).hexdigest(),
            vocab_size=max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1,
            eod_id=eod_id,
            pad_id=self._pad(names, source or "", eod_id),
        )

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Tokens and loss masks of the rows, in their order.

        Raises:
            BadInput: a chat cannot be encoded; names its file, line and field.
        """
        documents = iter(self._documents([row for row in rows if isinstance(row, Document)]))
        chats = iter(self._chats([row for row in rows if isinstance(row, Chat)]))
        return [next(documents if isinstance(row, Document) else chats) for row in rows]

    def decode(self, tokens: NDArray[np.integer[Any]]) -> str:
        """The text of tokens, control tokens included."""
        return self._tokenizer.decode(tokens.tolist(), skip_special_tokens=False)

    def _documents(self, documents: Sequence[Document]) -> list[Encoded]:
        self._tokenizer.encode_special_tokens = True
        texts = [document.text for document in documents]
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        tokens = [np.array([*encoding.ids, self.facts.eod_id], np.int32) for encoding in encodings]
        return [Encoded(ids, np.ones(len(ids), np.uint8)) for ids in tokens]

    def _chats(self, chats: Sequence[Chat]) -> list[Encoded]:
        rendered = [self._render(chat) for chat in chats]
        self._tokenizer.encode_special_tokens = False
        encodings = self._tokenizer.encode_batch([chat.text for chat in rendered], add_special_tokens=False)
        return [
            self._masked(chat, text, encoding.ids, encoding.offsets)
            for chat, text, encoding in zip(chats, rendered, encodings, strict=True)
        ]

    def _render(self, chat: Chat) -> Rendered:
        if self._template is None:
            raise BadInput(f"{self._folder / CONFIG}: chat_template: missing, and {chat.place} is a chat; add one")
        for index, message in enumerate(chat.messages):
            for field, text in (("content", message.content), ("name", message.name or "")):
                if found := self._special_text.search(text):
                    raise BadInput(
                        f"{chat.place}: messages[{index}].{field}: contains the text of the control token "
                        f"{found[0]!r}; remove it"
                    )
        return self._until_eod(self._template.render(chat))

    def _until_eod(self, rendered: Rendered) -> Rendered:
        """Without white space after a last EOD: ``<|im_end|>\\n`` would get a second ``<|im_end|>``, and train it."""
        text = rendered.text.rstrip()
        if not text.endswith(self._eod_text):
            return rendered
        return Rendered(text, tuple((begin, min(end, len(text))) for begin, end in rendered.spans))

    def _masked(self, chat: Chat, rendered: Rendered, ids: list[int], offsets: list[tuple[int, int]]) -> Encoded:
        """A token is a target where its first character is the assistant's."""
        begins = np.array([begin for begin, _ in offsets], np.int64)
        mask = np.zeros(len(ids), np.uint8)
        for begin, end in rendered.spans:
            mask[(begins >= begin) & (begins < end)] = 1
        if not mask.any():
            raise BadInput(f"{chat.place}: messages: no token of chat {chat.id!r} is the assistant's; remove the row")
        tokens = np.array(ids, np.int32)
        if tokens[-1] != self.facts.eod_id:
            tokens = np.append(tokens, np.int32(self.facts.eod_id))
            mask = np.append(mask, np.uint8(chat.messages[-1].role == "assistant"))
        return Encoded(tokens, mask)

    def _eod(self, names: Mapping[str, str]) -> int:
        path = self._folder / CONFIG
        if "eos_token" not in names:
            raise BadInput(f"{path}: eos_token: missing, and documents are ended with it; add it")
        eod_id = self._tokenizer.token_to_id(names["eos_token"])
        if eod_id is None:
            raise BadInput(f"{path}: eos_token: {names['eos_token']!r} is not a token of {TOKENIZER}; name one that is")
        return eod_id

    def _pad(self, names: Mapping[str, str], template: str, eod_id: int) -> int:
        """The pad token, or a control token that no text, chat or document can hold.

        With the id of EOD, as many tokenizers have it, padding could not be told from the end of a document:
        Megatron would then leave the padding in the loss.
        """
        pad_id = self._tokenizer.token_to_id(names["pad_token"]) if "pad_token" in names else None
        if pad_id is not None and pad_id != eod_id:
            return pad_id
        unused = [token for token in self._special if token not in names.values() and token not in template]
        if not unused:
            raise BadInput(
                f"{self._folder / CONFIG}: pad_token: missing or equal to eos_token, and no other control token is "
                "free; add a token of its own to the tokenizer"
            )
        return self._special[min(unused, key=lambda token: ("pad" not in token.lower(), self._special[token]))]


def _load(path: Path) -> Tokenizer:
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give a folder with {TOKENIZER} and {CONFIG}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise BadInput(f"{path}: not a Hugging Face tokenizer ({error}); save it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # We add no special tokens; all that is left of a post-processor is that it may trim the space off the offsets.
    tokenizer.post_processor = None
    return tokenizer


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give a folder with {TOKENIZER} and {CONFIG}")
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


def _template_source(folder: Path) -> str | None:
    """The chat template, of its own file or of the config; None where there is none."""
    path = folder / TEMPLATE
    if path.exists():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: cannot be read as UTF-8 text ({error}); save the template again") from error
    source = _config(folder / CONFIG).get("chat_template")
    if source is not None and not isinstance(source, str):
        raise BadInput(
            f"{folder / CONFIG}: chat_template: expected a string, found {type(source).__name__}; keep one of them"
        )
    return source


def _special_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Text to id of the control tokens."""
    added = tokenizer.get_added_tokens_decoder()
    return {token.content: number for number, token in added.items() if token.special}
