"""The store as one look at it finds it, for a command that asks many questions about the same moment.

What a folder has is read when it is first asked for, and not again: of ten thousand steps most are asked about by the
table of states, by the ledger, by the forecast and by each who wants to know what is left.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef
from msm_hpc.store.attempts import AttemptFolder
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.store import Store


class SeenFolder(StepFolder):
    """A step's folder, of which the names of files are read once."""

    @cached_property
    def _names(self) -> frozenset[str]:
        try:
            return frozenset(os.listdir(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()

    @cached_property
    def _done(self) -> bool:
        return "done.json" in self._names and super().done

    @cached_property
    def _lease(self) -> JobRef | None:
        return super().lease() if "lease.json" in self._names else None

    @cached_property
    def _attempts(self) -> list[AttemptFolder]:
        return super().attempt_folders() if "attempts" in self._names else []

    @property
    def done(self) -> bool:
        """Whether the result was there."""
        return self._done

    def damage(self) -> str | None:
        """Why what was published is no result any more, if so."""
        return super().damage() if "done.json" in self._names else None

    def lease(self) -> JobRef | None:
        """The job that held the step."""
        return self._lease

    def attempt_folders(self) -> list[AttemptFolder]:
        """The folders of all tries, oldest first."""
        return self._attempts


@dataclass(frozen=True)
class Look(Store):
    """A store that is looked at once."""

    _seen: dict[str, SeenFolder] = field(default_factory=dict, repr=False, compare=False)
    _done: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def done(self, step: Step) -> bool:
        """Whether the step's result was there and whole."""
        found = self._done.get(step.identity)
        if found is None:
            found = self._done[step.identity] = self.of(step).done
        return found

    def folder(self, step_id: str) -> SeenFolder:
        """The folder of the step with this id."""
        found = self._seen.get(step_id)
        if found is None:
            found = self._seen[step_id] = SeenFolder(Path(f"{self.root}/steps/{step_id}"))
        return found
