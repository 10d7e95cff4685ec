from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from msm_hpc.base.errors import UserError
from tests.tokenization.corpus_rows import chat, document
from tokenization import train
from tokenization.encoder import RowEncoder
from tokenization.reading.corpus import Corpus
from tokenization.tokenizer import TokenizerFolder
from tokenization.train import TokenizerConfig, TokenizerInputs

ROWS = [document("d", "The cheese is on the table. " * 20), chat("c", "Which cheese? 山", "Stilton, on the table.")]


def test_a_tokenizer_of_ones_own_texts_knows_them_and_every_other(write_corpus: Any, tmp_path: Path) -> None:
    corpus = write_corpus(ROWS)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        train.run(TokenizerConfig(vocabulary=300), TokenizerInputs(corpora={"own": corpus}), tmp_path / name)
    tokenizer = TokenizerFolder(tmp_path / "one")
    assert (tmp_path / "one" / "tokenizer.json").read_bytes() == (tmp_path / "two" / "tokenizer.json").read_bytes()
    assert tokenizer.facts.vocab_size <= 300
    assert tokenizer.unknown_id is None
    assert len(tokenizer.tokenizer.encode(" cheese").ids) == 1
    (rows,) = Corpus.open(corpus).share(0, 1).batches()
    encoded = RowEncoder(tokenizer, 0).encode([row for row in rows if not isinstance(row, UserError)])
    assert not encoded.rejected
    assert (encoded.assistant_turns, encoded.trained_turns) == (1, 1)
    text = "Ünknown 漢字 \U0001f9c0\n"
    opened = AutoTokenizer.from_pretrained(tmp_path / "one")
    assert opened.decode(opened(text)["input_ids"]) == text


def test_a_vocabulary_holds_every_byte() -> None:
    with pytest.raises(UserError, match="vocabulary is 100: it must be at least 260"):
        TokenizerConfig(vocabulary=100)
