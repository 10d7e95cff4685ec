"""The store as one look at it finds it, for a command that asks many questions about the same moment.

What a folder has is read when it is first asked for, and not again: of ten thousand steps most are asked about by the
table of states, by the ledger, by the forecast and by each who wants to know what is left. Which steps have a folder at
all is read once for each kind.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef
from msm_hpc.store.attempts import AttemptFolder
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.store import Store

NOTHING = frozenset[str]()


@dataclass(frozen=True)
class SeenFolder(StepFolder):
    """A step's folder, of which the ``names`` of files were read."""

    names: frozenset[str]

    @cached_property
    def _done(self) -> bool:
        return super().done

    @cached_property
    def _lease(self) -> JobRef | None:
        return super().lease()

    @cached_property
    def _attempts(self) -> list[AttemptFolder]:
        return super().attempt_folders()

    @property
    def done(self) -> bool:
        """Whether the result was there."""
        return "done.json" in self.names and self._done

    def damage(self) -> str | None:
        """Why what was published is no result any more, if so."""
        return super().damage() if "done.json" in self.names else None

    def lease(self) -> JobRef | None:
        """The job that held the step."""
        return self._lease if "lease.json" in self.names else None

    def attempt_folders(self) -> list[AttemptFolder]:
        """The folders of all tries, oldest first."""
        return self._attempts if "attempts" in self.names else []


@dataclass(frozen=True)
class Look(Store):
    """A store that is looked at once."""

    _seen: dict[str, SeenFolder] = field(default_factory=dict, repr=False, compare=False)
    _there: dict[str, frozenset[str]] = field(default_factory=dict, repr=False, compare=False)
    """The names in a kind's folder, by kind, and in a step's folder, by id."""

    def done(self, step: Step) -> bool:
        """Whether the step's result was there and whole."""
        return "done.json" in self._names(step.id) and self.of(step).done

    def having(self, name: str, steps: Iterable[Step]) -> dict[str, StepFolder]:
        """The folders of those of ``steps`` that had a file, or folder, of this name in theirs, by id."""
        return {step.id: self.of(step) for step in steps if name in self._names(step.id)}

    def folder(self, step_id: str) -> SeenFolder:
        """The folder of the step with this id."""
        found = self._seen.get(step_id)
        if found is None:
            path = Path(f"{self.root}/steps/{step_id}")
            found = self._seen[step_id] = SeenFolder(path, self._names(step_id))
        return found

    def _names(self, step_id: str) -> frozenset[str]:
        """The names in a step's folder; it is looked at only if its kind's folder has it."""
        found = self._there.get(step_id)
        if found is None:
            kind, _, name = step_id.partition("/")
            if kind not in self._there:
                self._there[kind] = _names(f"{self.root}/steps/{kind}")
            found = _names(f"{self.root}/steps/{step_id}") if name in self._there[kind] else NOTHING
            self._there[step_id] = found
        return found


def _names(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING
