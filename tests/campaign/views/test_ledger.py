"""Where the time of jobs went: each millisecond that a job held has one reason."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from msm_hpc.base.files import write_json, write_text
from msm_hpc.base.progress import FILE, Progress
from msm_hpc.campaign.views.ledger import REASONS, SEVERAL, Ledger, Reason, ledger, steps_by_arm, tries_at
from msm_hpc.launch.allocation import Allocation, current_allocation, shell_line
from msm_hpc.launch.causes import EndedPart, JobEnd
from msm_hpc.launch.job import JobRef
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.records import Attempt, Cause, now
from msm_hpc.store.store import Store
from tests.composed import graph_of, load_config

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: float) -> str:
    return (BEGAN + timedelta(seconds=second)).isoformat()


def tried(
    folder: StepFolder,
    number: int,
    began: float,
    ended: float | None,
    cause: Cause | None,
    job: str = "64",
    ranks: int = 1,
    held: Allocation | None = None,
) -> Path:
    """Record an attempt; returns its folder."""
    attempt = Attempt(
        job=JobRef("slurm", job),
        host="n1",
        ranks=ranks,
        commit=None,
        log="",
        start=at(began),
        end=None if ended is None else at(ended),
        cause=cause,
        job_start=f"start of {job}",
        allocation=held and replace(held, since=BEGAN.timestamp() + held.since),
    )
    folder.write_attempt(number, attempt)
    (folder.attempt(number).out).mkdir()
    return folder.attempt(number).path


def trained(attempt: Path, began: int, done: int, **seconds: float) -> None:
    progress = Progress(done, 100, "optimizer steps", began, {part.replace("_", " "): s for part, s in seconds.items()})
    write_text(attempt / FILE, json.dumps(asdict(progress)))


def published(folder: StepFolder, number: int) -> None:
    folder.out.mkdir()
    write_json(folder.path / "done.json", {"files": {}, "attempt": number, "at": now()})


def seconds(found: Ledger, *steps: StepFolder) -> Mapping[Reason, float]:
    """What is not 0."""
    ids = [step.id for step in steps] or None
    spent = {reason: round(3600 * found.hours([reason], ids), 3) for reason in REASONS}
    return {reason: each for reason, each in spent.items() if each}


def in_ranks(*folders: StepFolder) -> Ledger:
    return ledger(tries_at(folders), on_gpus=False)


def whole(found: Ledger) -> int:
    return sum(sum(parts.values()) for parts in found.spent.values())


def test_a_training_that_was_killed_and_resumed(store: Store) -> None:
    """60 steps in 30 s, of which those after the 40th are done again; both runs of the job hold 4 tasks."""
    folder = store.folder("train/0123456789abcdef")
    first = tried(folder, 1, 10, 60, "rank lost", ranks=4, held=Allocation(0, 4, 0))
    trained(first, 0, 60, load=5, training=30, saving=3)
    second = tried(folder, 2, 70, 120.5, "done", job="65", ranks=4, held=Allocation(66, 4, 0))
    trained(second, 40, 100, load=5, training=36, held_out=2, saving=1)
    published(folder, 2)
    found = in_ranks(folder)
    assert found.unit == "rank-hours"
    assert seconds(found) == {
        "training": 4 * (20 + 38),
        "lost to restart": 4 * 10,
        "saving": 4 * (3 + 1),
        "load": 4 * (50 - 33 + 50.5 - 39),
        "idle in allocation": 4 * (10 + 4),
    }
    assert whole(found) == 4 * 1000 * (60 + (120.5 - 66)), "from the start of each job to the end of its last attempt"


def test_a_result_that_is_made_again_was_lost(store: Store) -> None:
    """It was damaged, so that the third attempt, which is at work now, resumes from nothing."""
    folder = store.folder("train/0123456789abcdef")
    trained(tried(folder, 1, 0, 50, "timeout"), 0, 40, training=40)
    trained(tried(folder, 2, 50, 120, "done"), 40, 100, training=60)
    published(folder, 2)
    third = tried(folder, 3, 200, None, None)
    trained(third, 0, 5, training=5)
    for file in (third / "attempt.json", third / FILE, third / "out"):
        os.utime(file, times=2 * (BEGAN.timestamp() + 207,))
    assert seconds(in_ranks(folder)) == {"lost to restart": 50 + 60, "training": 5, "load": 10 + 2}


def test_what_a_failed_training_had_saved_is_not_lost(store: Store) -> None:
    folder = store.folder("train/0123456789abcdef")
    attempt = tried(folder, 1, 0, 40, "code")
    trained(attempt, 0, 20, training=20)
    assert seconds(in_ranks(folder)) == {"lost to restart": 40}
    (folder.attempt(1).out / "resume" / "step-000000010").mkdir(parents=True)
    assert seconds(in_ranks(folder)) == {"lost to restart": 10, "training": 10, "load": 20}


def test_a_training_without_a_step_is_load_until_it_has_ended(store: Store) -> None:
    folder = store.folder("train/0123456789abcdef")
    attempt = tried(folder, 1, 0, None, None)
    os.utime(folder.attempt(1).out, times=(0, 0))
    (folder.attempt(1).out / "metrics.jsonl").touch()
    for file, second in ((attempt / "attempt.json", 0), (folder.attempt(1).out / "metrics.jsonl", 7)):
        os.utime(file, times=2 * (BEGAN.timestamp() + second,))
    assert seconds(in_ranks(folder)) == {"load": 7}
    folder.attempt(1).discard()
    assert not folder.attempt(1).out.exists()
    assert seconds(in_ranks(folder)) == {"load": 7}, "its last sign of life outlives its output"
    tried(folder, 2, 10, 15, "upstream")
    assert seconds(in_ranks(folder)) == {"lost to restart": 12}


def test_other_steps_by_kind_and_what_failed_or_was_made_again(store: Store) -> None:
    model, other, made_again = (store.folder(f"{kind}/0123456789abcdef") for kind in ("model", "pack", "eval"))
    tried(model, 1, 0, 3, "code")
    tried(model, 2, 4, 9, "done")
    published(model, 2)
    tried(other, 1, 0, 2, "done")
    for number, began in ((1, 0), (2, 20)):
        trained(tried(made_again, number, began, began + 10, "done"), 0, 9, load=4)
    published(made_again, 2)
    found = in_ranks(model, other, made_again)
    assert seconds(found, model) == {"lost to restart": 3, "convert": 5}
    assert seconds(found, other) == {"other work": 2}
    assert seconds(found, made_again) == {"lost to restart": 10, "load": 4, "eval": 6}
    assert found.hours() == pytest.approx(sum(found.hours([reason]) for reason in REASONS))
    assert found.hours(steps=["eval/not tried"]) == 0


def test_steps_that_share_a_job_leave_the_gpus_idle_that_they_do_not_need(store: Store) -> None:
    """A training on 8 GPUs for 100 s, then an export on one of them for 10 s; 5 s before each and none after."""
    training, export, report = (store.folder(f"{kind}/0123456789abcdef") for kind in ("train", "export", "report"))
    held = Allocation(0, 8, 8)
    trained(tried(training, 1, 5, 105, "done", ranks=8, held=held), 0, 100, training=90)
    tried(export, 1, 110, 120, "done", held=held)
    tried(report, 1, 200, 300, "done", job="66", held=Allocation(200, 1, 0))
    found = ledger(tries_at([training, export, report]), on_gpus=True)
    assert found.unit == "GPU-hours"
    assert seconds(found, export) == {"convert": 10}
    assert seconds(found, training) == {"training": 8 * 90, "load": 8 * 10, "idle in allocation": 8 * 10 + 7 * 10}
    assert seconds(found, report) == {}, "its job had no GPU"
    assert whole(found) == 1000 * 8 * 120


def test_steps_are_of_the_arm_that_alone_needs_them() -> None:
    arms = ["campaign.arms=[init,msm,msm+aft]", "campaign.contrast=[msm+aft]", "campaign.seeds=[0]"]
    graph = graph_of(load_config(["campaign=demo", *arms]))
    by_arm = steps_by_arm(graph)
    assert sum(map(len, by_arm.values())) == len(graph.steps)
    names = {step.id: step.name for step in graph.steps}
    found = {arm: {names[each].partition("/")[0] for each in ids} for arm, ids in by_arm.items()}
    assert {"midtrain", "generate", "report"} <= found[SEVERAL]
    assert {"aft", "export", "eval"} <= found["msm+aft"] and "midtrain" not in found["msm+aft"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"EPOCHSECONDS": "7"}, Allocation(7, 4, 0)),
        ({"SLURM_JOB_START_TIME": "5", "SLURM_GPUS_ON_NODE": "2"}, Allocation(5, 4, 4)),
    ],
)
def test_a_job_is_given_what_it_holds(
    variables: dict[str, str], expected: Allocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert current_allocation() is None
    assert run([shell_line(4)], {"SLURM_NNODES": "2", **variables}, monkeypatch) == expected


def run(lines: Sequence[str], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Allocation | None:
    """What a rank finds whose script has these lines."""
    script = "\n".join(["unset EPOCHSECONDS", *(f"{k}={v}" for k, v in variables.items()), *lines, "env"])
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    (value,) = (line.partition("=")[2] for line in shown.splitlines() if line.startswith("MSM_ALLOCATION="))
    monkeypatch.setenv("MSM_ALLOCATION", value)
    return current_allocation()


def test_what_ended_without_a_record_counts_until_its_job_ended_where_slurm_says_so(store: Store) -> None:
    folder = store.folder("train/0123456789abcdef")
    attempt = tried(folder, 1, 10, None, None)
    began = BEGAN.timestamp()
    os.utime(attempt / "attempt.json", (began + 20, began + 20))
    assert seconds(in_ranks(folder)) == {"load": 10}, "it may still run"
    kept = JobEnd("sacct", (EndedPart("64", "NODE_FAIL", "0:0"),), runs=((began + 9, began + 40),))
    found = ledger(tries_at([folder], {JobRef("slurm", "64"): kept}), on_gpus=False)
    assert seconds(found) == {"lost to restart": 30}
