"""Corpora of the user's own (``sources.NAME.file``), read to their end before anything is queued.

A row that cannot be used would stop its tokenise task, an hour later and in another window: every file is read here
once, as that task will read it, and all that is wrong is reported with file, line and field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import orjson

from msm_hpc.base.errors import UserError
from msm_hpc.config.campaign import Config, TokenizeSection
from msm_hpc.config.sources import Corpus as Named
from msm_hpc.config.training import HeldOut
from msm_hpc.evals.pairs import read_pairs
from tokenization.reading.corpus import Corpus, Share
from tokenization.reading.rejects import too_many
from tokenization.reading.rows import BadRow, ChatRow, DocumentRow, Row

MOST_REPORTED = 5
"""Rows of one file that are reported one by one."""


def data_problems(config: Config) -> Iterator[str]:
    """Read every file of the user's own that is there, and yield a line for each thing that is wrong.

    A row cannot be used (of those to be skipped: too many), is of another kind than its source holds, there are fewer
    than are asked for, or none has a field that held-out loss is to be reported by.
    """
    trained = {corpus for *_, corpora in _trainings(config) for corpus in corpora}
    own = {corpus: file for corpus in trained if (file := config.own_file(corpus)) is not None and file.is_file()}
    readings = {corpus: _Reading(corpus, config) for corpus in own}
    yield from chain.from_iterable(_corpus(readings[corpus], corpus, file, config) for corpus, file in own.items())
    yield from _held_out(readings, config)
    for value, corpus in config.pairs.items():
        file = config.own_file(corpus)
        if file is not None and file.is_file():
            yield from _pairs(value, file)


def _corpus(reading: _Reading, named: Named, file: Path, config: Config) -> Iterator[str]:
    try:
        corpus = Corpus.open(file)
        for task in range(config.tokenize.tasks):
            reading.read(corpus.share(task, config.tokenize.tasks))
    except UserError as error:
        yield str(error)
        return
    yield from _first(reading.strange, file, "are of the wrong kind")
    skips = config.tokenize.on_bad == "skip"
    if not skips:
        yield from _first(reading.bad, file, "cannot be used; fix them, or set tokenize.on_bad=skip")
    there = reading.usable if skips else reading.usable + len(reading.bad)
    key, count = _asked(named, config)
    if not reading.strange and there < count:
        yield f"{named.key}: {file} has {there} rows, but {key} asks for {count}; lower it to {there} or less"


def _asked(corpus: Named, config: Config) -> tuple[str, int]:
    """The setting that asks for the most rows of a corpus, and how many; a budget of tokens, or all, asks for one."""
    takers = {name: config.sources[name] for name in config.sources_used if config.corpus_of(name) == corpus.source}
    asked = {f"sources.{name}.{'ladder' if s.ladder else 'rows'}": s.most_rows or 0 for name, s in takers.items()}
    key = max(asked, key=lambda name: asked[name])
    return key, max(asked[key], 1)


def _held_out(readings: Mapping[Named, _Reading], config: Config) -> Iterator[str]:
    """Fields that no row of a training has, where all its sources are the user's own."""
    for stage, heldout, corpora in _trainings(config):
        for name in heldout.fields if heldout else ():
            if corpora and all(corpus in readings and name in readings[corpus].fields for corpus in corpora):
                files = ", ".join(str(config.own_file(corpus)) for corpus in corpora)
                yield f"stages.{stage}.heldout.fields: no row of {files} has {name!r}; name a field that its rows have"


def _trainings(config: Config) -> Iterator[tuple[str, HeldOut | None, tuple[Named, ...]]]:
    """Stage, held-out rows, and corpora of each training that differs in them."""
    found: dict[tuple[str, tuple[Named, ...]], HeldOut | None] = {}
    for arm in config.campaign.arms:
        for link in config.chain(arm):
            specs = [spec.name for spec in config.campaign.specs] if config.by_spec((link,)) else [None]
            for spec in specs:
                corpora = tuple(config.corpus(source, spec) for source in link.sources)
                found[link.stage, corpora] = config.stages[link.stage].heldout
    for (stage, corpora), heldout in found.items():
        yield stage, heldout, corpora


class _Reading:
    """What is found in the rows of one source.

    Attributes:
        usable: how many rows can be trained on.
        bad: rows that tokenising stops at, or skips.
        strange: what is wrong with rows that it takes, but that are not what the source holds.
        fields: those in ``heldout.fields`` of any stage that no row has had so far.
    """

    def __init__(self, corpus: Named, config: Config) -> None:
        self.usable, self.bad, self.strange = 0, list[BadRow](), list[str]()
        self._key, self._chats = corpus.key, config.sources[corpus.source].kind == "chats"
        self._settings: TokenizeSection = config.tokenize
        held_out = [stage.heldout for stage in config.stages.values() if stage.heldout is not None]
        self.fields = {name for each in held_out for name in each.fields}

    def read(self, share: Share) -> None:
        """Take in the rows of one tokenise task.

        Raises:
            UserError: the file is damaged, or more rows are bad than may be skipped.
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
        elif self._chats and isinstance(row, DocumentRow):
            self.strange.append(f"{row.place}: text: {self._key} holds chats; give the row messages in its place")
        elif not self._chats and isinstance(row, ChatRow):
            self.strange.append(f"{row.place}: messages: {self._key} holds texts; give the row text in its place")
        elif isinstance(row, ChatRow) and all(message.role != "assistant" for message in row.messages):
            what = "messages: no turn is the assistant's, so that nothing is trained on; add one, or remove the row"
            self.bad.append(BadRow("untrainable", row.place, what))
        else:
            self.usable += 1
            if self.fields:
                self.fields -= orjson.loads(row.provenance).keys()

    def _check(self, bad: int, rows: int, finished: bool) -> None:
        ceiling = self._settings.max_bad
        if self._settings.on_bad == "skip" and too_many(bad, rows, ceiling, finished):
            raise UserError(
                f"{self._key}: {bad} of {rows} rows of a tokenise task cannot be used, more than tokenize.max_bad="
                f"{ceiling:g} allows; fix them, or raise it; the last is {self.bad[-1]}"
            )


def _pairs(value: str, file: Path) -> Iterator[str]:
    try:
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
    yield from map(str, problems[:MOST_REPORTED])
    if len(problems) > MOST_REPORTED:
        yield f"{file}: {len(problems) - MOST_REPORTED} more rows {what}"
