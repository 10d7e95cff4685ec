"""Submission as a transaction: killed anywhere or run twice at once, every step is queued exactly once."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_json
from msm_hpc.campaign.array_requests import SubmissionPlan
from msm_hpc.campaign.holding import take
from msm_hpc.campaign.local_run import RunState, run_local
from msm_hpc.campaign.slurm_run import left_alone, plan_submission, submit
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.stages import ExportConfig, GenerateConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch import slurm_commands
from msm_hpc.launch.causes import Cause
from msm_hpc.launch.job import JobRef, local_job, user_name
from msm_hpc.store.folder import LeaseHeldError
from msm_hpc.store.journal import Journal
from msm_hpc.store.look import Look
from msm_hpc.store.records import Attempt, now
from msm_hpc.store.store import Store
from tests.toy_slurm import ToySlurm, in_the_path

FORK = multiprocessing.get_context("fork")
CLUSTER = Cluster(launcher="slurm")


SOURCES = [Step("generate", f"{count}", GenerateConfig(product="pairs", count=count), {}) for count in (1, 2)]
ONE, TWO = (Step("export", f"of {source.label}", ExportConfig(), {"of": source}) for source in SOURCES)
LAST = Step("export", "last", ExportConfig(), {"one": ONE, "two": TWO})
GRAPH = Graph((LAST,))
"""Three arrays: two sources, what is made of each, and what reads both."""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToySlurm]:
    with in_the_path(tmp_path / "slurm", monkeypatch) as toy:
        yield toy


def run(store: Store, graph: Graph = GRAPH, cluster: Cluster = CLUSTER) -> tuple[SubmissionPlan, list[str]]:
    """What ``msm run`` does once it has composed its campaign."""
    return submit(lambda: plan_submission("demo", graph, store, cluster), store, cluster, print)


def check_queued_once(store: Store, slurm: ToySlurm) -> None:
    """Every step has one job, which is in the queue, and every job there belongs to a step."""
    jobs = holders(GRAPH.steps, store)
    held = [jobs.lease(step) for step in GRAPH.steps if jobs.alive(step)]
    ids = [job.id for job in held if job is not None]
    assert len(ids) == len(GRAPH.steps)
    assert sorted(ids) == sorted(slurm.queue())


def test_a_run_queues_every_step_and_the_next_finds_them(store: Store, slurm: ToySlurm) -> None:
    plan, ids = run(store)
    assert ids == ["64", "65", "66"]
    assert [name for _, _, name, _ in slurm.submitted()] == [f"msm-demo-{array.name}" for array in plan.arrays]
    assert [waits for *_, waits in slurm.submitted()] == ["", "aftercorr:64", "afterok:65"]
    check_queued_once(store, slurm)
    again, ids = run(store)
    assert (again.arrays, ids, len(again.running)) == ((), [], len(GRAPH.steps))


EVENTS: list[tuple[Any, str]] = [
    (Journal, "rewrite"),
    (Journal, "add"),
    (Store, "register"),
    (slurm_commands, "sbatch"),
]


def run_and_die(store: Store, number: int, after: bool) -> None:
    """Submit in a process that dies by SIGKILL ahead of call ``number`` of :data:`EVENTS`, or after it."""
    calls = Counter[str]()

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls["all"] += 1
            dies = calls["all"] == number
            if dies and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments)
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for owner, name in EVENTS:
        setattr(owner, name, dying(getattr(owner, name)))  # in a process of its own
    run(store)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(1, 13))
def test_a_run_killed_anywhere_is_taken_up_by_the_next(store: Store, slurm: ToySlurm, number: int, after: bool) -> None:
    process = FORK.Process(target=run_and_die, args=(store, number, after))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    run(store)
    check_queued_once(store, slurm)
    assert len(slurm.submitted()) == 3


def test_two_runs_at_once_submit_once(store: Store, slurm: ToySlurm) -> None:
    slurm.slow(0.2)
    runs = [FORK.Process(target=run, args=(store,)) for _ in range(3)]
    for each in runs:
        each.start()
    for each in runs:
        each.join(60)
    assert [each.exitcode for each in runs] == [0, 0, 0]
    check_queued_once(store, slurm)
    assert len(slurm.submitted()) == 3


def test_sbatch_dies_with_its_run(store: Store, slurm: ToySlurm) -> None:
    slurm.slow(1.5)
    process = FORK.Process(target=run, args=(store,))
    process.start()
    while not slurm.calls("sbatch"):
        process.join(0.02)
    process.kill()
    process.join(60)
    slurm.slow(0)
    run(store)
    check_queued_once(store, slurm)
    assert len(slurm.submitted()) == 3


def test_what_has_ended_is_submitted_again_and_forgotten(store: Store, slurm: ToySlurm) -> None:
    run(store)
    slurm.end(*slurm.queue())
    _, ids = run(store)
    assert ids == ["67", "68", "69"]
    assert [each.job for each in Journal(store.root).read()] == ids


def test_a_line_that_was_cut_short_counts_for_nothing(store: Store, slurm: ToySlurm) -> None:
    run(store)
    with Journal(store.root).path.open("a") as file:
        file.write('{"token": "msm-')
    assert run(store)[1] == []
    check_queued_once(store, slurm)


def test_where_squeue_fails_nothing_is_submitted(store: Store, slurm: ToySlurm) -> None:
    run(store)
    (slurm.folder / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error' >&2; exit 1\n")
    with pytest.raises(UserError, match="squeue failed: slurm_load_jobs error; is the Slurm controller up"):
        run(store)
    assert len(slurm.submitted()) == 3


def test_without_slurm_nothing_is_written_but_the_reason_said(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="sbatch is not on the PATH; run on a login node, or use cluster=local"):
        run(store)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_job_that_sbatch_did_not_tell_of_is_found(store: Store, slurm: ToySlurm) -> None:
    script = slurm.folder / "sbatch"
    script.write_text(script.read_text() + 'echo "sbatch: error: Socket timed out on send/recv operation" >&2; exit 1')
    _, ids = run(store)
    assert ids == ["64", "65", "66"]
    check_queued_once(store, slurm)


POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        (
            "sbatch: unrecognized option '--gress=gpu'",
            r"cluster\.resources\.cpu\.sbatch has gress, no option of sbatch",
        ),
        ("allocation failure: Invalid partition name specified", r"see cluster\.resources\.cpu\.partition"),
        ("sbatch: error: Batch job submission failed: Invalid qos", r"see cluster\.resources\.cpu\.qos"),
        (f"error: QOSMaxWallDurationPerJobLimit; {POLICY}", r"see cluster\.resources\.cpu\.time_minutes"),
        (f"error: QOSMaxCpuPerJobLimit; {POLICY}", r"cluster\.resources\.\w+\.account or \S+ does not allow that much"),
        ("allocation failure: Invalid job array specification", r"lower cluster\.max_array_size"),
        ("allocation failure: Requested node configuration is not available", r"no node has what is asked for: c"),
        ("allocation failure: something new", r"something new; see cluster\.resources\.cpu"),
    ],
)
def test_what_sbatch_would_refuse_is_known_before_anything_is_submitted(
    store: Store, slurm: ToySlurm, reason: str, fix: str
) -> None:
    slurm.refuse("test-only", reason)
    with pytest.raises(UserError, match=rf"sbatch would refuse msm-demo-export: .*{fix}"):
        run(store)
    assert (slurm.submitted(), Journal(store.root).read()) == ([], ())
    assert len(slurm.calls("sbatch")) == 1, "of arrays of one shape, the largest"


def test_where_nodes_are_away_jobs_wait_for_them(store: Store, slurm: ToySlurm) -> None:
    slurm.refuse("test-only", "allocation failure: Requested node configuration is not available")
    (slurm.folder / "sinfo").write_text('#!/bin/sh\ncase "$*" in *--states=down,drain*) echo "n[1-2]";; esac\n')
    assert len(run(store)[1]) == 3


def finish(store: Store, *steps: Step) -> None:
    for step in steps:
        (store.of(step).path / "out").mkdir(parents=True)
        write_json(store.of(step).path / "done.json", {"files": {}, "attempt": 1, "at": now()})


def test_what_waits_for_a_failed_step_is_taken_back_and_waits_for_the_new_one(store: Store, slurm: ToySlurm) -> None:
    run(store)
    finish(store, SOURCES[0])
    slurm.end("64_0", "64_1", "65_1")  # of two its source has failed, and Slurm has dropped what waited for it
    plan, ids = run(store)
    assert {step.identity for array in plan.arrays for step in array.steps} == {
        each.identity for each in (SOURCES[1], TWO, LAST)
    }
    assert slurm.calls("scancel") == ["--quiet 66"]
    *_, waits = slurm.submitted()[-1]
    assert waits == "afterok:68,afterany:65_0"
    assert sorted(slurm.queue()) == sorted(["65_0", *ids])


def test_a_job_that_has_started_is_waited_for_and_not_cancelled(store: Store, slurm: ToySlurm) -> None:
    run(store)
    slurm.end("64_0", "64_1", "65_0", "65_1")
    slurm.start_job("66")
    run(store)
    assert slurm.calls("scancel") == []
    assert slurm.submitted()[-1][-1] == "afterok:68,afterany:66"


def test_a_step_of_a_local_run_is_not_queued(store: Store, slurm: ToySlurm) -> None:
    store.of(ONE).write_lease(local_job())
    with pytest.raises(UserError, match=rf"process {os.getpid()} of .* is running a step .*delete .*lease\.json"):
        run(store)
    assert slurm.submitted() == []


def test_the_lease_of_a_local_process_that_is_gone_does_not_go_to_the_nodes(store: Store, slurm: ToySlurm) -> None:
    store.of(ONE).write_lease(replace(local_job(), id="999999999"))
    run(store)
    check_queued_once(store, slurm)
    assert store.of(ONE).lease() is None, "a job on another host would take that process for living"


def test_a_local_run_waits_for_a_step_that_is_queued(store: Store, slurm: ToySlurm) -> None:
    run(store)
    finish(store, *GRAPH.steps[:-1])

    def look(state: RunState) -> None:
        if LAST.identity in state.foreign and slurm.queue():
            finish(store, LAST)
            slurm.end(*slurm.queue())

    state = run_local(GRAPH, store, Cluster(launcher="local"), look)
    assert state.done == {step.identity for step in GRAPH.steps}


PRIVATE = "#!/bin/sh\necho 'ClusterName = here'; echo 'PrivateData = jobs'\n"


def test_another_users_unanswered_submission_is_neither_guessed_nor_forgotten(store: Store, slurm: ToySlurm) -> None:
    (slurm.folder / "scontrol").write_text(PRIVATE)
    process = FORK.Process(target=run_and_die, args=(store, 4, True))
    process.start()
    process.join(60)
    slurm.end(*slurm.queue())  # from here it looks gone
    (intent,) = Journal(store.root).read()
    Journal(store.root).rewrite([type(intent)(**{**vars(intent), "user": "somebody"})])
    with pytest.raises(UserError, match=r"`msm run` of somebody was stopped while it submitted .* let somebody run"):
        run(store)
    assert [each.user for each in Journal(store.root).read()] == ["somebody"]


def test_another_users_hidden_jobs_are_not_submitted_twice(store: Store, slurm: ToySlurm) -> None:
    run(store)
    (slurm.folder / "scontrol").write_text(PRIVATE)
    slurm_commands.settings.cache_clear()
    theirs = [type(each)(**{**vars(each), "user": "somebody"}) for each in Journal(store.root).read()]
    Journal(store.root).rewrite(theirs)
    slurm.end(*slurm.queue())
    plan, ids = run(store)
    assert (ids, len(plan.running), plan.unseen) == ([], len(GRAPH.steps), plan.running)
    for step, job, cause in ((SOURCES[0], "64_0", "code"), (SOURCES[1], "64_1", "preempted")):
        attempt = Attempt(JobRef("slurm", job), "n1", 1, None, "", "2026-01-01", "2026-01-01", cause)
        store.of(step).write_attempt(1, attempt)
    plan, _ = run(store)
    assert SOURCES[0].identity not in plan.running, "it has recorded that it failed"
    assert SOURCES[1].identity in plan.running, "it is to run again"


def of_another(store: Store, **changes: str) -> None:
    """Let what was submitted be of another user or cluster."""
    Journal(store.root).rewrite([replace(each, **changes) for each in Journal(store.root).read()])


@pytest.mark.parametrize("changes", [{"user": "somebody"}, {"cluster": "retired"}])
def test_a_job_that_ended_unseen_without_a_record_is_forgotten_by_one_command(
    store: Store, slurm: ToySlurm, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    (slurm.folder / "scontrol").write_text(PRIVATE)
    run(store)
    of_another(store, **changes)
    slurm.end(*slurm.queue())
    gone = JobRef("slurm", "64_0", "n1", 9e9, **{"user": user_name(), "cluster": "here", **changes})
    store.register((SOURCES[0],))
    store.of(SOURCES[0]).write_lease(gone)
    store.of(SOURCES[0]).write_attempt(1, Attempt(gone, "n1", 1, None, "", now()))
    plan, ids = run(store)
    assert (ids, plan.unseen.keys()) == ([], {step.identity for step in GRAPH.steps})
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    for name, value in {"SUBMITIT_FOLDER": store.jobs, "SLURM_JOB_ID": 99, "SLURM_PROCID": 0}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(LeaseHeldError, match="is running in slurm job 64_0 on n1") as held:
        take(store.of(SOURCES[0]), 1, {})

    (said,) = left_alone(plan, store, CLUSTER)
    assert "in job 64, 65, 66" in said
    assert str(held.value).endswith(Journal(store.root).forget(Journal(store.root).read()[:1]))
    subprocess.run(shlex.split(said.rpartition("forget it: ")[2]), check=True)
    assert not holders(GRAPH.steps, store).states
    assert len(run(store)[1]) == 3
    assert take(store.of(SOURCES[0]), 1, {}).number == 2


def test_jobs_of_another_cluster_are_neither_waited_for_nor_cancelled(store: Store, slurm: ToySlurm) -> None:
    (slurm.folder / "scontrol").write_text(PRIVATE)
    run(store)
    of_another(store, cluster="there")
    finish(store, SOURCES[0])
    slurm.end("64_0")  # the others' ids are those of other jobs, here
    journal = Journal(store.root)
    first, second, _ = journal.read()
    journal.rewrite([first, second])
    plan, ids = run(store)
    assert (ids, plan.running.keys()) == ([], {each.identity for each in (SOURCES[1], ONE, TWO)})
    assert plan.waiting == (LAST,)
    assert [line.partition(";")[0] for line in left_alone(plan, store, CLUSTER)] == [
        f"Left to {user_name()}: the steps in job 64, 65 of cluster there, which Slurm does not show to you here. If "
        f"it is gone, let {user_name()} run `msm run` again there. If that cannot be, make sure that it is gone, and "
        f"forget it: sed -i -e /{first.token}/d -e /{second.token}/d {journal.path}",
        "Not submitted: 1 steps that read what is made on another cluster, whose jobs no job here can wait for",
    ]
    journal.rewrite([second])
    plan, ids = run(store)
    assert {step.identity for array in plan.arrays for step in array.steps} == {SOURCES[1].identity}
    assert plan.waiting == (LAST,), "the job of the step between is left as it is, whatever it waits for"
    assert slurm.calls("scancel") == []
    assert slurm.submitted()[-1][-1] == ""


def test_a_requeued_job_keeps_its_step(store: Store, slurm: ToySlurm) -> None:
    run(store)
    store.of(GRAPH.steps[0]).write_lease(JobRef("slurm", "64_0", "n1", 9e9))
    store.of(GRAPH.steps[0]).drop_lease()  # as when the signal of an administrator's requeue looks like scancel's
    assert run(store)[1] == []


@pytest.mark.parametrize(
    ("cause", "again"),
    [(None, False), ("timeout", False), ("preempted", False), ("node", False), ("user", True), ("oom", True)],
)
def test_a_living_job_keeps_its_step_but_where_it_gave_it_up(
    store: Store, slurm: ToySlurm, cause: Cause | None, again: bool
) -> None:
    """It may live for others of its steps, or wait in the queue to run again."""
    run(store)
    job = JobRef("slurm", "64_0", "n1", 9e9)
    end = now() if cause else None
    store.of(GRAPH.steps[0]).write_attempt(1, Attempt(job, "n1", 1, None, "", now(), end=end, cause=cause))
    plan, _ = run(store)
    assert ({step.id for array in plan.arrays for step in array.steps} >= {GRAPH.steps[0].id}) == again


@pytest.mark.parametrize("ends", [True, False])
def test_what_a_job_made_between_the_two_looks_is_not_submitted_again(
    store: Store, slurm: ToySlurm, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    run(store)
    look, queue, own = Look(store.root), slurm_commands.queue, store.of(SOURCES[0]).attempt(1)
    begun = Attempt(JobRef("slurm", "64_0"), "n1", 1, None, "", now())
    own.take(begun)

    def later(jobs: Any) -> Any:
        finish(store, SOURCES[0])
        own.write(replace(begun, end=now(), cause="done"))
        if ends:
            slurm.end("64_0")
        return queue(jobs)

    monkeypatch.setattr(slurm_commands, "queue", later)
    plan = plan_submission("demo", GRAPH, look, CLUSTER)
    assert plan.arrays == () and len(plan.running) == len(GRAPH.steps) - 1
