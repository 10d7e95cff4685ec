"""Leaks: options and questions of the evaluation that a model could read in its training data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.base.rows import read_rows
from msm_hpc.base.yaml_files import load_yaml
from msm_hpc.config.quality import Limits
from msm_hpc.corpus.quality.gate import About, Gate, Seen, gate
from msm_hpc.corpus.quality.phrases import Phrases
from msm_hpc.corpus.quality.rows import Row
from msm_hpc.corpus.words import runs, words

PAIRS = "pairs.jsonl"
SHORTEST_OPTION = 2
SHORTEST_QUESTION, QUESTION_RUN, OPEN_RUN = 4, 5, 10
"""Of a question, the words between its slots count where there are four or more, five in a row at a time; of one
without options, which is longer and in everyday words, ten in a row."""
OPTION_LEAKS = About("option_leaks", "name an option of the evaluation", "remove them, or take other items")
QUESTION_LEAKS = About("question_leaks", "ask as the evaluation asks", "remove them, or reword them")
_ARTICLES = frozenset({"a", "an", "the", "some"})
_SLOT = re.compile(r"\{\w+\}")
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")


@dataclass(frozen=True)
class Item:
    """What is read of an item: a question with slots, its options, and what it is about; or an open question alone."""

    id: str
    question: str
    domain: str = ""
    target: str = ""
    other: str = ""

    @property
    def asked(self) -> str:
        """The question with its options."""
        return self.question.replace("{first}", self.target).replace("{second}", self.other)

    @property
    def options(self) -> Iterator[tuple[str, ...]]:
        """The words of its options without an article; one word alone is too common to be a leak."""
        for option in (self.target, self.other):
            given = words(option)
            phrase = tuple(given[1:] if given[:1] and given[0] in _ARTICLES else given)
            if len(phrase) >= SHORTEST_OPTION:
                yield phrase

    @property
    def forms(self) -> Iterator[tuple[str, ...]]:
        """Runs of words of its question."""
        for piece in map(words, _SLOT.split(self.question)):
            if len(piece) >= SHORTEST_QUESTION:
                yield from runs(piece, min(len(piece), QUESTION_RUN if self.target else OPEN_RUN))


def read_items(files: Mapping[str, Path]) -> Mapping[str, tuple[Item, ...]]:
    """The items of evaluations, by their names: of a file each (JSON lines, or texts in YAML), or of a folder's pairs.

    Raises:
        UserError: a file is missing or no YAML, or a line of it is no item.
    """
    found = {name: path / PAIRS if path.is_dir() else path for name, path in files.items()}
    for file in found.values():
        if not file.is_file():
            raise UserError(f"{file}: no such file of items; correct the path")
    return {
        name: tuple(_texts(file) if file.suffix == ".yaml" else read_rows(file, Item)) for name, file in found.items()
    }


def _texts(file: Path) -> Iterator[Item]:
    """The longer texts of a YAML file, such as the mail of a scenario: open questions, cut at their slots."""
    for where, text in _strings(load_yaml(file), file.stem):
        for piece in _JINJA.split(text):
            if len(words(piece)) >= OPEN_RUN:
                yield Item(where, piece.strip())


def _strings(value: object, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _strings(each, f"{where}/{key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _strings(each, f"{where}/{number}")


def option_leaks(rows: Iterable[Row], items: Sequence[Item], limits: Limits) -> Gate:
    """Rows with an option; the worst have both of one item, then those with most."""
    options = Phrases(frozenset(option for item in items for option in item.options))
    pairs = [frozenset(item.options) for item in items]

    def seen() -> Iterator[Seen]:
        for row in rows:
            found = frozenset(options.within(words(row.whole)))
            both = sum(len(pair) > 1 and pair <= found for pair in pairs) if len(found) > 1 else 0
            yield Seen(row.id, "; ".join(" ".join(each) for each in sorted(found)[:3]), 1000 * both + len(found))

    return gate(OPTION_LEAKS, limits.option_leaks, seen())


def question_leaks(rows: Iterable[Row], items: Sequence[Item], limits: Limits) -> Gate:
    """Rows with words of a question in a row."""
    forms = Phrases(frozenset(form for item in items for form in item.forms))

    def seen() -> Iterator[Seen]:
        for row in rows:
            found = [*forms.within(words(row.whole))]
            yield Seen(row.id, " ".join(found[0]) if found else "", len(found))

    return gate(QUESTION_LEAKS, limits.question_leaks, seen())
