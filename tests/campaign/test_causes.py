"""Why an attempt ended, as the job itself decides it, and how often and when its job runs again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from signal import SIGTERM

import pytest
import torch

from msm_hpc.base.errors import DivergedError, RankLostError, ServerLostError, StoppedBySignalError, UserError
from msm_hpc.config.stages import ExportConfig
from msm_hpc.graph import kinds
from msm_hpc.graph.steps import Step
from msm_hpc.launch.causes import Cause
from msm_hpc.launch.job import current_job
from msm_hpc.launch.slurm_nodes import nodes_of
from msm_hpc.store.bad_nodes import bad_nodes
from msm_hpc.store.records import Attempt, now
from msm_hpc.store.store import Store
from tests.commands import Commands

STEP = Step("export", "x", ExportConfig(), {})
FINE, DOWN = "NodeName=n2 State=IDLE Owner=N/A", "NodeName=n2 State=DOWN* Owner=N/A"
Run = Callable[[BaseException | None], Attempt]


@pytest.fixture
def run(store: Store, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a step whose stage raises an error; returns the record of the attempt."""
    kind = kinds.Kind(kinds.KINDS["export"].version, ExportConfig, dict, "", carry_over="of this test")
    monkeypatch.setitem(kinds.KINDS, "export", kind)

    def make(error: BaseException | None) -> Attempt:
        from msm_hpc.campaign.runner import run_step

        def stage(*arguments: object) -> None:
            if error:
                raise error

        monkeypatch.setattr(kinds.Kind, "load", lambda kind: stage)
        monkeypatch.setattr(kinds.Kind, "load_carry_over", lambda kind: lambda earlier, out: None)
        store.register((STEP,))
        if error is None:
            run_step(str(store.root), STEP.id)
        else:
            with pytest.raises(type(error)):
                run_step(str(store.root), STEP.id)
        return store.of(STEP).attempts()[-1]

    return make


@pytest.fixture
def slurm(commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes this process job 64 on n1, where scontrol answers with ``shown``; returns the file of the calls."""
    job = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "64", "SUBMITIT_FOLDER": str(tmp_path)}
    for name, value in (job | {"SLURMD_NODENAME": "n1", "SLURM_JOB_PARTITION": "main"}).items():
        monkeypatch.setenv(name, value)
    nodes_of.cache_clear()
    return lambda shown: commands(scontrol=f"echo '{shown}'", squeue="", sinfo="printf 'main* n%s\\n' 1 2 3 4")


def changes(calls: Path) -> list[str]:
    """What scontrol was told to do, and not asked."""
    lines = calls.read_text().splitlines() if calls.exists() else []
    return [line.removeprefix("scontrol ") for line in lines if line.startswith("scontrol ") and " show " not in line]


RAISED: list[tuple[BaseException, Cause, str]] = [
    (MemoryError(), "oom", "MemoryError raised at test_causes.py:"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), "oom", "OutOfMemoryError raised at "),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "oom", "RuntimeError raised at "),
    (DivergedError("loss is nan at optimizer step 7"), "nan", "DivergedError raised at "),
    (UserError("rows.jsonl:3: no field 'text'; add it"), "user", "UserError raised at "),
    (ConnectionResetError("Connection reset by peer"), "code", "ConnectionResetError raised at "),
    (RankLostError("rank 2 (host n2, process 7) hangs", 2, "n2"), "rank lost", "rank 2 (host n2, process 7) hangs"),
    (
        RankLostError("rank 2 failed first: CUDA out of memory.", 2, "n2"),
        "oom",
        "rank 2 failed first",
    ),
    (RankLostError("rank 2 failed first: DivergedError: loss is nan", 2, "n2"), "nan", "rank 2 failed first"),
    (ServerLostError("msm-1 ended; its last lines:\n  CUDA out of memory."), "oom", "CUDA out of memory."),
]


@pytest.mark.parametrize(("error", "cause", "evidence"), RAISED)
def test_an_exception_decides_and_is_quoted_with_its_line(
    run: Run, slurm: Callable[[str], Path], error: BaseException, cause: Cause, evidence: str
) -> None:
    calls = slurm(FINE)
    record = run(error)
    assert (record.cause, record.evidence[: len(evidence)]) == (cause, evidence)
    assert changes(calls) == [], "what would end so again is not put back into the queue"


def test_a_rank_whose_node_is_down_was_lost_with_it_and_the_job_runs_again_elsewhere(
    run: Run, store: Store, slurm: Callable[[str], Path]
) -> None:
    calls = slurm(DOWN)
    record = run(RankLostError("rank 2 (host n2.example, process 7) gives no sign of life", 2, "n2.example"))
    assert (record.cause, record.evidence) == ("node", "scontrol: node n2 is DOWN*")
    assert [node.name for node in bad_nodes(store.root)] == ["n2"]
    assert changes(calls) == ["requeue 64", "update JobId=64 ExcNodeList=n2"]


def test_an_error_of_its_gpus_memory_takes_the_job_to_another_node(
    run: Run, store: Store, slurm: Callable[[str], Path]
) -> None:
    calls = slurm(FINE)
    assert run(RuntimeError("CUDA error: uncorrectable ECC error encountered")).cause == "node"
    (node,) = bad_nodes(store.root)
    assert (node.name, node.reason) == ("n1", "RuntimeError: CUDA error: uncorrectable ECC error encountered")
    assert changes(calls) == ["requeue 64", "update JobId=64 ExcNodeList=n1"]


def test_a_job_whose_server_ended_starts_another_but_not_for_ever(run: Run, slurm: Callable[[str], Path]) -> None:
    calls = slurm(FINE)
    records = [run(ServerLostError("msm-1 ended while it was asked")) for _ in range(3)]
    assert {record.cause for record in records} == {"server lost"}
    assert [line for line in changes(calls) if line == "requeue 64"] == ["requeue 64"] * 2
    assert "3 times in a row" in str(records[-1].message)


def test_a_job_that_lost_a_node_is_told_from_one_that_was_requeued(
    run: Run, slurm: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n1,n2")
    stopped = StoppedBySignalError("saved", SIGTERM, progressed=True)
    slurm(f"JobId=64 Restarts=1; {FINE}")
    record = run(stopped)
    assert (record.cause, record.evidence) == ("preempted", "scontrol: Restarts=1")
    slurm(f"{DOWN} Restarts=1")
    record = run(stopped)
    assert (record.cause, record.evidence) == ("node", "scontrol: Restarts=1; scontrol: node n2 is DOWN*")


def test_preemption_is_followed_with_longer_and_longer_pauses_and_not_for_ever(
    run: Run, slurm: Callable[[str], Path]
) -> None:
    calls = slurm("PreemptTime=2026-01-01T10:00:00")
    for _ in range(10):
        record = run(StoppedBySignalError("stopped", SIGTERM, progressed=False))
        assert record.evidence == "scontrol: PreemptTime=2026-01-01T10:00:00"
    pauses = [0, 300, 600, 1200, 2400, *[3600] * 4]
    expected = [["requeue 64", *([f"update JobId=64 StartTime=now+{pause}"] if pause else [])] for pause in pauses]
    assert changes(calls) == [line for lines in expected for line in lines]
    assert str(record.message).startswith("stopped; it ended by preempted 10 times in a row with nothing more saved")
    run(StoppedBySignalError("4 of 9 steps are saved", SIGTERM, progressed=True))
    assert changes(calls)[-1] == "requeue 64", "it got further"


def cut_off(store: Store, number: int, host: str, log: str = "", job: str = "64") -> None:
    """An attempt of a job that ended without a record."""
    before = Attempt(replace(current_job(), id=job, host=host), host, 1, None, log, now(), job_start=f"{number}")
    store.of(STEP).write_attempt(number, before)


def test_a_job_that_runs_again_reports_the_node_that_it_lost(
    run: Run, store: Store, slurm: Callable[[str], Path]
) -> None:
    slurm(DOWN)
    cut_off(store, 1, "n2")
    assert run(None).cause == "done"
    assert [(node.name, node.reason) for node in bad_nodes(store.root)] == [("n2", "scontrol: node n2 is DOWN*")]


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("slurmstepd: error: *** JOB 64 ON n2 CANCELLED AT now DUE TO NODE FAILURE ***", ["n2"]),
        ("srun: error: Node failure on n3", ["n3"]),
        ("Killed", []),
    ],
)
def test_a_node_that_has_come_back_is_known_by_the_log(
    run: Run, store: Store, slurm: Callable[[str], Path], tmp_path: Path, line: str, reported: list[str]
) -> None:
    slurm(FINE)
    log = tmp_path / "64_0_log.err"
    marker = f"export/x starts in {store.of(STEP).attempt(1).out}"
    log.write_text(f"srun: error: Node failure on n9, of an earlier start\n{marker}\nstep 7\n{line}\n")
    cut_off(store, 1, "n2", str(log))
    run(None)
    assert [node.name for node in bad_nodes(store.root)] == reported


@pytest.mark.parametrize(
    ("last_words", "refused"),
    [("DUE TO NODE FAILURE", True), ("DUE TO PREEMPTION", False), ("Killed", False)],
)
def test_a_step_that_takes_its_nodes_down_is_not_tried_on_all(
    run: Run, store: Store, slurm: Callable[[str], Path], tmp_path: Path, last_words: str, refused: bool
) -> None:
    slurm(FINE)
    log = tmp_path / "64_0_log.err"
    for number, words in enumerate(("DUE TO NODE FAILURE", last_words, "DUE TO NODE FAILURE"), start=1):
        with log.open("a") as file:
            file.write(f"export/x starts in {store.of(STEP).attempt(number).out}\nJOB 64 ON n{number} {words}\n")
        cut_off(store, number, f"n{number}", str(log))
    if not refused:
        assert run(None).cause == "done"
        return
    record = run(UserError("the stage is not reached"))
    assert record.cause == "user"
    assert str(record.message).startswith(
        "the last 3 starts of this job, on n1, n2, n3, ended as their nodes were lost"
    )
    assert [node.name for node in bad_nodes(store.root)] == ["n3"]


def test_the_attempts_of_another_job_do_not_count(run: Run, store: Store, slurm: Callable[[str], Path]) -> None:
    slurm(DOWN)
    for number in (1, 2, 3):
        cut_off(store, number, "n2", job="63")
    assert run(None).cause == "done"
    assert bad_nodes(store.root) == []
