"""What audits found in the corpora that a language model wrote: which gates they passed, and by how much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from msm_hpc.config.stages import Audited

FILE = "audit.json"
NOT_FOUND = "no audit was found"


@dataclass(frozen=True)
class Gate:
    """One gate: ``found`` of ``of``, which passes up to a share of ``limit``."""

    gate: str
    passed: bool
    share: float
    limit: float
    found: int
    of: int
    unit: str


@dataclass(frozen=True)
class Corpus:
    """A written corpus.

    Attributes:
        step: its audit.
        page: where the audit's page lies, seen from the report's; empty where there is none.
        why: why there is no audit, if so.
        rows: how many it has.
        gates: in the order in which they were asked.
    """

    corpus: str
    step: str
    page: str
    why: str
    rows: int
    gates: tuple[Gate, ...]

    @property
    def over(self) -> tuple[Gate, ...]:
        """The gates that found more than their limit."""
        return tuple(gate for gate in self.gates if not gate.passed)

    def gate(self, name: str) -> Gate | None:
        """The gate of that name; None where it was not asked."""
        return next((gate for gate in self.gates if gate.gate == name), None)


@dataclass(frozen=True)
class _Audit:
    """The part of ``audit.json`` (``corpus/quality/page.py``) that is read here."""

    rows: int
    gates: tuple[Gate, ...]


def read_audits(
    audited: Sequence[Audited], found: Mapping[str, Path], why_absent: Mapping[str, str]
) -> Iterator[Corpus]:
    """Each corpus, with what its audit found, or why there is none."""
    for each in audited:
        if each.step in found:
            audit = TypeAdapter(_Audit).validate_json((found[each.step] / FILE).read_bytes())
            yield Corpus(each.corpus, each.step, each.page, "", audit.rows, audit.gates)
        else:
            yield Corpus(each.corpus, each.step, "", why_absent.get(each.step, NOT_FOUND), 0, ())


@dataclass(frozen=True)
class GateRow:
    """One gate, with what it found in each corpus, None where it was not asked; and its limit, or several."""

    name: str
    of_corpora: tuple[Gate | None, ...]

    @property
    def limits(self) -> tuple[float, ...]:
        """Those of the corpora, each once."""
        return tuple(dict.fromkeys(gate.limit for gate in self.of_corpora if gate))


def gate_rows(corpora: Sequence[Corpus]) -> list[GateRow]:
    """A row for each gate, in the order in which they were asked, of the corpora that have an audit."""
    names = dict.fromkeys(gate.gate for corpus in corpora for gate in corpus.gates)
    return [GateRow(name, tuple(each.gate(name) for each in corpora if not each.why)) for name in names]
