"""The sbatch scripts, held against golden files: a change of what users' clusters are sent is seen in review.

To accept a change: ``MSM_ACCEPT_GOLDEN=1 pytest tests/launch``.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.runner import run_steps
from msm_hpc.config.cluster import Cluster, Resources, Work, WorkClasses
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.launch.slurm import SlurmLauncher

GOLDEN = Path(__file__).parent / "golden"

CPU = Cluster(launcher="slurm")
SITE = Resources(
    partition="h100",
    account="alignment",
    qos="normal",
    time_minutes=720,
    memory_gb=60,
    cpus_per_rank=8,
    sbatch={"reservation": "night"},
)
GPU = Cluster(
    launcher="slurm",
    resources=WorkClasses(
        cpu=SITE,
        gpu_train=replace(SITE, gpus_per_node=8),
        gpu_eval=replace(SITE, gpus_per_node=8, constraint="nvlink", time_minutes=60),
    ),
    setup=("module load cuda/13",),
)
STEPS = tuple((f"eval/{number:016x}",) for number in range(13))
ONE = ArrayRequest(
    name="msm-report",
    work=Work("cpu"),
    function=run_steps,
    given=("/shared/my runs",),
    each=(("report/0123456789abcdef",),),
    dependency="afterany:64",
    token="msm-0123456789abcdef",
)
ARRAY = replace(ONE, name="msm-eval", work=Work("gpu_eval"), each=STEPS, dependency="aftercorr:64,afterok:60_0:60_3")
WIDE = replace(
    ONE,
    name="msm-midtrain",
    work=Work("gpu_train"),
    each=STEPS[:4],
    nodes=2,
    ranks_per_node=8,
    dependency="afterok:64",
)
CELLS = replace(
    ONE,
    name="msm-aft",
    work=Work("gpu_train"),
    each=tuple((f"train/{cell:016x}", f"export/{cell:016x}", f"eval/{cell:016x}") for cell in range(3)),
    minutes=150,
    code=Path("/shared/my runs/code/ada-0123456789abcdef"),
)
LADDERS = replace(WIDE, name="msm-aft", each=tuple((f"train/{i:016x}", f"train/{i + 8:016x}") for i in range(3)))
WHOLE = replace(GPU, exclusive=True, ranks_per_node=8)
BESIDE_EACH_OTHER = replace(
    CELLS,
    each=((*CELLS.each[0], "|", *CELLS.each[1]), CELLS.each[2]),
    lanes=2,
    also=(Work("cpu", "export"),),
)
WIDE_LANES = replace(
    LADDERS, each=((*LADDERS.each[0], "|", *LADDERS.each[1]), LADDERS.each[2]), nodes=1, ranks_per_node=4, lanes=2
)


@pytest.mark.parametrize(
    ("name", "cluster", "request_"),
    [
        ("cpu_single", CPU, ONE),
        ("cpu_array", replace(CPU, array_parallelism=4), ARRAY),
        ("gpu_two_nodes", GPU, WIDE),
        ("cpu_step_on_a_gpu_site", GPU, ONE),
        ("eval_on_a_gpu_site", GPU, ARRAY),
        ("cells_on_one_gpu_each", GPU, CELLS),
        ("ladders_on_two_nodes", GPU, LADDERS),
        ("cells_side_by_side", WHOLE, BESIDE_EACH_OTHER),
        ("ladders_side_by_side", WHOLE, WIDE_LANES),
        ("a_whole_node_for_one", WHOLE, ONE),
    ],
)
def test_scripts_are_as_agreed(name: str, cluster: Cluster, request_: ArrayRequest) -> None:
    script = (
        SlurmLauncher(cluster)
        .render(Path("/shared/runs/jobs"), request_)
        .replace(shlex.quote(sys.executable), "PYTHON")
    )
    golden = GOLDEN / f"{name}.sh"
    if os.environ.get("MSM_ACCEPT_GOLDEN"):
        golden.write_text(script)
    assert script == golden.read_text()


@pytest.mark.parametrize(("minutes", "seconds"), [(1, 15), (4, 60), (720, 90)])
def test_the_signal_before_the_time_limit_leaves_time_to_run(minutes: int, seconds: int) -> None:
    cluster = Cluster(launcher="slurm", resources=WorkClasses(cpu=Resources(time_minutes=minutes)))
    assert f"#SBATCH --signal=USR2@{seconds}\n" in SlurmLauncher(cluster).render(Path("jobs"), ONE)


def test_without_slurm_submission_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="sbatch is not on the PATH"):
        SlurmLauncher(CPU).submit(tmp_path, ONE)


@pytest.mark.parametrize(
    "name", ["it's", 'a"b', "$(touch x)", "`touch x`", "a;touch x", "a b\tc", "höhe", "-rf", "~", "#"]
)
@pytest.mark.parametrize("elements", [1, 2])
def test_a_hostile_name_stays_a_name(tmp_path: Path, name: str, elements: int) -> None:
    root = f"/shared/{name}" if name != "-rf" else name
    request = replace(ONE, given=(root,), each=((f"eval/{name}",), ("eval/other",))[-elements:])
    script = SlurmLauncher(CPU).render(tmp_path / name, request)
    (tmp_path / "srun").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\" > arguments\n")
    (tmp_path / "srun").chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "1"}
    subprocess.run(["bash", "-c", script], cwd=tmp_path, env=variables, check=True)
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[-2:] == [root, "eval/other"]
    assert f"{tmp_path / name}/%{'A_%a' if elements > 1 else 'j'}_%t_log.out" in arguments
    assert not (tmp_path / "x").exists()


def run_lanes(folder: Path, request: ArrayRequest, srun: str) -> tuple[int, list[str]]:
    """The exit status of the script of element 0, and the lane and last argument of each srun, a shell script here."""
    script = SlurmLauncher(WHOLE).render(folder, request).replace("module load cuda/13", "")
    (folder / "srun").write_text(
        f'#!/bin/bash\nprintf "%s\\n" "${{MSM_LANE-}}: ${{*:$#}}" >> {folder}/called\n{srun}\n'
    )
    (folder / "srun").chmod(0o755)
    variables = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "0"}
    ended = subprocess.run(["bash", "-c", script], cwd=folder, env=variables, check=False)
    return ended.returncode, sorted((folder / "called").read_text().splitlines())


ONE_LANE, OTHER_LANE = ([f"{lane}: {LADDERS.each[lane][-1]}"] for lane in (0, 1))
REQUEUE = ": msm_hpc.launch.slurm_requeue:requeue_if_asked"


@pytest.mark.parametrize(
    ("srun", "status", "called"),
    [
        ("exit 0", 0, [*ONE_LANE, *OTHER_LANE]),
        ("exit 1", 1, [*ONE_LANE, *OTHER_LANE]),
        ("exit $MSM_LANE", 0, [*ONE_LANE, *OTHER_LANE]),
        ("(( MSM_LANE )) || { touch .again.$MSM_RUN.0; exit 1; }", 1, [*ONE_LANE, *OTHER_LANE, REQUEUE]),
        ("sleep 0.$((2 * MSM_LANE)); touch .stopped.$MSM_RUN; exit 1", 1, [*ONE_LANE, *OTHER_LANE, REQUEUE]),
    ],
    ids=["all well", "all failed", "a lane failed", "a lane is to run again", "stopped by a signal"],
)
def test_lanes_end_on_their_own_and_the_job_runs_again_once(
    tmp_path: Path, srun: str, status: int, called: list[str]
) -> None:
    assert run_lanes(tmp_path, WIDE_LANES, srun) == (status, called)


def test_lanes_run_at_the_same_time(tmp_path: Path) -> None:
    meet = "touch here.$MSM_LANE; while [[ ! -e here.0 || ! -e here.1 ]]; do sleep 0.05; done"
    request = replace(BESIDE_EACH_OTHER, code=None)
    for each in (request, replace(request, each=request.each[:1])):
        assert run_lanes(tmp_path, each, meet) == (0, [f"{lane}: {CELLS.each[lane][-1]}" for lane in (0, 1)])
        for file in ("called", "here.0", "here.1"):
            (tmp_path / file).unlink()


def test_a_job_asks_for_no_more_time_than_its_class_has() -> None:
    for minutes, asked in ((150, 150), (9999, 720), (None, 720)):
        assert f"#SBATCH --time={asked}\n" in SlurmLauncher(GPU).render(Path("jobs"), replace(CELLS, minutes=minutes))


def test_code_that_is_gone_or_another_users_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "my code").mkdir()
    for code, status in ((tmp_path / "my code", 0), (tmp_path / "gone", 1)):
        script = SlurmLauncher(CPU).render(tmp_path, replace(ONE, code=code))
        (tmp_path / "srun").write_text('#!/bin/sh\necho "$PYTHONPATH" > found\n')
        (tmp_path / "srun").chmod(0o755)
        variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": "/site"}
        ended = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=variables, check=False, capture_output=True, text=True
        )
        assert ended.returncode == status
        if status:
            assert f"{code} is gone or not yours: run `msm run` again" in ended.stderr
    assert (tmp_path / "found").read_text() == f"{tmp_path}/my code:/site\n"


def test_a_job_gets_the_memory_and_cpus_that_any_of_its_steps_needs() -> None:
    small = Resources(memory_gb=20, cpus_per_rank=2)
    cluster = replace(GPU, resources=replace(GPU.resources, gpu_train=replace(small, gpus_per_node=8)))
    script = SlurmLauncher(cluster).render(Path("jobs"), replace(CELLS, also=(Work("cpu", "export"),)))
    assert "#SBATCH --mem=61440MB\n" in script and "#SBATCH --cpus-per-task=8\n" in script
    assert "#SBATCH --gpus-per-node=1\n" in script


def test_a_server_of_a_model_too_large_for_one_gpu_gets_several() -> None:
    resources = replace(GPU.resources, of_stage={"sample": {"gpus_per_rank": 4}})
    site = SlurmLauncher(replace(GPU, resources=resources))
    asking, lanes = (
        replace(ARRAY, work=Work("gpu_eval", "sample")),
        replace(BESIDE_EACH_OTHER, work=Work("gpu_eval", "sample")),
    )
    assert "#SBATCH --gpus-per-node=4\n" in site.render(Path("jobs"), asking)
    assert "#SBATCH --ntasks-per-node=1\n" in site.render(Path("jobs"), asking)
    assert "--gpus-per-node=4 " in site.render(Path("jobs"), lanes)
    assert "#SBATCH --gpus-per-node=8\n" in site.render(Path("jobs"), lanes)
