"""Our own engine on a small tokenizer of the family; ``test_real_tokenizers.py`` has the large ones."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unicodedata import is_normalized

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from tokenization.engines import bpe
from tokenization.engines.bpe import BpeEngine, load_bpe
from tokenization.engines.choice import choose
from tokenization.engines.reference import Inexact, ReferenceEngine, compare
from tokenization.engines.tables import Unsupported, read_tables

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL, THINK = "<|end|>", "<think>"
LEARNED = ["The cheese is on the table. I'll see 1234 of them.\n\n    return x == 12 // 3\n", "étude naïve 山の上"]
WORDS = ["a", "Z", "cheese", " the", "é", "e\u0301", "山", "\u1112\u1161", "\ufeff", "'", "'s", "'LL", "'\u017f"]
OTHERS = ["7", "٣", "½", "😀", "!", "--", "\u0338", "\x00", CONTROL, THINK, "<|en"]
SPACES = [" ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u2003"]
PIECES = [*WORDS, *OTHERS, *SPACES]


def family(pattern: str = PATTERN, normalizer: bool = False, **model: Any) -> Tokenizer:
    """A small tokenizer as Llama-3 (or, with a normalizer, Qwen) has it."""
    tokenizer = Tokenizer(models.BPE(**model))
    splits = [
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)  # type: ignore[assignment]
    if normalizer:
        tokenizer.normalizer = normalizers.NFC()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=360, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(LEARNED * 5, trainer)
    tokenizer.add_special_tokens([AddedToken(CONTROL, normalized=False)])
    tokenizer.add_tokens([AddedToken(THINK, normalized=False)])
    return tokenizer


def saved(tokenizer: Tokenizer, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "msm_hpc" / "bpe"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(family(), tmp_path)


def load(path: Path, **options: bool) -> tuple[BpeEngine, ReferenceEngine]:
    tokenizer = Tokenizer.from_file(str(path))
    return load_bpe(path, tokenizer, [CONTROL], **options), ReferenceEngine(tokenizer, **options)


@pytest.fixture(scope="module", params=["llama", "qwen"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[BpeEngine, ReferenceEngine]:
    qwen = request.param == "qwen"
    pattern = PATTERN.replace("{1,3}", "") if qwen else PATTERN
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        return load(saved(family(pattern, normalizer=qwen), folder))


@given(texts=st.lists(st.lists(st.sampled_from(PIECES) | st.characters(codec="utf-8")).map("".join)))
def test_any_text_has_the_ids_of_the_reference(pair: tuple[BpeEngine, ReferenceEngine], texts: list[str]) -> None:
    compare(*pair, texts)


@pytest.mark.parametrize("length", [7, 8, 15, 16, 17, 63, 64, 65, 5_000])
@pytest.mark.parametrize("unit", ["a", "ab", "cheese", "é", "-", "\n", " "])
def test_words_of_every_length(pair: tuple[BpeEngine, ReferenceEngine], unit: str, length: int) -> None:
    word = (unit * length)[:length]
    compare(*pair, [word, f"{word} {word}!", f"x{word}"])


def test_a_word_of_a_megabyte(pair: tuple[BpeEngine, ReferenceEngine]) -> None:
    """Looking at all pairs for each join would take hours."""
    compare(*pair, ["cheese" * 200_000])


def test_more_words_than_are_remembered(pair: tuple[BpeEngine, ReferenceEngine]) -> None:
    words = np.random.default_rng(0).integers(0, 26, (40_000, 6)) + ord("a")
    text = " ".join("".join(map(chr, word)) for word in words)
    compare(*pair, [text, text])


def test_an_end_is_put_after_each_text(pair: tuple[BpeEngine, ReferenceEngine]) -> None:
    engine, reference = pair
    ours, theirs = engine.encode(["a cheese", "", "b"], 5), reference.encode(["a cheese", "", "b"], 5)
    assert ours.ids.tolist() == theirs.ids.tolist()
    assert ours.offsets.tolist() == theirs.offsets.tolist()
    assert ours.ids[-1] == 5


def test_a_lone_surrogate_is_an_error(pair: tuple[BpeEngine, ReferenceEngine]) -> None:
    with pytest.raises(UnicodeEncodeError):
        pair[0].encode(["\ud800"])


@pytest.mark.parametrize("control_text", [False, True])
def test_added_tokens_are_found_in_text_and_control_tokens_when_asked(path: Path, control_text: bool) -> None:
    engine, reference = load(path, control_text=control_text)
    texts = [f"a{CONTROL}b{THINK}", THINK, f"{THINK}{THINK} {CONTROL}", "<think", f"x{CONTROL[:-1]}"]
    compare(engine, reference, texts)
    number = reference.tokenizer.token_to_id
    ids = engine.encode(texts).ids
    assert number(THINK) in ids
    assert (number(CONTROL) in ids) == control_text


def test_a_token_that_no_merges_lead_to(tmp_path: Path) -> None:
    """Llama-3 takes a word that is a token at once (``ignore_merges``)."""
    path = saved(family(), tmp_path)
    file = json.loads(path.read_text())
    file["model"]["ignore_merges"] = True
    token = max((token for token in file["model"]["vocab"] if token.isascii() and token.isalpha()), key=len)
    file["model"]["merges"] = [pair for pair in file["model"]["merges"] if "".join(pair) != token]
    path.write_text(json.dumps(file))
    engine, reference = load(path)
    compare(engine, reference, [token, f" {token}", f"a {token}", token * 2])
    assert engine.encode([token]).ids.tolist() == [file["model"]["vocab"][token]]


def test_tables_are_made_once(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(path)
    (kept,) = cache.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o644, "colleagues may share the folder"
    monkeypatch.setattr(bpe, "read_tables", _forbidden)
    compare(*load(path), LEARNED)


def _forbidden(path: Path) -> None:
    raise AssertionError(f"{path} is read again")


def _shorten(data: bytes) -> bytes:
    return data[:-100]


def _flipped(place: float) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        byte = int(place * (len(data) - 1))
        return data[:byte] + bytes([data[byte] ^ 1]) + data[byte + 1 :]

    return flip


@pytest.mark.parametrize("damage", [_shorten, *map(_flipped, [0, 0.00001, 0.5, 1]), lambda data: b""])
def test_damaged_tables_are_made_again(path: Path, cache: Path, damage: Callable[[bytes], bytes]) -> None:
    load(path)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    compare(*load(path), LEARNED)
    assert len(kept.read_bytes()) == len(whole), "and kept again"


def test_a_cache_that_cannot_be_written_is_done_without(path: Path, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    compare(*load(path), LEARNED)


def test_a_user_without_a_home_has_no_cache(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    compare(*load(path), LEARNED)


def test_other_control_tokens_are_proved_anew(path: Path, cache: Path) -> None:
    load(path)
    load_bpe(path, Tokenizer.from_file(str(path)), [])
    load(path, control_text=True)
    assert len(list(cache.iterdir())) == 3


def test_a_tokenizer_that_was_changed_has_tables_of_its_own(path: Path, cache: Path) -> None:
    load(path)
    changed = Tokenizer.from_file(str(path))
    changed.add_tokens(["cheese"])
    changed.save(str(path))
    os.utime(path)
    compare(*load(path), ["a cheese"])
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}}, "its pre-tokenizer is not that of Llama"),
        ({"normalizer": {"type": "Lowercase"}}, "its normalizer is not NFC"),
        ({"pre_tokenizer": None}, "its pre-tokenizer is not that of Llama"),
        ({"model": {"type": "Unigram"}}, "model.type is 'Unigram'"),
        ({"model": {"vocab": {}, "merges": []}}, "model.type is None"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, "byte 0 has no token"),
    ],
)
def test_another_family_is_told_by_what_differs(path: Path, change: dict[str, Any], message: str) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(Unsupported, match=message):
        read_tables(path)


@pytest.mark.parametrize(
    ("added", "normalizer", "message"),
    [
        ([AddedToken("<mask>", lstrip=True)], False, "'<mask>' takes more than its own text"),
        ([AddedToken("end", normalized=False)], False, r"'<\|end\|>' and 'end' overlap"),
        ([AddedToken("|>!", normalized=False)], False, r"'<\|end\|>' and '\|>!' overlap"),
        ([AddedToken("<think>\n", normalized=True)], False, r"'<think>' and '<think>\\n' overlap"),
        ([AddedToken("<x>", normalized=True)], True, "'<x>' is not told from text before normal form C"),
        ([AddedToken("[MASK]", normalized=False)], True, r"'\[MASK\]' is not told from text"),
        ([AddedToken("é", normalized=False)], True, "'é' is not told from text"),
    ],
)
def test_added_tokens_that_the_reference_finds_in_other_ways(
    tmp_path: Path, added: list[AddedToken], normalizer: bool, message: str
) -> None:
    tokenizer = family(normalizer=normalizer)
    tokenizer.add_tokens(added)
    with pytest.raises(Unsupported, match=message):
        load(saved(tokenizer, tmp_path))


def test_a_file_without_a_normalizer_and_with_a_version_among_its_merges(path: Path) -> None:
    file = json.loads(path.read_text())
    del file["normalizer"]
    file["model"]["merges"] = ["#version: 0.2", *map(" ".join, file["model"]["merges"])]
    path.write_text(json.dumps(file))
    compare(*load(path), LEARNED)


def test_where_it_was_not_compiled_another_is_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer.from_file(str(path))
    assert choose(path, tokenizer, 1 << 30, [CONTROL]).engine.name == bpe.NAME
    monkeypatch.setitem(sys.modules, "tokenization.engines._bpe", None)  # an import then fails
    choice = choose(path, tokenizer, 1 << 30, [CONTROL])
    assert choice.engine.name.startswith("fastokens ")
    with pytest.raises(Unsupported, match=r"not compiled for this machine"):
        load(path)


@pytest.mark.parametrize("change", [{"digits": 1}, {"merges": np.zeros((0, 3), np.int32)}])
def test_what_differs_from_the_reference_is_not_taken(
    path: Path, cache: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, vocabulary = read_tables(path)
    monkeypatch.setattr(bpe, "read_tables", lambda path: (replace(tables, **change), vocabulary))
    with pytest.raises(Inexact, match="differs from tokenizers"):
        load(path)
    assert not cache.exists()


@given(text=st.text(st.sampled_from(PIECES).map(lambda piece: piece[-1]) | st.characters(codec="utf-8")))
def test_a_text_without_a_marked_character_is_in_normal_form_c(marks: NDArray[np.uint8], text: str) -> None:
    assert is_normalized("NFC", text) or any(marks[ord(character)] for character in text)


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.uint8]:
    tables, _ = read_tables(saved(family(), tmp_path_factory.mktemp("marks")))
    return tables.kinds & 0x80


def test_ordinary_characters_are_not_marked(marks: NDArray[np.uint8]) -> None:
    """Else every text would be looked at twice."""
    assert not any(marks[ord(character)] for character in "abc é ß \u2013 “” 山の上 한국어 Привет 😀 ½")
    assert all(marks[ord(character)] for character in "\u0301\u212a\u1161\u0378")
