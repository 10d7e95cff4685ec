"""The texts of tokens as the vocabulary writes them are those that the tokenizer's own decoder gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer

from msm_hpc.base.errors import UserError
from tests.tokenization.real_tokenizers import real_tokenizer
from tokenization.packing.token_texts import TokenTexts, token_texts


def both_ways(folder: Path, other: Path) -> tuple[TokenTexts, TokenTexts]:
    """Of all tokens, as a byte-level vocabulary and by the decoder, which a sequence of one decoder leads to."""
    path = folder / "tokenizer.json"
    tokens = np.arange(Tokenizer.from_file(str(path)).get_vocab_size())
    description = json.loads(path.read_text())
    description["decoder"] = {"type": "Sequence", "decoders": [description["decoder"]]}
    (other / "tokenizer.json").write_text(json.dumps(description))
    return token_texts(folder, tokens), token_texts(other, tokens)


def test_a_byte_level_vocabulary(tmp_path: Path, bpe: str) -> None:
    tokenizer = Tokenizer.from_str(bpe)
    tokenizer.add_tokens([AddedToken("two words é 山")])
    folders = tmp_path / "byte-level", tmp_path / "sequence"
    for folder in folders:
        folder.mkdir()
    tokenizer.save(str(folders[0] / "tokenizer.json"))
    read, decoded = both_ways(*folders)
    assert read.texts == decoded.texts
    assert read.inside.tolist() == decoded.inside.tolist()
    assert " " in read.texts and read.texts[-1] == "two words é 山"
    assert read.inside.sum() == 64, "the bytes 80 to BF"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama3", "qwen3"])
def test_vocabularies_that_people_use(name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    read, decoded = both_ways(real_tokenizer(name, tmp_path_factory), tmp_path)
    assert read.texts == decoded.texts
    assert read.inside.tolist() == decoded.inside.tolist()


@pytest.mark.parametrize("text", ["{", "[]", '{"decoder": {"type": "ByteLevel"}, "model": {"vocab": []}}'])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"tokenizer\.json: not a Hugging Face tokenizer"):
        token_texts(tmp_path, np.arange(3))
