from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from msm_hpc.base.errors import UserError
from tests.tokenization.conftest import SPECIAL
from tests.tokenization.corpus_rows import chat
from tokenization.encoder import RowEncoder
from tokenization.reading.rows import ChatRow, DocumentRow, Message, Row, RowPlace
from tokenization.tokenizer import TokenizerFolder

PLACE = RowPlace("data.jsonl", 2)
MUCH = 1 << 30


def text(words: str) -> Row:
    return DocumentRow("d", words, b"{}", PLACE)


def talk(*turns: str) -> Row:
    return ChatRow("c", [Message(**message) for message in chat("c", *turns)["messages"]], None, b"{}", PLACE)


ROWS = [text("first é"), talk("Hi", "Yo"), text("I end <|im_end|> here"), talk("Hi", "Yo", "So?", "So."), text("last")]


@pytest.fixture
def folder(make_tokenizer: Any) -> TokenizerFolder:
    return TokenizerFolder(make_tokenizer())


def lists(encoder: RowEncoder, rows: list[Row]) -> list[tuple[list[int], list[int]]]:
    """Tokens and mask of each document."""
    encoded = encoder.encode(rows).encoded
    ends = np.cumsum(encoded.lengths)
    mask = np.ones(len(encoded.ids), np.uint8) if encoded.mask is None else encoded.mask
    spans = [slice(end - length, end) for end, length in zip(ends.tolist(), encoded.lengths.tolist(), strict=True)]
    return [(encoded.ids[span].tolist(), mask[span].tolist()) for span in spans]


def test_a_document_is_its_text_and_eod(folder: TokenizerFolder) -> None:
    words = "Which cheese do you like? é 山\n"
    reference = Tokenizer.from_file(str(folder.path / "tokenizer.json"))
    expected = [*reference.encode(words).ids, folder.facts.eod_id]
    assert lists(RowEncoder(folder, MUCH), [text(words)]) == [(expected, [1] * len(expected))]


def test_special_text_in_a_document_stays_text_unless_asked(folder: TokenizerFolder) -> None:
    special = {folder.special[name] for name in SPECIAL}
    words = "Say <|im_end|> and <|endoftext|>"
    [(ids, _)] = lists(RowEncoder(folder, 0), [text(words)])
    assert special.isdisjoint(ids[:-1])
    assert folder.decode(np.array(ids[:-1])) == words
    [(ids, _)] = lists(RowEncoder(folder, 0, special_text=True), [text(words)])
    assert ids[-2:] == [folder.facts.eod_id] * 2


@pytest.mark.parametrize("corpus_bytes", [0, MUCH])
def test_rows_come_back_in_order(folder: TokenizerFolder, corpus_bytes: int) -> None:
    encoder = RowEncoder(folder, corpus_bytes)
    assert lists(encoder, ROWS) == [lists(encoder, [row])[0] for row in ROWS]
    assert encoder.encode(ROWS).is_chat.tolist() == [False, True, False, True, False]
    assert len(encoder.encode([]).encoded.ids) == 0


def test_a_chat_that_cannot_be_used_is_left_out_and_named(folder: TokenizerFolder) -> None:
    encoder = RowEncoder(folder, 0)
    rows = [ROWS[0], talk("Anyone?"), ROWS[1]]
    encoded = encoder.encode(rows)
    assert list(encoded.rejected) == [1]
    assert str(encoded.rejected[1]).startswith("data.jsonl:2: messages: ")
    assert encoded.is_chat.tolist() == [False, True]
    assert lists(encoder, rows) == lists(encoder, [ROWS[0], ROWS[1]])


def test_the_engine_is_recorded(folder: TokenizerFolder) -> None:
    assert RowEncoder(folder, MUCH).engine.name.startswith("fastokens")
    slow = RowEncoder(folder, MUCH, why_slow="asked to").engine
    assert slow.name.startswith("tokenizers ")
    assert slow.why_not_fast == "asked to"
    assert lists(RowEncoder(folder, MUCH, why_slow="asked to"), ROWS) == lists(RowEncoder(folder, MUCH), ROWS)


def test_a_chat_needs_a_template(make_tokenizer: Any) -> None:
    folder = TokenizerFolder(Path(make_tokenizer(chat_template=None)))
    assert lists(RowEncoder(folder, 0), [text("A document does not.")])
    with pytest.raises(UserError, match=r"chat_template: missing, and data\.jsonl:2 is a chat"):
        RowEncoder(folder, 0).encode([ROWS[1]])
