"""Why an attempt ended: one table of causes, with what proves each and what follows from it.

The job decides where it can, by an exception or by a signal that it asks Slurm about. Of a job that left no record,
whoever asks later decides: by the states of the job and of its steps, then by the words of its logs. The first row of
:data:`RULES` that holds wins, which is the root of the trouble: out of memory before a peer that closed its connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from signal import Signals
from typing import Literal

Cause = Literal[
    "done",
    "upstream",
    "cancelled",
    "timeout",
    "preempted",
    "node",
    "oom",
    "nan",
    "rank lost",
    "server lost",
    "superseded",
    "user",
    "code",
]
OF_THE_WORK: frozenset[Cause] = frozenset({"user", "code", "oom", "nan"})
"""Those with which the same work would end again."""
CLOCKS_DIFFER = 2.0
"""Seconds, those included that are lost where times are in whole ones."""
MOST_QUOTED = 240
"""Characters of a line that are quoted."""


@dataclass(frozen=True)
class Rule:
    """What proves a cause where no exception of ours does, and what follows from it.

    Attributes:
        states: Slurm's states of a job or of a step of it.
        words: what a log says, or the message of an error.
        starts: how many starts of a job in a row may end so, with nothing more saved, before it is not put back into
            the queue; 0 where it never is. A start that saved more does not count.
        advice: what to do about it, where the message of the attempt does not say it.
    """

    states: frozenset[str] = frozenset()
    words: re.Pattern[str] | None = None
    starts: int = 0
    advice: str = ""


RULES: Mapping[Cause, Rule] = {
    "oom": Rule(
        states=frozenset({"OUT_OF_MEMORY"}),
        words=re.compile(
            "OutOfMemoryError|(CUDA|HIP)( error:)? out of memory|CUBLAS_STATUS_ALLOC_FAILED|"  # of a GPU
            r"\bMemoryError\b|bad_alloc|can't allocate memory|Cannot allocate memory|"  # refused to the process
            "oom[-_]kill|[Oo]ut of memory: Killed process|exceeded .*memory limit"  # by the kernel or by Slurm
        ),
        advice="of the node's memory: a larger memory_gb of its class in cluster.resources; of a GPU's: for a training "
        "a smaller micro_batch_size, or a layout over more ranks (`msm plan` shows what fits), for what a model is "
        "asked a smaller serving.batch, or more gpus_per_rank",
    ),
    "node": Rule(
        states=frozenset({"NODE_FAIL", "BOOT_FAIL"}),
        words=re.compile(
            r"Node failure on (?P<node>[\w.-]+)|DUE TO NODE FAILURE|uncorrectable (ECC|NVLink) error|"
            "GPU has fallen off the bus"
        ),
        starts=3,
        advice="the node was lost, not the work: `msm run` runs it again, and leaves that node out for a day",
    ),
    "timeout": Rule(
        states=frozenset({"TIMEOUT", "DEADLINE"}),
        words=re.compile("DUE TO TIME LIMIT"),
        starts=2,
        advice="raise time_minutes of its class in cluster.resources",
    ),
    "preempted": Rule(
        states=frozenset({"PREEMPTED"}),
        words=re.compile("DUE TO (PREEMPTION|JOB REQUEUE)"),
        starts=10,
        advice="`msm run` runs it again; where it is preempted all the time, ask for another partition or QOS",
    ),
    "nan": Rule(words=re.compile("DivergedError")),
    "cancelled": Rule(states=frozenset({"CANCELLED"}), words=re.compile(r"JOB \S+ ON \S+ CANCELLED AT \S+ \*\*\*")),
    "server lost": Rule(
        words=re.compile("ServerLostError"),
        starts=3,
        advice="the server of the trained model ended (its last lines are quoted): see `serving` in the configuration",
    ),
    "rank lost": Rule(
        words=re.compile(
            "NCCL error|nccl(Remote|System)Error|Watchdog caught collective operation timeout|"
            r"Connection (closed|reset) by peer|gloo.*([Tt]imed out|[Cc]onnection)"
        ),
        advice="that rank's log says why: an error, a kill or a hang",
    ),
}
"""The causes that can be told from the outside, those that are the root of others first."""
RUN_AGAIN: frozenset[Cause] = frozenset(cause for cause, rule in RULES.items() if rule.starts)
"""After these a job may put itself back into the queue, and keeps its steps."""


@dataclass(frozen=True)
class Finding:
    """A cause, with the quoted text that shows it, and the nodes that were lost, if any."""

    cause: Cause
    evidence: str
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EndedPart:
    """How a job ended, or a step of it, with the exit status and the signal as Slurm writes them, such as ``0:9``."""

    id: str
    state: str
    exit_code: str = ""

    def __str__(self) -> str:
        return f"{self.state} of {'step' if '.' in self.id else 'job'} {self.id}"


Run = tuple[float, float]
"""When a job began and ended, in seconds since the epoch; one that was requeued has several."""


@dataclass(frozen=True)
class JobEnd:
    """What a cluster keeps of a job that has ended.

    Attributes:
        source: the command that says so.
        parts: the job, then its steps: the state of a job hides those.
        nodes: where it ran.
        runs: when each of its runs began and ended, in seconds since the epoch, as far as that is known.
    """

    source: str
    parts: tuple[EndedPart, ...]
    nodes: tuple[str, ...] = ()
    runs: tuple[Run, ...] = ()

    @property
    def state(self) -> str:
        """The state of the job itself."""
        return self.parts[0].state

    def __str__(self) -> str:
        """The least that is known, where no cause is."""
        code, _, number = self.parts[0].exit_code.partition(":")
        how = f", exit status {code}, signal {number}" if number else ""
        return f"{self.source}: {self.parts[0]}{how}"

    @property
    def finding(self) -> Finding | None:
        """What the states prove. That a step is cancelled proves nothing: its job may have ended it."""
        for cause, rule in RULES.items():
            for part in self.parts[:1] if cause == "cancelled" else self.parts:
                if part.state in rule.states:
                    return Finding(cause, f"{self.source}: {part}", self.nodes if cause == "node" else ())
        return None


def end_of_run(runs: Iterable[Run], at: float) -> float | None:
    """When the run ended in which the job was at some second; None where that is not known."""
    return next((end for start, end in runs if start - CLOCKS_DIFFER <= at <= end + CLOCKS_DIFFER), None)


def in_words(lines: Iterable[str], source: str = "") -> Finding | None:
    """What the last lines of a log, or a message, say of a cause: the line is quoted, with its ``source`` in front."""
    given = [line.strip() for line in lines]
    for cause, rule in RULES.items():
        for line in reversed(given):
            if rule.words and (found := rule.words.search(line)):
                node = found.groupdict().get("node")
                quoted = line if len(line) <= MOST_QUOTED else f"…{line[max(found.start() - 40, 0) :][:MOST_QUOTED]}…"
                return Finding(cause, f"{source}: {quoted}" if source else quoted, (node,) if node else ())
    return None


def by_signal_alone(number: Signals) -> Finding:
    """The cause where nobody knows more than the signal: SIGUSR2 comes ahead of the time limit, as our scripts ask."""
    if number == Signals.SIGUSR2:
        return Finding("timeout", "SIGUSR2, which Slurm sends ahead of the time limit")
    return Finding("cancelled", number.name)
