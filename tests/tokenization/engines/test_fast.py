"""The fast engine on small tokenizers of Llama-3's and Qwen's kind; ``test_real_tokenizers.py`` has the large ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from tokenization.engines.fast import FastEngine
from tokenization.engines.reference import ReferenceEngine, compare

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL, THINK = "<|end|>", "<think>"
LEARNED = ["The cheese is on the table. I'll see 1234 of them.\n\n    return x == 12 // 3\n", "étude naïve 山の上"]
WORDS = ["a", "Z", "cheese", " the", "é", "e\u0301", "山", "\u1112\u1161", "\ufeff", "'", "'s", "'LL", "'\u017f"]
OTHERS = ["7", "٣", "½", "😀", "!", "--", "\u0338", "\x00", SPECIAL, THINK, "<|en"]
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
    tokenizer.add_special_tokens([AddedToken(SPECIAL, normalized=False)])
    tokenizer.add_tokens([AddedToken(THINK, normalized=False)])
    return tokenizer


def saved(tokenizer: Tokenizer, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(family(), tmp_path)


def load(path: Path, **options: bool) -> tuple[FastEngine, ReferenceEngine]:
    return FastEngine(path, **options), ReferenceEngine(Tokenizer.from_file(str(path)), **options)


@pytest.fixture(scope="module", params=["llama", "qwen"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FastEngine, ReferenceEngine]:
    qwen = request.param == "qwen"
    pattern = PATTERN.replace("{1,3}", "") if qwen else PATTERN
    return load(saved(family(pattern, normalizer=qwen), tmp_path_factory.mktemp(request.param)))


@given(texts=st.lists(st.lists(st.sampled_from(PIECES) | st.characters(codec="utf-8")).map("".join)))
def test_any_text_has_the_ids_of_the_reference(pair: tuple[FastEngine, ReferenceEngine], texts: list[str]) -> None:
    compare(*pair, texts)


@pytest.mark.parametrize("length", [7, 8, 15, 16, 17, 63, 64, 65, 5_000])
@pytest.mark.parametrize("unit", ["a", "ab", "cheese", "é", "-", "\n", " "])
def test_words_of_every_length(pair: tuple[FastEngine, ReferenceEngine], unit: str, length: int) -> None:
    word = (unit * length)[:length]
    compare(*pair, [word, f"{word} {word}!", f"x{word}"])


def test_a_word_of_a_megabyte(pair: tuple[FastEngine, ReferenceEngine]) -> None:
    """Looking at all pairs for each join would take hours."""
    compare(*pair, ["cheese" * 200_000])


def test_more_words_than_are_remembered(pair: tuple[FastEngine, ReferenceEngine]) -> None:
    words = np.random.default_rng(0).integers(0, 26, (40_000, 6)) + ord("a")
    text = " ".join("".join(map(chr, word)) for word in words)
    compare(*pair, [text, text])


def test_an_end_is_put_after_each_text(pair: tuple[FastEngine, ReferenceEngine]) -> None:
    engine, reference = pair
    ours, theirs = engine.encode(["a cheese", "", "b"], 5), reference.encode(["a cheese", "", "b"], 5)
    assert ours.ids.tolist() == theirs.ids.tolist()
    assert ours.offsets.tolist() == theirs.offsets.tolist()
    assert ours.ids[-1] == 5


def test_a_lone_surrogate_is_an_error(pair: tuple[FastEngine, ReferenceEngine]) -> None:
    with pytest.raises(UnicodeEncodeError):
        pair[0].encode(["\ud800"])


@pytest.mark.parametrize("special_text", [False, True])
def test_added_tokens_are_found_in_text_and_special_tokens_when_asked(path: Path, special_text: bool) -> None:
    engine, reference = load(path, special_text=special_text)
    texts = [f"a{SPECIAL}b{THINK}", THINK, f"{THINK}{THINK} {SPECIAL}", "<think", f"x{SPECIAL[:-1]}"]
    compare(engine, reference, texts)
    number = reference.tokenizer.token_to_id
    ids = engine.encode(texts).ids
    assert number(THINK) in ids
    assert (number(SPECIAL) in ids) == special_text


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
