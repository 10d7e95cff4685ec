"""Corpora of the user's own (``data.*``), read to their end before anything is queued.

A row that cannot be used would stop its tokenise task, an hour later and in another window: every file is read here
once, as that task will read it, and all that is wrong is told with file, line and field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path

import orjson

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.external_inputs import own_file, own_key
from msm_hpc.config.campaign import Config, TokenizeSection
from msm_hpc.config.training import HeldOut
from msm_hpc.evals.pairs import read_pairs
from tokenization.errors import BadInput
from tokenization.reading.corpus import Corpus, Share
from tokenization.reading.rejects import too_many
from tokenization.reading.rows import BadRow, Chat, Document, Row

MOST_TOLD = 5
"""Rows of one file that are told one by one."""


def check_own_data(config: Config) -> None:
    """Read every file of ``config.data``.

    Raises:
        UserError: there is no such file, a row cannot be used (of those to be skipped: too many), is of another kind
            than its source holds, there are fewer than are asked for, or none has a field that held-out loss is to be
            told by; a line for each.
    """
    readings = {source: _Reading(source, config) for source in config.data.corpora}
    problems = [*chain.from_iterable(_corpus(readings[source], source, config) for source in readings)]
    problems += _held_out(readings, config)
    problems += chain.from_iterable(_pairs(value, file) for value, file in config.data.pairs.items())
    if problems:
        raise UserError("\n".join(problems))


def _corpus(reading: _Reading, source: str, config: Config) -> Iterator[str]:
    file = config.data.corpora[source]
    try:
        own_file(source, file)
        corpus = Corpus.open(file)
        for task in range(config.tokenize.tasks):
            reading.read(corpus.share(task, config.tokenize.tasks))
    except (BadInput, UserError) as error:
        yield str(error)
        return
    yield from _first(reading.strange, file, "are of the wrong kind")
    skips = config.tokenize.on_bad == "skip"
    if not skips:
        yield from _first(reading.bad, file, "cannot be used; mend them, or set tokenize.on_bad=skip")
    there = reading.usable if skips else reading.usable + len(reading.bad)
    key, count = asked(source.partition("-")[0], config)
    if not reading.strange and there < count:
        yield f"{own_key(source)}: {file} has {there} rows, but {key} asks for {count}; lower it to {there} or less"


def _held_out(readings: Mapping[str, _Reading], config: Config) -> Iterator[str]:
    """Fields that no row of a training has, where all its sources are the user's own."""
    for section, heldout, sources in _held_out_trainings(config):
        for name in heldout.fields if heldout else ():
            if sources and all(source in readings and name in readings[source].fields for source in sources):
                files = ", ".join(str(config.data.corpora[source]) for source in sources)
                yield f"{section}.heldout.fields: no row of {files} has {name!r}; name a field that its rows have"


def _held_out_trainings(config: Config) -> Iterator[tuple[str, HeldOut | None, list[str]]]:
    """Section, held-out rows, and sources of each training that differs in them."""
    midtrain, aft, arms = config.midtrain, config.aft, set(config.campaign.arms)
    replay = ["pretraining"] if midtrain.replay else []
    for spec in config.campaign.specs if arms & {"msm", "msm+aft"} else ():
        yield "midtrain", midtrain.heldout, [f"documents-{spec.name}", *replay]
    mix = ["instruction"] if aft.instruction else []
    if arms & {"base", "msm"}:
        yield "aft", aft.heldout, mix
    if arms & {"aft", "msm+aft"}:
        yield "aft", aft.heldout, [*mix, "chats"]


class _Reading:
    """What is found in the rows of one source.

    Attributes:
        usable: how many rows can be trained on.
        bad: rows that tokenising stops at, or skips.
        strange: what is wrong with rows that it takes, but that are not what the source holds.
        fields: those in ``heldout.fields`` of either training that no row has had so far.
    """

    def __init__(self, source: str, config: Config) -> None:
        self.usable, self.bad, self.strange = 0, list[BadRow](), list[str]()
        self._key, self._chats = own_key(source), source in ("chats", "instruction")
        self._settings: TokenizeSection = config.tokenize
        held_out = [section.heldout for section in (config.midtrain, config.aft) if section.heldout is not None]
        self.fields = {name for each in held_out for name in each.fields}

    def read(self, share: Share) -> None:
        """Take in the rows of one tokenise task.

        Raises:
            BadInput: the file is damaged, or more rows are bad than may be skipped.
        """
        rows, before = 0, len(self.bad)
        for batch in share.batches():
            for row in batch:
                self._see(row)
            rows += len(batch)
            self._check(len(self.bad) - before, rows, finished=False)
        self._check(len(self.bad) - before, rows, finished=True)

    def _see(self, row: Row | BadRow) -> None:
        if isinstance(row, BadRow):
            self.bad.append(row)
        elif self._chats and isinstance(row, Document):
            self.strange.append(f"{row.place}: text: {self._key} holds chats; give the row messages in its place")
        elif not self._chats and isinstance(row, Chat):
            self.strange.append(f"{row.place}: messages: {self._key} holds texts; give the row text in its place")
        elif isinstance(row, Chat) and all(message.role != "assistant" for message in row.messages):
            what = "messages: no turn is the assistant's, so that nothing is trained on; add one, or remove the row"
            self.bad.append(BadRow("untrainable", row.place, what))
        else:
            self.usable += 1
            if self.fields:
                self.fields -= orjson.loads(row.provenance).keys()

    def _check(self, bad: int, rows: int, finished: bool) -> None:
        ceiling = self._settings.max_bad
        if self._settings.on_bad == "skip" and too_many(bad, rows, ceiling, finished):
            raise BadInput(
                f"{self._key}: {bad} of {rows} rows of a tokenise task cannot be used, more than tokenize.max_bad="
                f"{ceiling:g} allows; mend them, or raise it; the last is {self.bad[-1]}"
            )


def asked(corpus: str, config: Config) -> tuple[str, int]:
    """The setting that says how many rows of a corpus the campaign trains on, and how many that are."""
    if corpus == "instruction":
        return "aft.instruction", config.aft.instruction
    if corpus == "chats":
        return "aft.samples", max(config.aft.samples)
    if corpus == "documents":
        by_tokens = config.midtrain.tokens is not None
        return ("midtrain.tokens", 1) if by_tokens else ("midtrain.documents", config.midtrain.documents)
    assert corpus == "pretraining"
    base = config.generate.pretraining if config.pretrain else 0
    return max(("midtrain.replay", config.midtrain.replay), ("generate.pretraining", base), key=itemgetter(1))


def _pairs(value: str, file: Path) -> Iterator[str]:
    try:
        own_file(f"pairs/{value}", file)
        pairs = read_pairs(file)
    except UserError as error:
        yield str(error)
        return
    others = [
        f"{file}:{number}: value: is {pair.value!r}, in the pairs of {value!r}; make the two agree"
        for number, pair in enumerate(pairs, start=1)
        if pair.value != value
    ]
    yield from _first(others, file, "are of another value")


def _first(problems: Sequence[object], file: Path, what: str) -> Iterator[str]:
    """The first problems of the rows of a file, and of the others how many there are."""
    yield from map(str, problems[:MOST_TOLD])
    if len(problems) > MOST_TOLD:
        yield f"{file}: {len(problems) - MOST_TOLD} more rows {what}"
