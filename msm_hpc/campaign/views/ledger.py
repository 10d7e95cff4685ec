"""Where the time that jobs held went: by reason, for any steps; read from what their attempts left in the store.

An attempt holds a GPU for each rank; a job holds all of its own from its start to the end of its last attempt. What no
attempt used of that is *idle in allocation*: until Python and our code had started, between the steps of a job, and the
GPUs that a step needs less than its job has. On a site where trainings get no GPUs, ranks are counted in their place.

=====================  ==============================================================================================
reason                 of an attempt
=====================  ==============================================================================================
training               optimizer steps and held-out losses
load                   until a training's first step and, of an evaluation, reading weights; what a training does not
                       say of its time
saving                 what a training waits for while checkpoints are copied and written
convert, eval, other   all of a step of these kinds
lost to restart        optimizer steps that a later attempt did again, and all of an attempt of which nothing was kept
=====================  ==============================================================================================

An attempt that recorded no end counts until its job ended, where the cluster says so, else until it last wrote a file;
then it is not lost before there is another one. Time is counted in whole milliseconds, so that the parts add up to the
whole.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from types import MappingProxyType
from typing import Literal, get_args

from msm_hpc.base.progress import Progress
from msm_hpc.graph.build import Graph
from msm_hpc.launch.causes import JobEnd, end_of_run
from msm_hpc.launch.job import JobRef
from msm_hpc.store.attempts import AttemptFolder
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.records import Attempt
from msm_hpc.training.checkpoints.carry_over import saved_steps

Reason = Literal["training", "load", "saving", "convert", "eval", "other work", "lost to restart", "idle in allocation"]
REASONS: tuple[Reason, ...] = get_args(Reason)
WORK: Mapping[str, Reason] = {
    **{"train": "training", "model": "convert", "export": "convert"},
    **dict.fromkeys(("eval", "sample", "perplexity", "direction", "capability"), "eval"),
}
"""By the kind of step; of other kinds it is other work."""
SEVERAL = "several arms"
Ends = Mapping[tuple[str, str], JobEnd]
"""What the cluster keeps of jobs that have ended, by their id and cluster."""
NOTHING_KEPT: Ends = MappingProxyType({})
NO_JOBS: Mapping[JobRef, JobEnd] = MappingProxyType({})
MILLISECONDS_AN_HOUR = 3_600_000


@dataclass(frozen=True)
class Ledger:
    """GPU-milliseconds, or rank-milliseconds, by reason, of each step by its id."""

    on_gpus: bool
    spent: Mapping[str, Counter[Reason]]

    @property
    def unit(self) -> str:
        """What is counted."""
        return hour_unit(self.on_gpus)

    def hours(self, reasons: Iterable[Reason] = REASONS, steps: Collection[str] | None = None) -> float:
        """Hours that went to ``reasons``, of the steps with these ids, or of all."""
        found = self.spent.values() if steps is None else (self.spent[each] for each in steps if each in self.spent)
        wanted = tuple(reasons)
        return sum(parts[reason] for parts in found for reason in wanted) / MILLISECONDS_AN_HOUR


def hour_unit(on_gpus: bool) -> str:
    """What hours are of."""
    return "GPU-hours" if on_gpus else "rank-hours"


@dataclass(frozen=True)
class Tried:
    """An attempt at a step as it is counted: ``start`` and ``end`` are milliseconds since the epoch.

    ``runs`` says whether it may still run, for all that is known.
    """

    step: StepFolder
    folder: AttemptFolder
    record: Attempt
    progress: Progress | None
    start: int
    end: int
    runs: bool

    @classmethod
    def of(cls, step: StepFolder, folder: AttemptFolder, ends: Ends = NOTHING_KEPT) -> Tried:
        """Read an attempt; ``ends`` is what the cluster keeps of jobs."""
        record = folder.read()
        start = _milliseconds(record.start)
        kept = None if record.end else ends.get((record.job.id, record.job.cluster))
        over = end_of_run(kept.runs, record.began) if kept else None
        end = _milliseconds(record.end) if record.end else round(1000 * (over or folder.last_sign))
        progress = folder.progress if WORK.get(step.kind) in ("training", "eval") else None
        runs = record.end is None and over is None
        return cls(step, folder, record, progress, start, max(end, start), runs)

    @property
    def number(self) -> int:
        """Which of the step's attempts it is."""
        return self.folder.number

    @property
    def elapsed(self) -> int:
        """Milliseconds from its start to its end."""
        return self.end - self.start

    def seconds(self, *parts: str) -> int:
        """Milliseconds that it said went to ``parts``."""
        return round(1000 * sum(self.progress.seconds.get(part, 0.0) for part in parts)) if self.progress else 0

    def width(self, on_gpus: bool) -> int:
        """Ranks or GPUs that it used."""
        held = self.record.allocation
        return min(self.record.ranks, held.gpus if held else 0) if on_gpus else self.record.ranks

    def job_width(self, on_gpus: bool) -> int:
        """Ranks or GPUs that its job held."""
        held = self.record.allocation
        return 0 if held is None else held.gpus if on_gpus else held.tasks


def tries_at(folders: Iterable[StepFolder], ends: Mapping[JobRef, JobEnd] = NO_JOBS) -> list[list[Tried]]:
    """All attempts at each step that was tried, oldest first; ``ends`` is what the cluster keeps of their jobs."""
    kept = {(job.id, job.cluster): end for job, end in ends.items()}
    found = ([Tried.of(folder, each, kept) for each in folder.attempt_folders()] for folder in folders)
    return [tries for tries in found if tries]


def ledger(tries: Sequence[Sequence[Tried]], on_gpus: bool) -> Ledger:
    """What attempts took, in GPU-hours or in rank-hours."""
    spent: dict[str, Counter[Reason]] = defaultdict(Counter)
    for of_step in tries:
        made = _made(of_step)
        for position, each in enumerate(of_step):
            for reason, milliseconds in _parts(each, of_step[position + 1 :], made).items():
                spent[each.step.id][reason] += milliseconds * each.width(on_gpus)
    for widest, idle in _idle(chain.from_iterable(tries), on_gpus):
        spent[widest.step.id]["idle in allocation"] += idle
    return Ledger(on_gpus, spent)


def steps_by_arm(graph: Graph) -> dict[str, list[str]]:
    """The ids of the steps that one arm alone needs, by that arm, and of those that several need or none."""
    arms: dict[str, set[str]] = defaultdict(set)
    for cell, step in (*graph.cells, *graph.evals):
        arms[step.identity].add(cell.arm)
    for step in reversed(graph.steps):
        for parent in step.parents:
            arms[parent.identity] |= arms[step.identity]
    found: dict[str, list[str]] = defaultdict(list)
    for step in graph.steps:
        own = arms[step.identity]
        found[next(iter(own)) if len(own) == 1 else SEVERAL].append(step.id)
    return found


def _made(tries: Sequence[Tried]) -> int:
    """The number of the attempt that made the step's result, or 0; asked of the disk only where it is not plain."""
    if len(tries) == 1:
        return tries[0].number if tries[0].record.cause == "done" else 0
    version = tries[0].step.version
    return version[0] if version else 0


def _parts(one: Tried, later: Sequence[Tried], made: int) -> dict[Reason, int]:
    """Milliseconds of an attempt by reason."""
    work = WORK.get(one.step.kind, "other work")
    if work == "training" and one.progress is not None:
        return _training(one, one.progress, later, made)
    if not (one.number == made or (one.runs and not later) or (one.number > made > 0 and one.record.cause == "done")):
        return {"lost to restart": one.elapsed}
    load = one.elapsed if work == "training" else min(one.seconds("load"), one.elapsed)
    return {"load": load, work: one.elapsed - load}


def _training(one: Tried, progress: Progress, later: Sequence[Tried], made: int) -> dict[Reason, int]:
    """Those of a training: it keeps the steps that no later attempt did again, and what it had saved."""
    did = progress.done - progress.began
    kept = min([progress.done, *(other.progress.began for other in later if other.progress)]) - progress.began
    if one.number != made and not later and not one.runs:
        kept = min(kept, saved_steps(one.folder.out) - progress.began)
    if kept <= 0 and one.number != made and (later or not one.runs):
        return {"lost to restart": one.elapsed}
    training = min(one.seconds("training", "held out"), one.elapsed)
    saving = min(one.seconds("saving"), one.elapsed - training)
    lost = training * (did - max(kept, 0)) // did if did else 0
    load = one.elapsed - training - saving
    return {"training": training - lost, "lost to restart": lost, "saving": saving, "load": load}


def _idle(tries: Iterable[Tried], on_gpus: bool) -> Iterable[tuple[Tried, int]]:
    """Of each start of a job what none of its attempts used, with the widest of them."""
    jobs: dict[object, list[Tried]] = defaultdict(list)
    for each in tries:
        if each.record.allocation is not None:
            jobs[each.record.job.id, each.record.job.cluster, each.record.job_start].append(each)
    for together in jobs.values():
        widest = max(together, key=lambda one: one.width(on_gpus))
        assert widest.record.allocation is not None
        since = round(widest.record.allocation.since * 1000)
        held = max(max(one.end for one in together) - since, 0) * widest.job_width(on_gpus)
        used = sum(one.elapsed * one.width(on_gpus) for one in together)
        yield widest, max(held - used, 0)


def _milliseconds(stamp: str) -> int:
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)
