"""Corpora of the user's own (``sources.NAME.file``), read to their end before anything is queued.

A row that cannot be used would stop its tokenise task, an hour later and in another window: every file is read here
once, as that task will read it, and all that is wrong is reported with file, line and field.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import orjson

from msm_hpc.base.errors import UserError
from msm_hpc.config.campaign import Config
from msm_hpc.config.sources import Corpus as Named
from msm_hpc.config.training import HeldOut
from msm_hpc.evals.pairs import Pair, read_pairs
from tokenization.packing.selection import held_by
from tokenization.reading.corpus import Corpus, Share
from tokenization.reading.formats import OtherShape
from tokenization.reading.rejects import too_many
from tokenization.reading.rows import BadRow, ChatRow, DocumentRow, Row
from tokenization.tokenize import by_turn

MOST_REPORTED = 5
"""Rows of one file that are reported one by one."""
SAMPLED = 256
"""Rows of a corpus that are tokenised before it is: drawn from all of them."""
MOST_ROLES = 64
"""Orders of roles of which a chat is kept, since templates refuse some."""


@dataclass
class Reading:
    """What is found in the rows of one corpus.

    Attributes:
        usable: how many sequences can be trained on: one of each row, or of each turn of the assistant.
        bad: rows that tokenising stops at, or skips.
        strange: what is wrong with rows that it takes, but that are not what the source holds.
        missing: fields in ``heldout.fields`` of any stage that no row has had so far.
        left_out: how many of the usable sequences a source's ``without`` leaves out, by that.
        sample: some of the usable sequences; all of them where there are few.
        by_roles: the first chat of each order of roles.
        problems: a line for each thing that is wrong.
    """

    named: Named
    file: Path
    config: Config
    usable: int = 0
    bad: list[BadRow] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    left_out: Counter[tuple[str, ...]] = field(default_factory=Counter)
    sample: list[Row] = field(default_factory=list)
    by_roles: dict[tuple[str, ...], ChatRow] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, named: Named, file: Path, config: Config) -> Reading:
        """Read a file to its end."""
        held_out = [stage.heldout for stage in config.stages.values() if stage.heldout is not None]
        takers = [config.sources[name] for name in config.sources_used if config.corpus_of(name) == named.source]
        reading = cls(
            named,
            file,
            config,
            missing={name for each in held_out for name in each.fields},
            left_out=Counter({taker.without: 0 for taker in takers if taker.without}),
        )
        reading.problems += reading._read()
        return reading

    @property
    def by_turn(self) -> bool:
        """Whether each turn of the assistant is a sequence of its own."""
        return self.config.counted(self.named.source) == "turns"

    @property
    def unit(self) -> str:
        """What ``usable`` and amounts count, for messages."""
        return "turns of the assistant" if self.by_turn else "rows"

    @property
    def _skips(self) -> bool:
        return self.config.tokenize.on_bad == "skip"

    def _read(self) -> Iterator[str]:
        tasks, draw = self.config.tokenize.tasks, Random(0)
        try:
            corpus = Corpus.open(self.file, self.config.sources[self.named.source].shape)
            for task in range(tasks):
                self._read_share(corpus.share(task, tasks), draw)
        except UserError as error:
            yield str(error)
            return
        yield from first_of(self.strange, self.file, "are of the wrong kind")
        if not self._skips:
            yield from self._bad_rows()
        if not self.strange:
            yield from self._too_few()

    def _bad_rows(self) -> Iterator[str]:
        others = [row for row in self.bad if isinstance(row, OtherShape)]
        for other in others[:1]:
            more = f" (there are {len(others):,})" if others[1:] else ""
            yield f"{self._said(other)}{more}"
        bad = [row for row in self.bad if not isinstance(row, OtherShape)]
        yield from first_of(bad, self.file, "cannot be used; fix them, or set tokenize.on_bad=skip")

    def _said(self, row: BadRow) -> str:
        """What is wrong with a row, with the options of a source and not of ``python -m tokenization``."""
        if not isinstance(row, OtherShape):
            return str(row)
        return f"{row.place}: {row.what}; read such rows with {row.shape.options(f'sources.{self.named.source}')}"

    def _too_few(self) -> Iterator[str]:
        key, count = _asked(self.named, self.config)
        to_fix = 0 if self._skips else len(self.bad)
        if to_fix and self.by_turn:
            return  # how many turns they have is known once they are fixed
        there = self.usable + to_fix
        if not there:
            yield f"{self.named.key}: {self.file} has no rows that can be used; give another file"
        elif there < count:
            yield (
                f"{self.named.key}: {self.file} has {there} {self.unit}, but {key} asks for {count}; lower it to "
                f"{there} or less"
            )

    def _read_share(self, share: Share, draw: Random) -> None:
        """Take in the rows of one tokenise task.

        Raises:
            UserError: the file is damaged, or more rows are bad than may be skipped.
        """
        rows, before = 0, len(self.bad)
        for batch in share.batches():
            for row in batch:
                self._see(row, draw)
            rows += len(batch)
            self._check(len(self.bad) - before, rows, finished=False)
        self._check(len(self.bad) - before, rows, finished=True)

    def _see(self, row: Row | BadRow, draw: Random) -> None:
        chats = self.config.sources[self.named.source].kind == "chats"
        if isinstance(row, BadRow):
            self.bad.append(row)
        elif chats and isinstance(row, DocumentRow):
            self.strange.append(f"{row.place}: text: {self.named.key} holds chats; give the row messages in its place")
        elif not chats and isinstance(row, ChatRow):
            self.strange.append(f"{row.place}: messages: {self.named.key} holds texts; give the row text in its place")
        elif isinstance(row, ChatRow) and all(message.role != "assistant" for message in row.messages):
            what = "messages: no turn is the assistant's, so that nothing is trained on; add one, or remove the row"
            self.bad.append(BadRow("untrainable", row.place, what))
        else:
            self._keep(row, draw)

    def _keep(self, row: Row, draw: Random) -> None:
        """Take in a usable row: each of the sequences that are made of it."""
        if isinstance(row, ChatRow) and len(self.by_roles) < MOST_ROLES:
            self.by_roles.setdefault(tuple(message.role for message in row.messages), row)
        fields = orjson.loads(row.provenance) if self.missing or self.left_out else {}
        self.missing -= fields.keys()
        before = self.usable
        for sequence in by_turn(row) if self.by_turn else (row,):
            self._draw(sequence, draw)
        for without in self.left_out:
            self.left_out[without] += (self.usable - before) if held_by(fields, without) else 0

    def _draw(self, row: Row, draw: Random) -> None:
        """Count a sequence, and draw it so that any is in the sample as likely as another."""
        if len(self.sample) < SAMPLED:
            self.sample.append(row)
        elif (place := draw.randrange(self.usable + 1)) < SAMPLED:
            self.sample[place] = row
        self.usable += 1

    def _check(self, bad: int, rows: int, finished: bool) -> None:
        ceiling = self.config.tokenize.max_bad
        if self._skips and too_many(bad, rows, ceiling, finished):
            raise UserError(
                f"{self.named.key}: {bad} of {rows} rows of a tokenise task cannot be used, more than tokenize.max_bad="
                f"{ceiling:g} allows; fix them, or raise it; the last is {self._said(self.bad[-1])}"
            )


@dataclass(frozen=True)
class OwnData:
    """The user's own corpora and pairs that are about to be read; ``problems`` has a line for each that is wrong."""

    corpora: Mapping[Named, Reading]
    pairs: Mapping[Path, Sequence[Pair]]
    problems: tuple[str, ...]


def read_own_data(config: Config, wanted: Collection[Path]) -> OwnData:
    """Read those files of the user's own that are there and ``wanted``.

    A row cannot be used (of those to be skipped: too many), is of another kind than its source holds, there are fewer
    than are asked for, or none has a field that held-out loss is to be reported by.
    """
    trained = dict.fromkeys(corpus for training in own_trainings(config) for corpus in training.corpora)
    files = {corpus: file for corpus in trained if (file := config.own_file(corpus)) in wanted and file is not None}
    corpora = {corpus: Reading.of(corpus, file, config) for corpus, file in files.items() if file.exists()}
    pairs, problems = dict[Path, Sequence[Pair]](), list[str]()
    for value, corpus in config.pairs.items():
        file = config.own_file(corpus)
        if file in wanted and file is not None and file.exists():
            try:
                pairs[file] = read_pairs(file)
                problems += _other_values(value, file, pairs[file])
            except UserError as error:
                problems.append(str(error))
    found = [problem for reading in corpora.values() for problem in reading.problems]
    return OwnData(corpora, pairs, (*found, *_held_out(corpora, config), *problems))


@dataclass(frozen=True)
class OwnTraining:
    """A stage as it is trained on the corpora of one spec, or of all."""

    stage: str
    sources: tuple[str, ...]
    corpora: tuple[Named, ...]
    heldout: HeldOut | None


def own_trainings(config: Config) -> Iterator[OwnTraining]:
    """The trainings that differ in stage or sources."""
    found: dict[OwnTraining, None] = {}
    for arm in config.campaign.arms:
        for link in config.chain(arm):
            specs = [spec.name for spec in config.campaign.specs] if config.by_spec((link,)) else [None]
            for spec in specs:
                corpora = tuple(config.corpus(source, spec) for source in link.sources)
                heldout = config.stages[link.stage].heldout
                found[OwnTraining(link.stage, link.sources, corpora, heldout)] = None
    yield from found


def _asked(corpus: Named, config: Config) -> tuple[str, int]:
    """The setting that asks for the most rows of a corpus, and how many; a budget of tokens, or all, asks for none."""
    takers = {name: config.sources[name] for name in config.sources_used if config.corpus_of(name) == corpus.source}
    asked = {f"sources.{name}.{'ladder' if s.ladder else 'rows'}": s.most_rows or 0 for name, s in takers.items()}
    key = max(asked, key=lambda name: asked[name])
    return key, asked[key]


def _held_out(readings: Mapping[Named, Reading], config: Config) -> Iterator[str]:
    """Fields that no row of a training has, where all its sources are the user's own."""
    for training in own_trainings(config):
        corpora = training.corpora
        for name in training.heldout.fields if training.heldout else ():
            if corpora and all(corpus in readings and name in readings[corpus].missing for corpus in corpora):
                files = ", ".join(str(config.own_file(corpus)) for corpus in corpora)
                yield (
                    f"stages.{training.stage}.heldout.fields: no row of {files} has {name!r}; name a field that its "
                    "rows have"
                )


def _other_values(value: str, file: Path, pairs: Sequence[Pair]) -> Iterator[str]:
    others = [
        f"{file}:{number}: value: is {pair.value!r}, in the pairs of {value!r}; make the two agree"
        for number, pair in enumerate(pairs, start=1)
        if pair.value != value
    ]
    yield from first_of(others, file, "are of another value")


def first_of(problems: Sequence[object], file: Path, what: str) -> Iterator[str]:
    """The first problems of the rows of a file, and of the others how many there are."""
    yield from map(str, problems[:MOST_REPORTED])
    if len(problems) > MOST_REPORTED:
        yield f"{file}: {len(problems) - MOST_REPORTED} more rows {what}"
