"""Failures, those alike together: a fault of the data or the cluster fails a thousand steps in the same words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msm_hpc.campaign.views.ends import Ended
from msm_hpc.launch.logs import rank_log, tail

DIFFERS = re.compile(r"[0-9a-f]{16}|\d+(\.\d+)?")
"""What may differ between the words of equal failures, beside a step's own name: ids, ranks, hosts, times, losses."""
EXPLAINED = frozenset({"user", "upstream", "cancelled", "nan"})
"""Causes whose message says it all, so that nobody has to read a log."""


@dataclass(frozen=True)
class Failure:
    """Ends that are alike, with the first one's words.

    Attributes:
        log: the last lines of its log, where its message does not say it all.
    """

    ends: tuple[Ended, ...]
    log: Sequence[str]

    @property
    def first(self) -> Ended:
        """The first in the order of work."""
        return self.ends[0]

    @property
    def words_differ(self) -> bool:
        """Whether the others said something else in some number or name."""
        return any(end.message != self.first.message for end in self.ends)


def alike(ends: Iterable[Ended]) -> list[Failure]:
    """Ends by what they say, but for names and numbers."""
    groups: dict[tuple[str, str], list[Ended]] = {}
    for end in ends:
        groups.setdefault((end.cause, pattern(end)), []).append(end)
    return [Failure(tuple(group), last_lines(group[0])) for group in groups.values()]


def pattern(end: Ended) -> str:
    """The words of an end without what is its step's own; where no message was left, those of its log's last line."""
    words = " ".join([end.message, *(last_lines(end)[-1:] if end.cause == "lost" else [end.quoted])])
    return DIFFERS.sub("…", words.replace(end.step.name, "…"))


def last_lines(end: Ended) -> list[str]:
    """The last lines of the log: of the rank that was lost, if that is the cause."""
    if end.log is None or end.cause in EXPLAINED:
        return []
    lost = re.search(r"\brank (\d+)\b", end.message) if end.cause == "rank lost" else None
    return tail(rank_log(end.log, int(lost[1]))) if lost else tail(end.log)
