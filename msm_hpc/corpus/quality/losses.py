"""What was rejected while a corpus was written, and the rows of the plan that never came of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msm_hpc.config.quality import Limits
from msm_hpc.corpus.quality.gate import About, Gate, Seen, gate
from msm_hpc.corpus.quality.rows import Row
from msm_hpc.corpus.rows import REJECTS

GIVEN_UP = About(
    "given_up",
    "were given up, each of their tries rejected",
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


def reject_files(files: Iterable[Path]) -> Sequence[Path]:
    """Where the rejects of a corpus are: beside its own files, if a generator wrote it."""
    return [path for path in sorted({file.with_name(REJECTS) for file in files}) if path.is_file()]


def rejects(files: Iterable[Path]) -> Iterator[Reject]:
    """What was rejected, in the order in which it was."""
    for path in files:
        with path.open("rb") as lines:
            for each in map(json.loads, lines):
                yield Reject(each["id"], each["reason"], each["detail"])


def by_reason(rejected: Iterable[Reject]) -> Mapping[str, int]:
    """How many there are of each reason, from the most frequent one on."""
    return dict(Counter(each.reason for each in rejected).most_common())


def given_up(rows: Iterable[Row], rejected: Iterable[Reject], limits: Limits) -> Gate:
    """Rows of which every try was rejected, of all that were planned; each shows the reason of its last try."""
    return gate(GIVEN_UP, limits.given_up, _planned(rows, {each.row: each for each in rejected}))


def _planned(rows: Iterable[Row], lost: dict[str, Reject]) -> Iterator[Seen]:
    for row in rows:
        lost.pop(row.id, None)
        yield Seen(row.id)
    for each in lost.values():
        yield Seen(each.row, f"{each.reason}: {each.detail}")
