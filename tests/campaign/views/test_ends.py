"""How an attempt is seen to have ended where it could not say so itself, and what a run says that it tries again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msm_hpc.campaign.views.ends import Ended, ended, last_ends
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.campaign.views.retries import retried
from msm_hpc.config.stages import EvalConfig
from msm_hpc.graph.steps import Step
from msm_hpc.launch.causes import RULES, Cause
from msm_hpc.launch.job import JobRef
from msm_hpc.store.records import Attempt, now
from msm_hpc.store.store import Store
from tests.commands import Commands

ATTEMPT = Attempt(JobRef("slurm", "64_1", "n1", 2.0), "n1", 2, None, "", now())
KILLED = "srun: error: n1: task 1: Killed"
OOM = "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=64.0"


def step(label: str = "x") -> Step:
    return Step("eval", label, EvalConfig(answer=f"{label} {{item}}"), {})


def tried(store: Store, *logs: str, number: int = 1, label: str = "x", **fields: object) -> Step:
    """A step that was tried, with a log for each rank below the lines of an earlier start."""
    one = step(label)
    folder = store.of(one).attempt(number)
    store.jobs.mkdir(exist_ok=True)
    for rank, text in enumerate(logs):
        marker = f"eval/x starts in {folder.out}\n"
        (store.jobs / f"64_1_{rank}_log.err").write_text(f"MemoryError\n{marker}{text}\n")
    given = {"log": str(store.jobs / "64_1_0_log.err")} | fields
    store.of(one).write_attempt(number, replace(ATTEMPT, **given))  # type: ignore[arg-type]
    store.of(one).write_lease(JobRef("slurm", "64_1", started=1.0))
    return one


def end_of(one: Step, store: Store) -> Ended:
    end = ended(one, store, holders([one], store))
    assert end is not None
    return end


NO_ACCOUNTING = "exit 1"
CASES: dict[str, tuple[str, tuple[str, str], dict[str, object], str, str]] = {
    "by the state of a step": (
        "printf '64_1|FAILED|9:0|n1\\n64_1.0|OUT_OF_MEMORY|0:125|n1\\n'",
        (KILLED, "step 7"),
        {},
        "oom",
        "sacct: OUT_OF_MEMORY of step 64_1.0",
    ),
    "by the log of another rank": (NO_ACCOUNTING, (KILLED, OOM), {}, "oom", f"64_1_1_log.err: {OOM}"),
    "by nothing, in accounting": (
        "echo '64_1|FAILED|9:0|n1'",
        (KILLED, "step 7"),
        {},
        "lost",
        "ended without a record; sacct: FAILED of job 64_1, exit status 9, signal 0",
    ),
    "by nothing": (NO_ACCOUNTING, (KILLED, "step 7"), {}, "lost", "ended without a record"),
    "a lost rank was killed for its memory": (
        NO_ACCOUNTING,
        (KILLED, OOM),
        {"cause": "rank lost", "message": "rank 1 is gone", "end": now()},
        "oom",
        f"64_1_1_log.err: {OOM}",
    ),
    "a job that was stopped, too": (
        "echo '64_1|OUT_OF_MEMORY|0:125|n1'",
        ("step 7", "step 7"),
        {"cause": "cancelled", "message": "saved", "end": now(), "evidence": "SIGTERM"},
        "oom",
        "sacct: OUT_OF_MEMORY of job 64_1",
    ),
    "a rank that hangs": (
        "echo '64_1|FAILED|1:0|n1'",
        ("step 7", "step 7"),
        {"cause": "rank lost", "message": "rank 1 hangs", "evidence": "rank 1 hangs", "end": now()},
        "rank lost",
        "rank 1 hangs",
    ),
    "what a job recorded stays": (
        "echo '64_1|OUT_OF_MEMORY|0:125|n1'",
        ("step 7", OOM),
        {"cause": "user", "message": "add it", "evidence": "UserError raised at x.py:3", "end": now()},
        "user",
        "UserError raised at x.py:3",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_cause_and_what_shows_it(store: Store, commands: Commands, name: str) -> None:
    sacct, logs, fields, cause, shows = CASES[name]
    commands(squeue="", sacct=sacct, scontrol="")
    end = end_of(tried(store, *logs, **fields), store)
    assert end.cause == cause
    assert shows in (end.evidence, end.message)


def test_of_a_job_of_several_steps_slurms_words_are_in_the_jobs_own_log(store: Store, commands: Commands) -> None:
    commands(squeue="", sacct=NO_ACCOUNTING, scontrol="")
    one = tried(store, OOM, log=str(store.jobs / "64_1.eval-x_0_log.err"))
    (store.jobs / "64_1.eval-x_0_log.err").write_text("step 7\n")
    assert end_of(one, store).evidence == f"64_1_0_log.err: {OOM}"


def test_a_node_that_was_lost_is_named(store: Store, commands: Commands) -> None:
    commands(squeue="", sacct="echo '64_1|NODE_FAIL|0:0|n1'", scontrol="")
    end = end_of(tried(store, "step 7"), store)
    assert (end.cause, end.nodes, end.advice) == ("node", ("n1",), RULES["node"].advice)


def test_a_run_says_what_it_tries_again_and_how_often_it_ended_so(store: Store, commands: Commands) -> None:
    commands(squeue="", sacct="", scontrol="")
    causes: list[tuple[str, Cause]] = [("one", "oom"), ("two", "oom"), ("three", "user"), ("four", "upstream")]
    steps = [tried(store, "", label=label, cause=cause, message="m", end=now()) for label, cause in causes]
    for number in (2, 3):
        tried(store, "", label="two", number=number, cause="oom", message="m", end=now())
    ends = last_ends([*steps, step("new")], store, holders(steps, store))
    assert list(retried(ends)) == [
        f"Run again after oom: 2 steps (eval/one, eval/two, eval/two 3 times in a row): {RULES['oom'].advice}",
        "Run again after user: 1 step (eval/three)",
    ]
    assert list(retried(ends, {steps[2].identity})) == ["Run again after user: 1 step (eval/three)"]
