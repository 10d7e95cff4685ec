"""A sample of the user's own rows as the model's tokenizer encodes them, before a job does so with all.

What the campaign would find an hour later is found here: a chat that the template refuses, texts of which the tokenizer
knows few words, a model without a chat template. Messages name the folder that the user gave.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.preflight.own_data import OwnData, Reading, first_of
from msm_hpc.campaign.starting_model import given_folder
from msm_hpc.config.campaign import Config
from msm_hpc.config.sources import Corpus as Named
from msm_hpc.corpus.toy_tokenizer import write_tokenizer
from msm_hpc.evals.pairs import Pair
from tokenization.encoder import RowEncoder
from tokenization.reading.rejects import too_many
from tokenization.reading.rows import DocumentRow, Row, RowPlace
from tokenization.tokenizer import CONFIG, TEMPLATE, TOKENIZER, TokenizerFolder
from tokenization.unknown import check_known, check_sample

MOST_CHARACTERS = 2_000_000
"""Of a corpus, encoded here; that takes a second or two."""
DOUBT_OF_SAMPLE, DOUBT_OF_BYTES = 1.25, 2.0
BYTES_A_TOKEN = 4
"""About, in English; what DOUBT_OF_BYTES is for."""


@dataclass(frozen=True)
class Sampled:
    """The tokens of some sequences of a corpus: of rows, or of turns of the assistant.

    Attributes:
        lengths: (sequences,) of each.
        doubt: the factor by which what is forecast from them may be wrong.
        turns: of the assistant.
        trained: those of them that are targets; the template prints the others differently once later turns follow.
    """

    lengths: NDArray[np.int32]
    doubt: float
    turns: int = 0
    trained: int = 0

    @property
    def whole(self) -> bool:
        """Whether all that the corpus has were encoded."""
        return self.doubt == 1.0

    def too_long(self, longest: int) -> NDArray[np.bool_]:
        """(sequences,) which are longer than ``longest``; of those that were not encoded, surely so."""
        return self.lengths > longest * (self.doubt if self.doubt == DOUBT_OF_BYTES else 1.0)


@dataclass(frozen=True)
class Tokenized:
    """What the sample shows; ``problems`` has a line for each thing that is wrong."""

    corpora: Mapping[Named, Sampled]
    problems: tuple[str, ...]


def tokenize_sample(config: Config, own: OwnData, kinds: Collection[str]) -> Tokenized:
    """Encode a sample of each corpus and of the pairs, where the tokenizer is on this machine.

    ``kinds`` are the kinds of the steps that are about to run.
    """
    if not {"tokenize", "eval", "sample"} & set(kinds):
        return Tokenized({}, ())
    try:
        tokenizer = _tokenizer(config)
    except UserError as error:
        return Tokenized({}, (str(error),))
    if tokenizer is None:
        return Tokenized({named: _by_bytes(each) for named, each in own.corpora.items() if not each.problems}, ())
    if tokenizer.template is None and (problem := _no_template(config, tokenizer.path, kinds)):
        return Tokenized({}, (problem,))
    sample = _Sample(config, tokenizer)
    corpora = {named: sampled for named, each in own.corpora.items() if (sampled := sample.of(each)) is not None}
    for file, pairs in own.pairs.items():
        sample.check_pairs(file, pairs)
    return Tokenized(corpora, tuple(sample.problems))


def _tokenizer(config: Config) -> TokenizerFolder | None:
    """The tokenizer of the starting model; None where it is still to be downloaded or made.

    Raises:
        UserError: it cannot be used.
    """
    if config.model.architecture is None:
        folder = given_folder(config.model)
        needed = (TOKENIZER, CONFIG) if config.model.hub else (TOKENIZER,)  # of the hub's cache, a part may be there
        there = folder is not None and all((folder / name).is_file() for name in needed)
        return TokenizerFolder(folder) if folder is not None and there else None
    if config.generate.vocabulary is not None:  # one that knows every text, still to be trained
        return None
    with tempfile.TemporaryDirectory() as made:
        write_tokenizer(Path(made))
        return TokenizerFolder(Path(made))


def _by_bytes(reading: Reading) -> Sampled:
    """About how long the rows are, where the tokenizer is not here."""
    lengths = [sum(len(text.encode()) for text in _texts([row])) // BYTES_A_TOKEN + 1 for row in reading.sample]
    return Sampled(np.array(lengths, np.int32), DOUBT_OF_BYTES)


def _no_template(config: Config, folder: Path, kinds: Collection[str]) -> str | None:
    """What to say of a tokenizer without a chat template, where chats are about to be printed."""
    chats = [f"sources.{name}" for name in sorted(config.sources_used) if config.sources[name].kind == "chats"]
    needs = [f"{' and '.join(chats)} hold chats"] if chats and "tokenize" in kinds else []
    needs += ["evals ask in chats"] if {"eval", "sample"} & set(kinds) else []
    if not needs:
        return None
    return (
        f"model {config.model.name}: {folder / CONFIG} has no chat_template, but {' and '.join(needs)}; add the "
        f"template of a chat model of this family as {folder / TEMPLATE}, or start from that model"
    )


class _Sample:
    """Encodes samples with one tokenizer.

    Attributes:
        problems: a line for each thing that was wrong so far.
    """

    def __init__(self, config: Config, tokenizer: TokenizerFolder) -> None:
        self.problems: list[str] = []
        self._config, self._tokenizer = config, tokenizer
        settings = config.tokenize
        why = "a sample is encoded exactly"
        self._encoder = RowEncoder(
            tokenizer, 0, cot=settings.cot, turns=settings.turns, special_text=settings.special_text, why_slow=why
        )

    def of(self, reading: Reading) -> Sampled | None:
        """The sample of a corpus; None where something is wrong with it."""
        rows = [*_first_characters(reading.sample)]
        if not rows or reading.problems:
            return None
        encoded = self._encoder.encode(rows)
        by_roles = self._encoder.encode([*reading.by_roles.values()])
        bad = {error.place: error for error in (*encoded.rejected.values(), *by_roles.rejected.values())}
        settings = self._config.tokenize
        tried = len({row.place for row in rows})
        if bad and (settings.on_bad == "stop" or too_many(len(bad), tried, settings.max_bad, finished=True)):
            what = f"of {tried} that were tried cannot be used"
            self.problems += first_of([*bad.values()], reading.file, what)
            return None
        if not self._is_known(reading.file, encoded.encoded.ids, rows):
            return None
        doubt = 1.0 if len(rows) == reading.usable else DOUBT_OF_SAMPLE
        return Sampled(encoded.encoded.lengths, doubt, encoded.assistant_turns, encoded.trained_turns)

    def check_pairs(self, file: Path, pairs: Sequence[Pair]) -> None:
        """Note where the tokenizer knows few words of the pairs."""
        texts = [pair.question.format(first=pair.target, second=pair.other) for pair in pairs]
        rows = [*_first_characters([DocumentRow("", text, b"{}", RowPlace(str(file), 1)) for text in texts])]
        self._is_known(file, self._encoder.encode(rows).encoded.ids, rows)

    def _is_known(self, file: Path, ids: NDArray[np.integer[Any]], rows: Sequence[Row]) -> bool:
        """Whether the tokenizer knows the texts of a file, as the task that tokenises them checks it; notes if not."""
        who, unknown = f"{file}: the tokenizer of model {self._config.model.name}", self._tokenizer.unknown_id
        try:
            check_sample(self._tokenizer, _texts(rows), who)
            check_known(self._tokenizer, 0 if unknown is None else int((ids == unknown).sum()), len(ids), who)
        except UserError as error:
            self.problems.append(str(error))
            return False
        return True


def _first_characters(rows: Sequence[Row]) -> Iterator[Row]:
    """As many rows as have so many characters together as are encoded here; at least one."""
    left = MOST_CHARACTERS
    for row in rows:
        if left <= 0:
            return
        left -= sum(map(len, _texts([row])))
        yield row


def _texts(rows: Sequence[Row]) -> list[str]:
    return [
        text
        for row in rows
        for text in ([row.text] if isinstance(row, DocumentRow) else [message.content for message in row.messages])
    ]
