from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from msm_hpc.base.errors import UserError
from tokenization.packing.cuts import Cutter

PROSE = (
    "The cheese is on the table. It costs £3.50 a pound! “Is it good?” she asked. He said nothing (he never does). "
    "They ate it, e.g. with bread.\n\nA new paragraph begins here: it has a\nline break, too.\n"
)
BEFORE = "one two three four five six, seven: "


def words(tokenizer: Tokenizer) -> None:
    """A vocabulary of whole words and marks, with no decoder."""
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()


def metaspace(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()


def byte_level(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()


def make(folder: Path, setup: Callable[[Tokenizer], None], text: str = PROSE) -> Tokenizer:
    """A small tokenizer, written to ``folder``."""
    whole_words = setup is words
    tokenizer = Tokenizer(models.WordLevel(unk_token="?") if whole_words else models.BPE())
    setup(tokenizer)
    if whole_words:
        trainer: trainers.Trainer = trainers.WordLevelTrainer(special_tokens=["?", "<eod>"], show_progress=False)
    else:
        alphabet = pre_tokenizers.ByteLevel.alphabet() if setup is byte_level else []
        trainer = trainers.BpeTrainer(
            vocab_size=420, initial_alphabet=alphabet, special_tokens=["<eod>"], show_progress=False
        )
    tokenizer.train_from_iterator([text] * 5, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def cut(folder: Path, tokenizer: Tokenizer, text: str, longest: int) -> list[str]:
    """The parts of the text, as text; each decoded after what comes before it, which a decoder may need."""
    ids = np.array([*tokenizer.encode(text, add_special_tokens=False).ids, tokenizer.token_to_id("<eod>")], np.int32)
    starts = Cutter.load(folder, np.unique(ids)).cut(ids, longest)
    assert starts[0] == 0 and max(np.diff([*starts, len(ids)])) <= longest
    before = [tokenizer.decode(ids[:start].tolist()) for start in [*starts, len(ids)]]
    return [after.removeprefix(so_far) for so_far, after in pairwise(before)]


@pytest.mark.parametrize("setup", [byte_level, metaspace, words])
def test_texts_are_cut_between_sentences(tmp_path: Path, setup: Callable[[Tokenizer], None]) -> None:
    tokenizer = make(tmp_path, setup)
    parts = cut(tmp_path, tokenizer, PROSE * 20, longest=60)
    assert len(parts) > 5
    assert "".join(parts) == tokenizer.decode(tokenizer.encode(PROSE * 20).ids)
    assert all(part.rstrip().endswith((".", "!", "?", "?”", ").")) for part in parts)
    assert not any(part.endswith("e.g.") for part in parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One two. Three four", ["One two.", " Three four"]),
        ("One “two.” Three four", ["One “two.”", " Three four"]),
        ("One two e.g. three four", ["One two e.g. three", " four"]),
        ("One two. \n\nthree four five", ["One two. \n\n", "three four five"]),
        ("One two.\nthree four", ["One two.\n", "three four"]),
        ("One two,\nthree four", ["One two,\n", "three four"]),
        ("One two.\nthree four,\nfive", ["One two.\n", "three four,\nfive"]),
        ("我喜欢奶酪。它很", ["我喜欢奶酪。", "它很"]),
        ("他说「好吃。」它很", ["他说「好吃。」", "它很"]),
        ("One two three four", ["One two three", " four"]),
    ],
)
def test_where_a_text_is_cut(tmp_path: Path, text: str, parts: list[str]) -> None:
    """At the last place of the best kind that there is, where all but the last token and EOD fit."""
    tokenizer = make(tmp_path, byte_level, text=f"{BEFORE} three One Three {text}")
    text, parts = BEFORE + text, [BEFORE + parts[0], parts[1]]
    assert cut(tmp_path, tokenizer, text, longest=len(tokenizer.encode(text).ids) - 1) == parts


def byte_fallback(folder: Path) -> Tokenizer:
    """As of SentencePiece: characters, and bytes for those that are not in the vocabulary."""
    names = ["<eod>", "?", "▁", "a", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="?", byte_fallback=True))
    metaspace(tokenizer)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


@pytest.mark.parametrize("make_it", [lambda folder: make(folder, byte_level), byte_fallback])
def test_a_text_without_a_space_is_cut_between_characters(tmp_path: Path, make_it: Callable[[Path], Tokenizer]) -> None:
    """Each of these characters is two, three or four tokens."""
    tokenizer, text = make_it(tmp_path), "山é😀" * 20
    ids = np.array([*tokenizer.encode(text, add_special_tokens=False).ids, 0], np.int32)
    starts = Cutter.load(tmp_path, np.unique(ids)).cut(ids, longest=8)
    parts = [tokenizer.decode(ids[begin:end].tolist()) for begin, end in pairwise([*starts, len(ids)])]
    assert "".join(parts).removesuffix("<eod>").strip() == text
    assert len(parts) > 20


def test_only_the_second_half_of_a_row_is_looked_at(tmp_path: Path) -> None:
    """A sentence end in the first half would leave the row half empty."""
    tokenizer = make(tmp_path, byte_level, text="One. a b")
    text = "One." + " a b" * 20
    first = cut(tmp_path, tokenizer, text, longest=20)[0]
    assert len(tokenizer.encode(first).ids) == 20


@given(st.text(alphabet="ab .\n“”。é山", min_size=20, max_size=80), st.integers(2, 12))
def test_any_text_is_cut_into_pieces_that_fit(bpe_cutter: Cutter, bpe: str, text: str, longest: int) -> None:
    ids = np.array([*Tokenizer.from_str(bpe).encode(text, add_special_tokens=False).ids, 0], np.int32)
    starts = bpe_cutter.cut(ids, longest)
    sizes = np.diff([*starts, len(ids)])
    assert starts[0] == 0 and sizes.min() > 0 and sizes.max() <= longest
    assert sizes[-1] > 1, "EOD alone"


@pytest.fixture(scope="session")
def bpe_cutter(bpe: str, tmp_path_factory: pytest.TempPathFactory) -> Cutter:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.json").write_text(bpe)
    return Cutter.load(folder, np.arange(Tokenizer.from_str(bpe).get_vocab_size()))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.json: no such file"):
        Cutter.load(tmp_path, np.arange(3))
