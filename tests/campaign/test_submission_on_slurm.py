"""Submission on a real Slurm, with jobs that begin in an hour: a killed run, healing, and what a site restricts."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.campaign import array_requests
from msm_hpc.campaign.slurm_run import left_alone, plan_submission, submit
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.cli.main import main
from msm_hpc.config.cluster import Cluster, Resources, WorkClasses
from msm_hpc.config.stages import ExportConfig, GenerateConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch import slurm_commands
from msm_hpc.store.store import Store
from tests.campaign.shrunk import SHRUNK
from tests.composed import graph_of, load_config
from tests.slurm_tools import configured, why_no_cluster

SOURCES = [Step("generate", f"{count}", GenerateConfig(product="pairs", count=count), {}) for count in (1, 2)]
READERS = [Step("export", f"of {source.label}", ExportConfig(), {"of": source}) for source in SOURCES]
LAST = Step("export", "last", ExportConfig(), {"one": READERS[0], "two": READERS[1]})
GRAPH = Graph((LAST,))
LATER = Resources(memory_gb=0.1, sbatch={"begin": "now+1hour", "comment": "the site's own"})
CLUSTER = Cluster(launcher="slurm", resources=WorkClasses(cpu=LATER))
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def queue(store: Store) -> Iterator[str]:
    """The name of a campaign of its own, whose jobs are cancelled at the end."""
    if reason := why_no_cluster():
        pytest.skip(reason)
    slurm_commands.settings.cache_clear()
    name = f"drill{time.time_ns()}"
    yield name
    if left := jobs_of(name):
        subprocess.run(["scancel", *left], check=True)


def run(name: str, store: Store, cluster: Cluster = CLUSTER) -> list[str]:
    return submit(lambda: plan_submission(name, GRAPH, store, cluster), store, cluster, print)[1]


def jobs_of(name: str) -> list[str]:
    """The ids of the queued jobs of a campaign."""
    return [row.split()[0] for row in rows_of(name)]


def rows_of(name: str, job: str = "") -> list[str]:
    """The id, name, state and reason of each, or of one."""
    command = ["squeue", "--noheader", "--array", "--format=%i %j %T %r", *([f"--jobs={job}"] if job else [])]
    rows = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [row for row in rows if f"msm-{name}-" in row]


def check_queued_once(name: str, store: Store) -> None:
    jobs = holders(GRAPH.steps, store)
    held = [jobs.lease(step) for step in GRAPH.steps if jobs.alive(step)]
    assert sorted(job.id if job else "none" for job in held) == sorted(jobs_of(name))


def run_and_die(name: str, store: Store) -> None:
    sbatch, calls = slurm_commands.sbatch, 0

    def dying(script: str, *options: str) -> slurm_commands.Answer:
        nonlocal calls
        answer = sbatch(script, *options)
        calls += not options
        if calls == 2:
            signal.raise_signal(signal.SIGKILL)
        return answer

    slurm_commands.sbatch = dying  # in a process of its own
    run(name, store)


@pytest.mark.slow
@pytest.mark.slurm
def test_what_a_killed_run_had_submitted_is_taken_on(queue: str, store: Store) -> None:
    process = multiprocessing.get_context("fork").Process(target=run_and_die, args=(queue, store))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    before = jobs_of(queue)
    assert len(before) == 4
    assert len(run(queue, store)) == 1
    assert set(before) < set(jobs_of(queue))
    check_queued_once(queue, store)


@pytest.mark.slow
@pytest.mark.slurm
def test_what_waits_for_a_cancelled_job_waits_for_the_one_in_its_place(queue: str, store: Store) -> None:
    generate, _, last = run(queue, store)
    subprocess.run(["scancel", f"{generate}_1"], check=True)
    while f"{generate}_1" in jobs_of(queue):
        time.sleep(0.2)
    *_, new = run(queue, store)
    check_queued_once(queue, store)
    left = jobs_of(queue)
    assert {f"{generate}_0", new} < set(left) and last not in left and len(left) == len(GRAPH.steps)
    shown = subprocess.run(["scontrol", "show", "job", new], check=True, capture_output=True, text=True).stdout
    assert f"afterany:{int(generate) + 1}_0" in shown, "the other reader's job is as it was"


@pytest.mark.slow
@pytest.mark.slurm
def test_what_slurm_refuses_is_known_before(queue: str, store: Store) -> None:
    wrong = replace(CLUSTER, resources=WorkClasses(cpu=replace(LATER, sbatch={"gress": "gpu:1"})))
    with pytest.raises(
        UserError, match=r"unrecognized option '--gress=gpu:1'; cluster\.resources\.cpu\.sbatch has gress"
    ):
        submit(lambda: plan_submission(queue, GRAPH, store, wrong), store, wrong, print)
    assert jobs_of(queue) == []


@pytest.mark.slow
@pytest.mark.slurm
def test_while_all_nodes_are_drained_a_campaign_waits_for_them(queue: str, store: Store) -> None:
    now = replace(CLUSTER, resources=WorkClasses(cpu=Resources(memory_gb=0.1)))
    node = ["scontrol", "update", "nodename=n[1-2]"]
    subprocess.run([*node, "state=drain", "reason=maintenance"], check=True)
    try:
        generate, *_ = run(queue, store, now)
        check_queued_once(queue, store)
        first = f"{generate}_0"
        while "Nodes required" not in rows_of(queue, first)[0]:
            time.sleep(0.2)
        subprocess.run(["scontrol", "hold", first], check=True)
        assert run(queue, store, now) == [], "one that is held is queued"
        assert "JobHeld" in rows_of(queue, first)[0]
        subprocess.run(["scancel", *jobs_of(queue)], check=True)
    finally:
        subprocess.run([*node, "state=resume"], check=True)


def sacctmgr(what: str, *more: str) -> None:
    subprocess.run(["sacctmgr", "--immediate", *what.split(), *more], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.slurm
def test_at_an_accounts_limit_of_queued_jobs_one_of_them_submits_what_is_left(queue: str, store: Store) -> None:
    sacctmgr("add account", queue)
    sacctmgr("add user root", f"account={queue}", "MaxSubmitJobs=4")
    cluster = replace(CLUSTER, resources=WorkClasses(cpu=replace(LATER, account=queue)))
    for _ in range(2):
        plan, _ = submit(lambda: plan_submission(queue, GRAPH, store, cluster), store, cluster, print)
        assert plan.rest and plan.rest.steps == 2
        assert len(jobs_of(queue)) == 4 and plan.rest.job in jobs_of(queue)
    sacctmgr("modify user where name=root", f"account={queue}", "set", "MaxSubmitJobs=6")
    assert len(run(queue, store, cluster)) == 2
    assert plan.rest.job not in jobs_of(queue)
    check_queued_once(queue, store)


def sleep(root: str, *step_ids: str) -> None:
    """What jobs call, to be still there when they are looked at."""
    time.sleep(300)


@pytest.mark.slow
@pytest.mark.slurm
def test_at_that_limit_one_of_those_that_run_gives_way_where_none_waits(
    queue: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sacctmgr("add account", queue)
    sacctmgr("add user root", f"account={queue}", "MaxSubmitJobs=2")
    now = Resources(memory_gb=0.1, sbatch={"account": queue})
    cluster, sbatch = replace(CLUSTER, resources=WorkClasses(cpu=now)), slurm_commands.sbatch

    def sbatch_once_all_run(script: str, *options: str) -> slurm_commands.Answer:
        while not options and "PENDING" in [row.split()[2] for row in rows_of(queue)]:
            time.sleep(0.2)
        return sbatch(script, *options)

    monkeypatch.setattr(array_requests, "run_steps", sleep)
    monkeypatch.setattr(slurm_commands, "sbatch", sbatch_once_all_run)
    plan, (first,) = submit(lambda: plan_submission(queue, GRAPH, store, cluster), store, cluster, print)
    assert plan.rest and (plan.rest.steps, plan.rest.stopped) == (4, f"{first}_1")
    assert jobs_of(queue) == [plan.rest.job, f"{first}_0"]


@pytest.mark.slow
@pytest.mark.slurm
def test_a_campaign_of_more_jobs_than_may_be_queued_gets_done(queue: str, tmp_path: Path) -> None:
    sacctmgr("add account", queue)
    sacctmgr("add user root", f"account={queue}", "MaxSubmitJobs=3")
    overrides = [
        *SHRUNK,
        "campaign.arms=[init]",
        "stages.pretrain.layout.data_parallel=1",
        "cluster=slurm",
        "cluster.max_array_size=2",
        f"cluster.resources.cpu={{account: {queue}, memory_gb: 1.5, time_minutes: 20}}",
        f"root={tmp_path}",
    ]
    graph, store = graph_of(load_config(overrides)), Store(tmp_path)
    assert main(["run", *overrides]) == 0
    assert len(jobs_of("demo")) == 3
    deadline = time.monotonic() + 600
    while not all(map(store.done, graph.steps)):
        assert time.monotonic() < deadline and jobs_of("demo"), [*(tmp_path / "jobs").glob("*.err")]
        assert sum("-rest " in row for row in rows_of("demo")) <= 1
        time.sleep(1)
    assert all(len(store.of(step).attempts()) == 1 for step in graph.steps)


def as_nobody(function: Callable[[], None]) -> None:
    """Run a function as the user nobody."""

    def call() -> None:
        os.setgroups([])
        os.setgid(NOBODY.pw_gid)
        os.setuid(NOBODY.pw_uid)
        function()

    process = multiprocessing.get_context("fork").Process(target=call)
    process.start()
    process.join(120)
    assert process.exitcode == 0


@pytest.mark.slow
@pytest.mark.slurm
def test_jobs_that_a_user_may_not_see_are_left_alone_until_they_are_forgotten(queue: str) -> None:
    def left_to_root() -> None:
        plan, ids = submit(lambda: plan_submission(queue, GRAPH, store, CLUSTER), store, CLUSTER, print)
        assert (ids, len(plan.unseen)) == ([], len(GRAPH.steps))
        (said,) = left_alone(plan, store, CLUSTER)
        (root / "command").write_text(said.rpartition("forget it: ")[2])

    def forget_and_run() -> None:
        subprocess.run((root / "command").read_text(), shell=True, check=True)
        assert len(run(queue, store)) == 3

    sacctmgr("add account", queue)
    sacctmgr("add user nobody", f"account={queue}")
    umask = os.umask(0)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o777)
        root = Path(folder)
        store = Store(root)
        try:
            with configured("PrivateData=jobs"):
                run(queue, store)
                as_nobody(left_to_root)
                subprocess.run(["scancel", *jobs_of(queue)], check=True)
                as_nobody(left_to_root)
                as_nobody(forget_and_run)
        finally:
            os.umask(umask)
        assert len(jobs_of(queue)) == len(GRAPH.steps)
