"""The fast engine and the reference agree on the tokenizers that people use; and both agree with tiktoken."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.tokenization.real_tokenizers import RECIPES, build, read_ranks, real_tokenizer
from tokenization.engines.fast import FastEngine
from tokenization.engines.reference import Engine, ReferenceEngine, compare

CODE = """\
def f(x):\r\n\tif x >= 10 and not y:\n\t\treturn {"a": [1, 22, 333, 4444]}  # it's 3.14e-9\n\n\n
<p class='x'>a&amp;b</p>\n// ==== \\\\ ____ ----->>>\n#include <stdio.h>\nx+=1;;\n
"""
WORDS = [
    "I'm you'RE WE'LL don'T it'S he'd 'tis ''s o'\u2019s",
    "e\u0301 \u1112\u1161\u11ab ﬁ Å Ω ǅ ß İ \u0131 \ufeff\u200b\ufffd\x00\x7f",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 機械学習。東京に行きました。 한국어 ไทย हिन्दी עברית العربية",
    "a" * 3000 + " " + "é" * 999 + "山" * 500,
    CODE,
]
SPACES = [
    f"x{space * count}{end}"
    for space in (" ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u0085", "\u2028", " \n", "\n ")
    for count in (1, 2, 3, 8, 100)
    for end in ("", "y", "\n", "!", "7")
]


@pytest.fixture(scope="module", params=RECIPES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_tokenizer(name, tmp_path_factory)


@pytest.fixture(scope="module")
def reference(folder: Path) -> ReferenceEngine:
    return ReferenceEngine(Tokenizer.from_file(str(folder / "tokenizer.json")))


@pytest.fixture(scope="module")
def fast(folder: Path) -> Engine:
    return FastEngine(folder / "tokenizer.json")


def test_the_vocabulary_has_the_published_size_and_ids(name: str, folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    sizes = {"llama3": 128_256, "qwen25": 151_665, "qwen3": 151_669}
    last = {
        "llama3": ("<|eot_id|>", 128_009),
        "qwen25": ("<|file_sep|>", 151_664),
        "qwen3": ("</think>", 151_668),
    }
    text, number = last[name]
    assert tokenizer.get_vocab_size() == sizes[name]
    assert tokenizer.token_to_id(text) == number


def test_building_twice_keeps_the_first(name: str, folder: Path) -> None:
    before = (folder / "tokenizer.json").stat()
    assert build(name, folder) == folder
    assert (folder / "tokenizer.json").stat() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama3", "qwen3"], indirect=True)  # Qwen2.5's ranks and pattern are Qwen3's
def test_every_code_point_has_the_same_ids(fast: Engine, reference: ReferenceEngine) -> None:
    for points in _blocks(4096):
        characters = [chr(point) for point in points]
        texts = [f"{c}b a{c} {c}{c}1" for c in characters]
        # Nine in ten blocks hold no character at all. The patterns take their points to be alike, so that only the
        # bytes differ: each stands once, between others of the block, which takes a fifth of the time.
        if {unicodedata.category(c) for c in characters} <= {"Cn", "Co"}:
            texts = [*texts[:16], *("".join(characters[at : at + 16]) for at in range(0, len(characters), 16))]
        compare(fast, reference, texts)


@pytest.mark.slow
def test_hard_text_has_the_same_ids(fast: Engine, reference: ReferenceEngine) -> None:
    runs = ["".join(map(chr, points)) for points in _blocks(61)]
    decomposed = [unicodedata.normalize("NFD", run) for run in runs[:700]]
    compare(fast, reference, [*WORDS, *SPACES, *runs, *decomposed])


def test_text_of_special_tokens_is_text(name: str, folder: Path, fast: Engine, reference: ReferenceEngine) -> None:
    special = RECIPES[name].special
    texts = [*special, *(f"a{text}b {text}\n" for text in special), "".join(special), *(text[:-1] for text in special)]
    compare(fast, reference, texts)
    first = len(read_ranks(_ranks(name)))
    assert fast.encode(texts).ids.max() < first


def test_ids_are_those_of_tiktoken(name: str, fast: Engine) -> None:
    import tiktoken

    recipe = RECIPES[name]
    encoding = tiktoken.Encoding(
        name, pat_str=recipe.pattern, mergeable_ranks=read_ranks(_ranks(name)), special_tokens={}
    )
    # tiktoken knows no normal form C, which Qwen's tokenizer brings text to first.
    texts = [unicodedata.normalize("NFC", text) for text in [*WORDS, *SPACES, *recipe.special]]
    texts += [
        text for text in ("".join(map(chr, points)) for points in _blocks(61)) if unicodedata.is_normalized("NFC", text)
    ]
    encoded = fast.encode(texts)
    for index, text in enumerate(texts):
        assert encoded[index].tolist() == encoding.encode_ordinary(text), text


def _ranks(name: str) -> Path:
    path = RECIPES[name].ranks()
    assert path is not None
    return path


def _blocks(length: int) -> Iterator[list[int]]:
    """All code points but the surrogates, in blocks."""
    points = [point for point in range(sys.maxunicode + 1) if not 0xD800 <= point < 0xE000]
    return (points[start : start + length] for start in range(0, len(points), length))
