"""What Slurm's states and a log's words say of why a job ended."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from msm_hpc.launch.causes import MOST_QUOTED, RULES, Cause, Finding, in_words
from msm_hpc.launch.job import JobRef
from msm_hpc.launch.launcher import ends
from tests.commands import Commands

JOB, OTHER = JobRef("slurm", "64_1"), JobRef("slurm", "70")

SAID: list[tuple[str, Cause]] = [
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of", "oom"),
    ("RuntimeError: CUDA error: out of memory", "oom"),
    ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "oom"),
    ("RuntimeError: [enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried", "oom"),
    ("MemoryError", "oom"),
    (
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=64.0. Some of the step tasks have been OOM Killed",
        "oom",
    ),
    ("slurmstepd-n1: error: StepId=3.0 exceeded memory limit (852443136 > 104857600), being killed", "oom"),
    ("[Sat Nov 28 20:52:23 2026] Out of memory: Killed process 4242 (python) total-vm:12345kB", "oom"),
    (
        "slurmstepd-n1: error: *** STEP 5.0 ON n1 CANCELLED AT 2026-11-28T20:52:42 DUE TO NODE FAILURE, SEE SLURMCTLD",
        "node",
    ),
    ("RuntimeError: CUDA error: uncorrectable ECC error encountered", "node"),
    ("NVRM: Xid (PCI:0000:3b:00): 79, pid=4242, GPU has fallen off the bus.", "node"),
    ("slurmstepd-n1: error: *** JOB 64 ON n1 CANCELLED AT 2026-11-28T20:52:42 DUE TO TIME LIMIT ***", "timeout"),
    ("slurmstepd-n1: error: *** JOB 2 ON n1 CANCELLED AT 2026-11-28T21:48:23 DUE TO JOB REQUEUE ***", "preempted"),
    ("slurmstepd-n1: error: *** JOB 64 ON n1 CANCELLED AT 2026-11-28T20:52:42 DUE TO PREEMPTION ***", "preempted"),
    ("slurmstepd-n1: error: *** JOB 64 ON n1 CANCELLED AT 2026-11-28T20:52:42 ***", "cancelled"),
    ("torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error", "rank lost"),
    ("RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:3412", "rank lost"),
    ("msm_hpc.base.errors.DivergedError: loss is nan at optimizer step 7", "nan"),
]


@pytest.mark.parametrize(("line", "cause"), SAID)
def test_the_words_of_a_log_show_the_cause_and_are_quoted(line: str, cause: Cause) -> None:
    found = in_words(["step 7, loss 2.3", line, "srun: error: n1: task 0: Killed"], "64_0_log.err")
    assert found == Finding(cause, f"64_0_log.err: {line}")


def test_the_root_of_the_trouble_comes_before_what_follows_from_it() -> None:
    lines = [line for line, _ in SAID]
    assert str(in_words(reversed(lines))).startswith("Finding(cause='oom'")


def test_the_node_that_srun_names_is_the_lost_one() -> None:
    assert in_words(["srun: error: Node failure on n2"]) == Finding("node", "srun: error: Node failure on n2", ("n2",))


def test_words_that_say_nothing_of_a_cause() -> None:
    killed = ["srun: error: n1: task 0: Killed", "*** STEP 3.0 ON n1 CANCELLED AT now ***"]
    usual = [
        "step 7, loss 2.3",
        "n1:7:9 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/IPC, peer 1",
        "ValueError: no",
    ]
    assert in_words([*usual, *killed]) is None


def test_of_a_long_line_the_part_that_matters_is_quoted() -> None:
    found = in_words(["x" * 5000 + " MemoryError " + "y" * 5000])
    assert found and "MemoryError" in found.evidence and len(found.evidence) <= MOST_QUOTED + 2


ROWS = {
    "a step out of memory in a job that failed": (
        "64_1|FAILED|9:0|n1\\n64_1.batch|FAILED|9:0|n1\\n64_1.0|OUT_OF_MEMORY|0:125|n1",
        Finding("oom", "sacct: OUT_OF_MEMORY of step 64_1.0"),
    ),
    "in a job that completed": (
        "64_1|COMPLETED|0:0|n1\\n64_1.0|OUT_OF_MEMORY|0:125|n1",
        Finding("oom", "sacct: OUT_OF_MEMORY of step 64_1.0"),
    ),
    "a lost node": ("64_1|NODE_FAIL|0:0|n1", Finding("node", "sacct: NODE_FAIL of job 64_1", ("n1",))),
    "a time limit": (
        "64_1|TIMEOUT|0:0|n1\\n64_1.0|CANCELLED|0:15|n1",
        Finding("timeout", "sacct: TIMEOUT of job 64_1"),
    ),
    "preempted": ("64_1|PREEMPTED|0:0|n1", Finding("preempted", "sacct: PREEMPTED of job 64_1")),
    "cancelled": ("64_1|CANCELLED by 0|0:0|n1", Finding("cancelled", "sacct: CANCELLED of job 64_1")),
    "killed": ("64_1|FAILED|9:0|n1\\n64_1.0|CANCELLED by 0|0:9|n1", None),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_states_of_steps_count_too(commands: Commands, name: str) -> None:
    rows, finding = ROWS[name]
    calls = commands(
        sacct=f"printf '{rows}\\n70|FAILED|2:0|n2\\n70.0|FAILED|2:0|n2\\n80|RUNNING|0:0|n2\\n'", scontrol=""
    )
    found = ends([JOB, OTHER])
    assert found[JOB].finding == finding
    assert str(found[OTHER]) == "sacct: FAILED of job 70, exit status 2, signal 0"
    (call,) = [line for line in calls.read_text().splitlines() if line.startswith("sacct")]
    assert call.endswith("--jobs=64,70")


def test_of_a_job_on_several_nodes_those_that_are_down_were_lost(commands: Commands) -> None:
    shown = (
        "echo 'NodeName=n1 Arch=x State=IDLE Owner=N/A'; echo 'NodeName=n2 Arch=x State=DOWN* Owner=N/A Reason=gone [r'"
    )
    names = 'if [ "$2" = hostnames ]; then echo n1; echo n2; else ' + shown + "; fi"
    commands(sacct="echo '70|NODE_FAIL|0:0|n[1-2]'", scontrol=names)
    assert ends([OTHER])[OTHER].finding == Finding("node", "sacct: NODE_FAIL of job 70", ("n2",))


SHOWN = (
    "JobId=65 ArrayJobId=64 ArrayTaskId=1 JobName=x JobState=OUT_OF_MEMORY Reason=OutOfMemory ExitCode=0:125 "
    "ReqNodeList=n7 NodeList=n1\\nJobId=64 ArrayJobId=64 ArrayTaskId=2-5 JobState=PENDING\\n"
    "JobId=70 JobState=RUNNING\\n"
)


@pytest.mark.parametrize("sacct", ["echo 'Slurm accounting storage is disabled' >&2; exit 1", None])
def test_without_accounting_the_controller_is_asked_once(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sacct: str | None
) -> None:
    calls = commands(scontrol=f"printf '{SHOWN}'", **({"sacct": sacct} if sacct else {}))
    if sacct is None:
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
        monkeypatch.setattr("msm_hpc.launch.slurm_ends.has", lambda name: name != "sacct")
    found = ends([JOB, OTHER])
    assert {job: end.finding for job, end in found.items()} == {
        JOB: Finding("oom", "scontrol: OUT_OF_MEMORY of job 64_1")
    }
    assert [line for line in calls.read_text().splitlines() if "show job" in line] == ["scontrol --oneliner show job"]


def test_every_cause_has_its_line_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "files.md").read_text()
    table = page.partition("## Causes")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([\w ]+)` \|", table, re.MULTILINE) == [*get_args(Cause), "lost"]
    for cause, rule in RULES.items():
        (line,) = re.findall(rf"^\| `{cause}` \|.*", table, re.MULTILINE)
        assert (f"{rule.starts} " in line) == (rule.starts > 0), f"how often {cause} is retried"
