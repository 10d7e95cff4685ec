"""What was rejected while a corpus was written, and the rows of the plan that never came of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.config.quality import Limits
from msm_hpc.corpus.quality.gate import About, Gate, Seen, gate
from msm_hpc.corpus.quality.rows import Rows
from msm_hpc.corpus.rows import DATA, REJECTS

GIVEN_UP = About(
    "given_up",
    "came to nothing: each try was rejected, or said what another row says",
    "look at the reasons (more generate.writing.reply_tokens help where they are truncated), choose a more capable "
    "model",
    "planned rows",
)


@dataclass(frozen=True)
class Reject:
    """A try that was rejected: of which row, and the reason."""

    row: str
    reason: str
    detail: str


def written(files: Iterable[Path]) -> Sequence[Path]:
    """Those of some files that are whole corpora, as a generator wrote them, with the rejects beside them."""
    return [file for file in dict.fromkeys(files) if file.name == DATA and file.with_name(REJECTS).is_file()]


def rejects(corpus: Path) -> Iterator[Reject]:
    """What was rejected while a corpus was written, in that order.

    Raises:
        UserError: a line is no reject; names file and line.
    """
    path = corpus.with_name(REJECTS)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                found = json.loads(line)
                yield Reject(str(found.get("id", "")), str(found["reason"]), str(found.get("detail", "")))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise UserError(
                    f"{path}:{number}: no reject with a reason, as a generator writes them; remove the line"
                ) from error


def by_reason(corpora: Iterable[Path]) -> Mapping[str, int]:
    """How many rejects there are of each reason, from the most frequent one on."""
    return dict(Counter(each.reason for corpus in corpora for each in rejects(corpus)).most_common())


def given_up(corpora: Iterable[Path], limits: Limits) -> Gate:
    """Planned rows that are not there, each with the reason of its last try."""
    return gate(GIVEN_UP, limits.given_up, (each for corpus in corpora for each in _planned(corpus)))


def _planned(corpus: Path) -> Iterator[Seen]:
    lost = {each.row: each for each in rejects(corpus) if each.row}
    for row in Rows((corpus,)):
        lost.pop(row.id, None)
        yield Seen(row.id)
    for each in lost.values():
        yield Seen(each.row, f"{each.reason}: {each.detail}")
