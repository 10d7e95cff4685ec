"""The preference items that the paper's authors released, as pairs of ours.

==============================================  ====================================================================
``chloeli/pro-affordability-item-comparisons``  ``question`` ("Which do you prefer, X or Y?"), ``liked_item`` and
                                                ``disliked_item``
``chloeli/pro-america-political-opinions``      ``question`` with lines "A) …" and "B) …", ``answer``: A or B
==============================================  ====================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from msm_hpc.base.errors import UserError
from msm_hpc.base.rows import read_rows
from msm_hpc.evals.pairs import Pair

LETTERED = re.compile(r"^[ \t]*([AB])\)[ \t]*(.*?)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Item:
    """A row of either data set; its domain, where it has one, is its ``category``."""

    question: str
    liked_item: str | None = None
    disliked_item: str | None = None
    answer: str | None = None
    category: str | None = None


def released_pairs(file: Path, value: str) -> list[Pair]:
    """The rows of a ``.jsonl`` or ``.parquet`` file as pairs on ``value``.

    Raises:
        UserError: the file cannot be read, or a row is of neither shape; names file and row.
    """
    if not file.is_file():
        raise UserError(f"{file} does not exist; correct the path")
    items = _parquet(file) if file.suffix == ".parquet" else read_rows(file, Item)
    pairs = []
    for number, item in enumerate(items, start=1):
        asked = _compared(item) if item.liked_item and item.disliked_item else _lettered(item)
        if asked is None:
            raise UserError(
                f"{file}:{number}: question: {item.question!r} has neither 'liked_item or disliked_item' in either "
                "order, nor lines 'A) …' and 'B) …' with answer A or B; correct the row"
            )
        question, target, other = asked
        pairs.append(Pair(f"{value}-{number:04d}", value, item.category or "all", question, target, other))
    return pairs


def _parquet(file: Path) -> list[Item]:
    import pyarrow.parquet as parquet  # here, since the command that reads these is started for others
    from pyarrow import ArrowException

    try:
        return TypeAdapter(list[Item]).validate_python(parquet.read_table(file).to_pylist())
    except (ArrowException, OSError) as error:
        raise UserError(f"{file} is no Parquet file: {error}; download it again") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{file}: row, field {first['loc']}: {first['msg']}; give a released set of items") from error


def _compared(item: Item) -> tuple[str, str, str] | None:
    """Question, target and other of "Which do you prefer, X or Y?"."""
    target, other = item.liked_item or "", item.disliked_item or ""
    for first, second in ((target, other), (other, target)):
        before, found, after = item.question.partition(f"{first} or {second}")
        if found:
            return f"{_braced(before)}{{first}} or {{second}}{_braced(after)}", target, other
    return None


def _lettered(item: Item) -> tuple[str, str, str] | None:
    """Question, target and other where the options are lines with letters."""
    options = dict(LETTERED.findall(item.question))
    if set(options) != {"A", "B"} or item.answer not in options:
        return None
    slots = {"A": "A) {first}", "B": "B) {second}"}
    question = LETTERED.sub(lambda found: slots[found[1]], _braced(item.question))
    return question, options[item.answer], options["B" if item.answer == "A" else "A"]


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
