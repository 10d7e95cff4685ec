import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from tests.tokenization.conftest import SPECIAL
from tokenization.encoded import Ragged
from tokenization.engines import choice as module
from tokenization.engines.choice import ChosenEngine, choose
from tokenization.engines.fast import FastEngine
from tokenization.engines.hard_sample import hard_sample
from tokenization.engines.reference import ReferenceEngine
from tokenization.engines.sample import ONE_IN, Inexact

MUCH = 1 << 30
TEXTS = ["The cheese is on the table.", "", "é 山 😀\n\n  x", "Say <|im_end|> and <|endoftext|>"]


@pytest.fixture
def path(make_tokenizer: Any) -> Path:
    return Path(make_tokenizer()) / "tokenizer.json"


def lists(ragged: Ragged) -> list[list[int]]:
    return [ragged[index].tolist() for index in range(len(ragged))]


def chosen(path: Path, corpus_bytes: int = MUCH, **options: bool) -> ChosenEngine:
    return choose(path, Tokenizer.from_file(str(path)), corpus_bytes, SPECIAL, **options)


def test_much_text_goes_to_the_fast_engine(path: Path) -> None:
    choice = chosen(path)
    assert isinstance(choice.engine, FastEngine)
    assert choice.engine.name.startswith("fastokens ")
    assert choice.why_not_fast is None
    assert choice.checked is not None
    assert choice.checked.checked_texts == 0, "of the corpus"


def test_little_text_goes_to_the_reference(path: Path) -> None:
    choice = chosen(path, module.WORTH_LOADING - 1)
    assert isinstance(choice.engine, ReferenceEngine)
    assert choice.why_not_fast == f"{module.WORTH_LOADING - 1} bytes are too few to load a fast engine for"


def test_both_engines_read_special_text_as_text(path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(path))
    special = {tokenizer.token_to_id(name) for name in SPECIAL}
    fast, reference = chosen(path).engine.encode(TEXTS), chosen(path, 0).engine.encode(TEXTS)
    assert lists(fast) == lists(reference)
    assert fast.ids.dtype == reference.ids.dtype == np.int32
    assert special.isdisjoint(fast.ids.tolist())
    assert tokenizer.decode(fast[3].tolist()) == TEXTS[3]


def test_special_text_is_the_special_token_when_asked(path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(path))
    for corpus_bytes in (0, MUCH):
        encoded = chosen(path, corpus_bytes, special_text=True).engine.encode(TEXTS)
        assert encoded[3][-1] == tokenizer.token_to_id("<|endoftext|>")


def test_a_tokenizer_that_the_fast_engine_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    words = {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "?": 2}, "unk_token": "?"}
    path.write_text(json.dumps({"version": "1.0", "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": words}))
    choice = chosen(path)
    assert isinstance(choice.engine, ReferenceEngine)
    assert choice.why_not_fast is not None
    assert "fastokens cannot load it: " in choice.why_not_fast
    assert lists(choice.engine.encode(["b a", ""])) == [[1, 0], []]


def test_a_fast_engine_that_errs_on_the_hard_sample_is_not_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_last_id(monkeypatch, only="0 1 12 123")
    choice = chosen(path)
    assert isinstance(choice.engine, ReferenceEngine)
    assert choice.why_not_fast is not None
    assert choice.why_not_fast.endswith("differs from " + ReferenceEngine.name + " on " + repr(DIGITS[:60]))


def test_a_tokenizer_for_which_the_fast_engine_ignores_case_otherwise_goes_to_the_reference(tmp_path: Path) -> None:
    """GPT-4o's pattern: ``(?i:'s)`` is ``'\u017f`` too, which fastokens splits off where words are before it."""
    contraction = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    word, upper, lower = r"[^\r\n\p{L}\p{N}]?", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    words = f"{word}{upper}*{lower}+{contraction}|{word}{upper}+{lower}*{contraction}"
    pattern = Regex(words + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer = Tokenizer(models.BPE())
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(pattern, "isolated"), to_bytes])
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=to_bytes.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(["a i'\u017f"] * 9, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    choice = chosen(tmp_path / "tokenizer.json")
    assert isinstance(choice.engine, ReferenceEngine)
    assert choice.why_not_fast is not None and "'\u017f" in choice.why_not_fast


def test_a_fast_engine_that_errs_on_the_corpus_is_found_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = chosen(path).checked
    assert fast is not None
    change_last_id(monkeypatch, only="Cheese number")
    with pytest.raises(Inexact, match="Cheese number"):
        fast.encode([f"Cheese number {number}" for number in range(ONE_IN * 8)])


def test_which_texts_are_checked_depends_on_the_text_alone(path: Path) -> None:
    """A common head, as generated documents have it, does not make them all the same."""
    head = "The cheese of the week is described in this document, as every week. " * 2
    texts = [f"{head}Cheese number {number}" for number in range(ONE_IN * 8)]
    at_once, one_by_one = chosen(path).checked, chosen(path).checked
    assert at_once is not None and one_by_one is not None
    at_once.encode(texts)
    for text in texts:
        one_by_one.encode([text])
    assert at_once.checked_texts == one_by_one.checked_texts > module.FIRST_CHECKED


DIGITS = next(text for text in hard_sample([]) if text.startswith("0 1 12 123"))


def change_last_id(monkeypatch: pytest.MonkeyPatch, only: str) -> None:
    """As if the fast engine had a fault that shows in texts that begin with ``only``."""
    right = FastEngine.encode

    def wrong(self: FastEngine, texts: Sequence[str], end: int | None = None) -> Ragged:
        encoded = right(self, texts, end)
        ids = encoded.ids.copy()
        for index, text in enumerate(texts):
            if text.startswith(only):
                ids[encoded.offsets[index + 1] - 1] += 1
        return Ragged(ids, encoded.offsets)

    monkeypatch.setattr(FastEngine, "encode", wrong)
