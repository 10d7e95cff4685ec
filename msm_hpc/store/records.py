"""What is written down of a step and of each try at it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msm_hpc.base.hashes import FileHashes
from msm_hpc.base.typed_json import adapter
from msm_hpc.graph.kinds import KINDS
from msm_hpc.graph.steps import File, Step, by_role
from msm_hpc.launch.allocation import Allocation
from msm_hpc.launch.causes import Cause
from msm_hpc.launch.job import JobRef

Names = Mapping[str, str | Mapping[str, str]]
"""A role of a step's inputs to one name, or to several by name."""
Version = tuple[int, str]
"""Which result of a step: the attempt that made it, and when it was published."""


def now() -> str:
    """The time in ISO 8601, UTC."""
    return stamp(time.time())


def stamp(seconds: float) -> str:
    """A time in ISO 8601, UTC, given in seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Attempt:
    """One try at a step. ``end`` is None while it runs, and stays None where the job ended without a record.

    ``job_start`` tells the starts of a job apart, which keeps its id when it is requeued; it is the same on all ranks.
    ``evidence`` is the text that shows the ``cause``, quoted, where the ``message`` is not that.
    ``progressed`` says of a stage that a signal stopped whether it had saved more than when it began.
    ``inputs`` are the results that it reads, by the ids of their steps: one that was made again is another one.
    ``allocation`` is what its job holds, where a cluster gave it anything.
    """

    job: JobRef
    host: str
    ranks: int
    commit: str | None
    log: str
    start: str
    end: str | None = None
    cause: Cause | None = None
    message: str | None = None
    evidence: str = ""
    progressed: bool | None = None
    job_start: str = ""
    inputs: Mapping[str, Version] = field(default_factory=dict)
    allocation: Allocation | None = None

    @property
    def began(self) -> float:
        """A second since the epoch at which its job was there: by the cluster's clock, where that was asked."""
        return self.allocation.since if self.allocation else datetime.fromisoformat(self.start).timestamp()

    @property
    def seconds(self) -> float:
        """Wall time of a finished attempt."""
        assert self.end is not None
        return (datetime.fromisoformat(self.end) - datetime.fromisoformat(self.start)).total_seconds()


@dataclass(frozen=True)
class Record:
    """What ``step.json`` holds.

    Attributes:
        inputs: the id of a step, or the absolute path of a file from outside.
        identities: those of the inputs.
        shares: the ids of the steps that this one is gathered from, if any.
        after: the ids of the steps that have to be done first, of which it reads nothing.
        share_of: the id of the step that it is a share of, if any.
    """

    id: str
    kind: str
    name: str
    config: Mapping[str, Any]
    inputs: Names
    identities: Names
    created: str
    shares: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    share_of: str = ""

    @classmethod
    def of(cls, step: Step) -> Record:
        """The record of a step, with placement as asked for now."""
        return cls(
            id=step.id,
            kind=step.kind,
            name=step.name,
            config=adapter(step.definition.config).dump_python(step.config, mode="json"),
            inputs=by_role(step.inputs, lambda origin: str(origin.path) if isinstance(origin, File) else origin.id),
            identities=by_role(step.inputs, lambda origin: origin.identity),
            created=now(),
            shares=tuple(share.id for share in step.shares),
            after=tuple(each.id for each in step.after),
            share_of=step.share_of,
        )

    @property
    def reads(self) -> tuple[str, ...]:
        """The ids of the steps whose results it reads."""
        given = flat(self.inputs).values()
        return self.shares or tuple(source for source in given if not Path(source).is_absolute())

    def typed_config(self) -> Any:
        """``config`` as the dataclass that the stage takes."""
        return adapter(KINDS[self.kind].config).validate_python(dict(self.config))


@dataclass(frozen=True)
class Published:
    """What ``done.json`` holds: the hashes of the result's files by their path in it, and which attempt made it."""

    files: Mapping[str, FileHashes]
    attempt: int
    at: str

    @property
    def version(self) -> Version:
        """What differs from that of the result of the same step before, or after it was made again."""
        return self.attempt, self.at


@dataclass(frozen=True)
class Damage:
    """What ``damaged.json`` holds: that the result of ``attempt``, published ``at``, is not what it was.

    A result that was made again after that is another one.
    """

    attempt: int
    at: str
    message: str
    found: str


def flat(names: Names) -> dict[str, str]:
    """``names`` by role, or by ``role.name`` where there are several."""
    found: dict[str, str] = {}
    for role, given in names.items():
        found |= {role: given} if isinstance(given, str) else {f"{role}.{name}": each for name, each in given.items()}
    return found
