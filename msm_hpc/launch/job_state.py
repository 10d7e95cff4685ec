"""The state of a job that lives: running, queued for a reason, or not to be asked about from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class JobState:
    """A living job's state.

    ``reason`` is squeue's where the job is ``pending``, such as ``Priority`` or ``Dependency``; where it is
    ``unknown``, it says why nothing more is known from here.
    """

    word: Literal["running", "pending", "unknown"]
    reason: str = ""


RUNNING = JobState("running")
