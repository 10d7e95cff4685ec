"""A gate: how many rows have a fault, the worst of them, and whether that is within the limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappush, heappushpop
from textwrap import shorten

from msm_hpc.base.errors import UserError

SHOWN, AROUND = 5, 70
"""How many examples a gate keeps, and how many characters are shown on either side of what was found."""
QUOTED, EXCERPT = 3, 100
"""How many of them a refusal quotes, and how many characters of each."""


@dataclass(frozen=True)
class About:
    """What a gate looks for, by its name in :class:`~msm_hpc.config.quality.Limits`, and what to do about it."""

    name: str
    what: str
    remedy: str
    unit: str = "rows"


@dataclass(frozen=True)
class Seen:
    """One thing that a gate has looked at: ``fault`` is an excerpt that shows the fault, empty where there is none."""

    row: str
    fault: str = ""
    weight: float = 0.0


@dataclass(frozen=True)
class Gate:
    """What a gate has found: ``found`` of ``of``, where a share of ``limit`` passes."""

    about: About
    found: int
    of: int
    limit: float
    examples: tuple[Seen, ...] = ()

    @property
    def share(self) -> float:
        """Of what was looked at."""
        return self.found / self.of if self.of else 0.0

    @property
    def passed(self) -> bool:
        """Whether a corpus may have that much of it."""
        return self.share <= self.limit


def gate(about: About, limit: float, seen: Iterable[Seen]) -> Gate:
    """Count faults, and keep the heaviest as examples; of equal weight, the first."""
    found = of = 0
    worst: list[tuple[float, int, Seen]] = []
    for each in seen:
        of += 1
        if each.fault:
            found += 1
            entry = (each.weight, -of, each)
            heappush(worst, entry) if len(worst) < SHOWN else heappushpop(worst, entry)
    return Gate(about, found, of, limit, tuple(example for _, _, example in sorted(worst, reverse=True)))


def refuse(gates: Iterable[Gate], setting: str, instead: str = "") -> None:
    """Stop before training on a corpus that does not pass.

    ``setting`` is how a gate's limit is set, with ``{gate}`` for its name; ``instead`` is what else can be done.

    Raises:
        UserError: a gate has found more than its limit; there is a line for each such gate.
    """
    failed = [_refusal(each, setting.format(gate=each.about.name)) for each in gates if not each.passed]
    if failed:
        raise UserError("\n".join([*failed, instead] if instead else failed))


def _refusal(failed: Gate, setting: str) -> str:
    about = failed.about
    worst = "; ".join(
        f"{each.row} ({shorten(each.fault, EXCERPT, placeholder='…')})" for each in failed.examples[:QUOTED]
    )
    return (
        f"{about.name}: {failed.found:,} of {failed.of:,} {about.unit} ({failed.share:.2%}) {about.what}, "
        f"above the limit of {failed.limit:.2%}{f', such as {worst}' if worst else ''}: {about.remedy}, or raise the "
        f"limit, {setting}"
    )


def failures(gates: Sequence[Gate]) -> int:
    """How many gates have not passed."""
    return sum(not each.passed for each in gates)


def around(text: str, begin: int, end: int) -> str:
    """An excerpt of ``text`` that shows what stands from ``begin`` to ``end``."""
    first, last = max(begin - AROUND, 0), min(end + AROUND, len(text))
    shown = " ".join(text[first:last].split())
    return f"{'…' if first else ''}{shown}{'…' if last < len(text) else ''}"
