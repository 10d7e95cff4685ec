"""Sources: the named corpora of a campaign, who produces each, and how much of it is taken."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from msm_hpc.base.errors import UserError
from msm_hpc.config.schema import Name, Strict, placement
from msm_hpc.config.stages import Product
from tokenization.reading.formats import PLAIN, Format, RowShape
from tokenization.reading.hub import DatasetName

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Generate(Strict):
    """What a generator makes for a source: a product, and how much of it (for each spec or value, if so).

    A language model may be asked for ``tokens`` in the place of ``rows``; of either there will be about so many. Of
    what it writes once for all specs, ``spec`` names the one whose preferences are shown.
    """

    product: Product
    rows: PositiveInt | None = None
    tokens: PositiveInt | None = None
    spec: Name | None = None
    of: Name | None = None

    def __post_init__(self) -> None:
        if [self.rows, self.tokens, self.of].count(None) != 2:
            raise UserError(f"product {self.product}: give one of rows, tokens and of, and the others as null")


@dataclass(frozen=True, kw_only=True)
class Source(Strict):
    """A named corpus.

    Rows come from your ``file`` (``files`` by spec or value, where there is one for each), which may also be a data
    set by name (:mod:`tokenization.reading.hub`), or else from the generator; ``of`` names another source whose corpus
    this one takes from instead. A source without a file may stand for several others, its ``parts``. What is taken is
    all of it, ``rows`` (none of them where 0: the source is left out), ``tokens``, or a ``ladder`` of row counts, each
    of which makes cells of its own. A smaller amount's rows are always among a larger one's.

    Attributes:
        kind: what a row is: a text, a chat, or a pair of options that evals ask about.
        for_each: whether there is one corpus for each of the campaign's specs, or values.
        format: how the rows of your files are written (:mod:`tokenization.reading.formats`).
        columns: a field of the format to the name that it has in them.
        spec: of ``of``, where that has a corpus for each spec: the one spec whose corpus is taken, in every arm.
        without: rows that are left out, by a field of theirs: ``section=last-copy``.
        tokens_a_row: what a row has on average, by which trainings are forecast as long as its rows are not here.
    """

    kind: Literal["documents", "chats", "pairs"]
    for_each: Literal["spec", "value"] | None = None
    generate: Generate | None = None
    file: Path | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    format: Format = "plain"
    columns: Mapping[str, str] = field(default_factory=dict)
    of: str | None = None
    parts: tuple[str, ...] = ()
    spec: Name | None = None
    without: tuple[str, ...] = ()
    rows: NonNegativeInt | None = None
    tokens: PositiveInt | None = None
    ladder: tuple[PositiveInt, ...] | None = None
    tokens_a_row: PositiveInt | None = placement(None)

    def __post_init__(self) -> None:
        self._check_file()
        self._check_shape()
        self._check_parts()
        amounts = [name for name in ("rows", "tokens", "ladder") if getattr(self, name) is not None]
        if len(amounts) > 1:
            raise UserError(f"{' and '.join(amounts)} are given: give one of them")
        if self.ladder is not None:
            refuse_empty("ladder", self.ladder)
            refuse_twice("ladder", self.ladder)

    def _check_file(self) -> None:
        if self.file is not None and self.for_each:
            each = self.for_each
            raise UserError(
                f"file is given, but there is one for each {each}: give files, each by its {each}'s name, or write "
                "{each} in the file's path where that name stands"
            )
        if self.files and not self.for_each:
            raise UserError(f"files are given by {', '.join(self.files)}, but there is only one: give file")
        for file in (self.file, *self.files.values()):
            if file == Path():
                raise UserError("a file is empty: give its path, or leave the setting out")
            if file is not None:
                self._check_named(file)
        if self.of is not None and (self.generate or self.file or self.files):
            raise UserError(f"of={self.of} takes its rows from that source: leave generate, file and files out")
        if self.spec is not None and self.of is None:
            raise UserError(f"spec={self.spec} chooses a corpus of another source: give that source as of")

    @property
    def replaced(self) -> bool:
        """Whether its parts are read in its place."""
        return bool(self.parts) and self.file is None

    def _check_parts(self) -> None:
        refuse_twice("parts", self.parts)
        if self.replaced and (self.generate or self.of or self.for_each or self.without):
            raise UserError("parts are other sources: give generate, of, for_each and without at those")
        if self.replaced and (self.rows or self.tokens or self.ladder):
            raise UserError("parts are other sources: give rows and tokens at those (rows: 0 leaves all of them out)")

    def _check_named(self, file: Path) -> None:
        """A data set by name must be one that cannot change under the campaign."""
        named = DatasetName.parse(file)
        if named is None:
            return
        if self.kind == "pairs":
            raise UserError(f"{file}: pairs are read from .jsonl files only; save them as one")
        if not COMMIT.fullmatch(named.revision or ""):
            raise UserError(
                f"{file}: give a commit, hf:{named.name}@COMMIT, so that its rows cannot change under the campaign; "
                f"today's: git ls-remote https://huggingface.co/datasets/{named.name} HEAD"
            )

    def _check_shape(self) -> None:
        if self.shape == PLAIN:
            return
        if not (self.file or self.files):
            raise UserError("format or columns are given, but no file: they say how the rows of your files are written")
        if self.kind == "pairs":
            raise UserError("format or columns are given, but pairs are read as they are (docs/own_data.md)")
        if self.kind == "documents" and self.format != "plain":
            raise UserError(f"format is {self.format}, whose rows are chats, but kind is documents; make the two agree")

    @property
    def shape(self) -> RowShape:
        """How its rows are written."""
        return RowShape(self.format, self.columns)

    @property
    def most_rows(self) -> int | None:
        """The most rows taken at once; None where all are, or so many tokens."""
        return max(self.ladder) if self.ladder else self.rows


@dataclass(frozen=True)
class Corpus:
    """One corpus of a source; ``each`` is the spec or value that it is for, where there is one for each."""

    source: str
    each: str | None = None

    @property
    def name(self) -> str:
        """Such as ``documents-america``. Which of its rows are taken first depends on this name."""
        return f"{self.source}-{self.each}" if self.each else self.source

    @property
    def key(self) -> str:
        """The setting that names a file of the user's own."""
        return f"sources.{self.source}.files.{self.each}" if self.each else f"sources.{self.source}.file"


def refuse_empty(key: str, values: tuple[object, ...]) -> None:
    """Refuse a list without items.

    Raises:
        UserError: it is empty.
    """
    if not values:
        raise UserError(f"{key} is empty: give at least one")


def refuse_twice(key: str, values: tuple[object, ...]) -> None:
    """Refuse a list with equal items.

    Raises:
        UserError: names the item.
    """
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"{key} lists {value} twice: remove one")
