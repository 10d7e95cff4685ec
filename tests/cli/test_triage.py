"""``msm triage``: the first failing rank, its host, time, line and cause, by the logs of all ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from msm_hpc.cli.main import main
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store
from tests.commands import Commands

STAMP = "2026-01-01T00:00:00.000+00:00"
STEP = "pretrain/base/seed0"
HELD = "msm_hpc.campaign.holding"
WAITED = "distributed_c10d.py:3087, in all_reduce"
LOST = "RankLostError: rank 1 (host n2, process 77)"


@pytest.fixture
def step(graph: Callable[..., Graph]) -> Step:
    return graph().find(STEP)


@pytest.fixture
def fails(store: Store, step: Step, commands: Commands) -> Callable[..., None]:
    """Has the step fail with the given logs of its ranks."""
    commands(squeue="", sacct="", scontrol="")
    store.jobs.mkdir()

    def fail(cause: str | None, message: str | None, *logs: str, job_log: str = "") -> None:
        ended = replace(ATTEMPT, ranks=len(logs), log=str(store.jobs / "64_3.x_0_log.err"), cause=cause)  # type: ignore[arg-type]
        store.of(step).write_attempt(1, replace(ended, message=message, end=STAMP if cause else None))
        begun = f"2026-01-01 10:00:00,000 msm_hpc.campaign.runner {STEP} starts in {store.of(step).attempt(1).out}\n"
        for rank, log in enumerate(logs):
            (store.jobs / f"64_3.x_{rank}_log.err").write_text(f"{RESTARTED}{begun}{log}")
        (store.jobs / "64_3_0_log.err").write_text(job_log)

    return fail


ATTEMPT = Attempt(JobRef("slurm", "64_3"), "n1", 1, None, "", STAMP)
RESTARTED = f"2026-01-01 09:00:00,000 {HELD} rank 0 on n9 ends with ValueError: of the start before\n"


def ends(at: str, rank: int, host: str, error: str, file: str = "step.py", function: str = "train") -> str:
    trace = f'Traceback (most recent call last):\n  File "/x/{file}", line 94, in {function}\n    x()\n{error}\n'
    by_torch = "".join(f"[rank{rank}]: {line}\n" for line in trace.splitlines())
    return f"2026-01-01 10:00:{at},250 {HELD} rank {rank} on {host} ends with {error}\n{by_torch}"


def stands(at: str, file: str, line: int, function: str) -> str:
    stack = f'  File "/x/step.py", line 7, in step\n    go()\n  File "/x/{file}", line {line}, in {function}\n    x()\n'
    return f"2026-01-01 10:00:{at},000 msm_hpc.training.watch.watchdog {LOST} hangs. This rank stands in\n{stack}\n"


@pytest.fixture
def triage(store: Store, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def ask(*arguments: str) -> str:
        assert main(["triage", *arguments, "campaign=demo", f"root={store.root}"]) == 0
        return " ".join(capsys.readouterr().out.split())

    return ask


def test_a_rank_that_raised_is_found_by_the_verdict(fails: Callable[..., None], triage: Callable[..., str]) -> None:
    message = "rank 1 (host n2, process 77) failed first: ValueError: boom"
    lost = f"RankLostError: {message}"
    fails("rank lost", message, ends("07", 0, "n1", lost), ends("02", 1, "n2", "ValueError: boom", "data.py", "row"))
    said = triage()
    assert f"{STEP} (train/" in said and "failed (rank lost)" in said
    assert "first: rank 1 on n2 at 2026-01-01 10:00:02: the watchdog names it" in said
    assert "ValueError: boom raised at data.py:94, in row log: " in said and "64_3.x_1_log.err" in said
    assert said.index("1 10:00:02 ValueError: boom data.py:94, in row") < said.index(f"0 10:00:07 {lost} step.py:94")
    assert "of the start before" not in said.partition("first: rank")[2]


def test_of_a_hang_the_rank_is_named_that_never_arrived_and_where_each_stood(
    fails: Callable[..., None], triage: Callable[..., str]
) -> None:
    message = "rank 1 (host n2, process 77) hangs: an optimizer step has taken 90 s, and it is at work in data:94"
    lost = f"RankLostError: {message}"
    waits = stands("01", "distributed_c10d.py", 3087, "all_reduce")
    at_work = stands("01", "data.py", 94, "__getitem__")
    logs = [waits + ends("07", 0, "n1", lost), at_work + ends("07", 1, "n2", lost), waits + ends("07", 2, "n2", lost)]
    fails("rank lost", message, *logs)
    said = triage(STEP)
    assert "first: rank 1 on n2" in said and "it stood at data.py:94, in __getitem__" in said
    assert f"0, 2 10:00:07 {lost} {WAITED}" in said, "those that stood alike are one row"


def test_a_rank_that_was_killed_is_found_by_what_srun_says(
    fails: Callable[..., None], triage: Callable[..., str]
) -> None:
    closed = "RuntimeError: [gloo] Connection closed by peer"
    srun = "srun: error: n1: task 0: Exited with exit code 1\nsrun: error: n2: task 1: Out Of Memory\n"
    fails(None, None, ends("01", 0, "n1", closed), "2026-01-01 10:00:03,000 x step 7\n", job_log=srun)
    said = triage()
    assert "first: rank 1 on n2: srun reports it first: Out Of Memory" in said
    assert "1 - no error in its log, which ends at 10:00:03 -" in said


def test_under_nccl_the_rank_is_named_that_never_came_to_the_collective(
    fails: Callable[..., None], triage: Callable[..., str]
) -> None:
    def timed_out(rank: int, last: int) -> str:
        return f"[Rank {rank}] PG status: last enqueued work: {last}, last completed work: 11\n"

    fails(None, None, timed_out(0, 12), timed_out(1, 11), timed_out(2, 12))
    assert "first: rank 1: it never came to collective 12, for which the others waited" in triage()


def test_else_the_first_error_that_is_no_consequence_counts(
    fails: Callable[..., None], triage: Callable[..., str]
) -> None:
    closed = "RuntimeError: [gloo] Connection closed by peer"
    fails("code", closed, ends("01", 0, "n1", closed), ends("02", 1, "n2", "KeyError: 'text'"))
    assert "first: rank 1 on n2 at 2026-01-01 10:00:02: its error is the first" in triage()
    fails("code", closed, ends("03", 0, "n1", closed), ends("02", 1, "n2", closed))
    assert "first: rank 1 on n2 at 2026-01-01 10:00:02: its error is the first of those that blame" in triage()


def test_a_job_of_one_rank_has_no_table(fails: Callable[..., None], triage: Callable[..., str]) -> None:
    fails("code", "KeyError: 'text'", ends("02", 0, "n1", "KeyError: 'text'"))
    said = triage()
    assert "first: rank 0 on n1 at 2026-01-01 10:00:02" in said and "ended with" not in said


def test_what_a_message_explains_needs_no_ranks(fails: Callable[..., None], triage: Callable[..., str]) -> None:
    fails("user", "rows.jsonl:3: no field 'text'; add it", ends("02", 0, "n1", "UserError: no field"))
    said = triage()
    assert "add it" in said and "first:" not in said


def test_where_nothing_failed_that_is_said(store: Store, step: Step, triage: Callable[..., str]) -> None:
    assert triage() == "No step has failed."
    assert triage(STEP) == f"{STEP} was never tried."


def test_it_fits_80_columns(
    fails: Callable[..., None],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    narrow = Console(width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr("msm_hpc.cli.arguments.terminal", lambda: narrow)
    logs = [ends("07", rank, "n1", f"{LOST} failed first: ValueError: boom") for rank in range(12)]
    fails("rank lost", "rank 1 (host n2, process 77) failed first: ValueError: boom", *logs)
    assert main(["triage", "campaign=demo", f"root={store.root}"]) == 0
    lines = [
        line for line in capsys.readouterr().out.splitlines() if "  | " not in line and str(store.root) not in line
    ]
    assert max(map(len, lines)) <= 80 and any("0, 1, 2 and 9 more" in line for line in lines)
