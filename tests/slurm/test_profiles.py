"""The site profiles that are shipped as examples: each is read, and does what it is an example of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.runner import run_step
from msm_hpc.config.cluster import Cluster, Work
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.launch.slurm import SlurmLauncher
from tests.composed import load_config, preflight

PROFILES = Path(__file__).parents[2] / "slurm" / "profiles"
NAMES = sorted(file.stem for file in PROFILES.glob("*.yaml"))


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "cluster").symlink_to(PROFILES)
    monkeypatch.setenv("MSM_CONFIG", str(tmp_path / "tree"))


def profile(name: str, *overrides: str) -> Cluster:
    return load_config([f"cluster={name}", *overrides]).cluster


def script(cluster: Cluster, stage: str = "aft", **shape: int) -> str:
    request = ArrayRequest(
        name="msm-demo-x",
        work=Work("gpu_train", stage, "tiny"),
        function=run_step,
        given=("/shared/runs",),
        each=(("train/0",), ("train/1",)),
        **shape,
    )
    return SlurmLauncher(cluster).render(Path("/shared/runs/jobs"), request)


def test_there_are_four() -> None:
    assert NAMES == ["plain_venv", "preemptible", "pyxis", "whole_nodes"]


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_is_read_and_bash_reads_its_script(name: str) -> None:
    cluster = profile(name)
    text = script(cluster, ranks_per_node=cluster.ranks_per_node, nodes=2)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert f"#SBATCH --gpus-per-node={cluster.ranks_per_node}\n" in text
    assert "#SBATCH --requeue\n" in text
    assert not [*SlurmLauncher(cluster).profile_problems()]


def test_plain_slurm_and_a_virtual_environment() -> None:
    lines = script(profile("plain_venv"), ranks_per_node=8).splitlines()
    assert {"#SBATCH --partition=h100", "#SBATCH --time=240", "#SBATCH --mem=819200MB"} <= {*lines}
    setup = lines[lines.index("module purge") :]
    assert setup[1] == "module load cuda/12.8 nccl"
    assert setup.index('srun --ntasks=$SLURM_JOB_NUM_NODES --ntasks-per-node=1 mkdir -p "$TMPDIR"') == 3
    assert "export NCCL_SOCKET_IFNAME=ib0" in setup


def test_a_container() -> None:
    last = script(profile("pyxis"), ranks_per_node=8).splitlines()[-1]
    mounts = "--container-mounts=/shared:/shared,/etc/slurm:/etc/slurm:ro,/run/munge:/run/munge"
    assert f" --container-image=/shared/images/msm_hpc-0.1.sqsh {mounts} /opt/msm/bin/python -u -P -m msm_hpc" in last


def test_preemption() -> None:
    cluster = profile("preemptible")
    assert "#SBATCH --qos=scavenger\n" in script(cluster)
    midtrain = script(cluster, stage="midtrain")
    assert "#SBATCH --qos=normal\n" in midtrain and "#SBATCH --reservation=alignment\n" in midtrain


def test_whole_nodes() -> None:
    lines = script(profile("whole_nodes"), ranks_per_node=4).splitlines()
    assert {"#SBATCH --exclusive", "#SBATCH --uenv=prgenv-gnu/24.11:v1", "#SBATCH --cpus-per-task=72"} <= {*lines}
    assert "export NCCL_NET='AWS Libfabric'" in lines


def test_an_option_of_the_profile_can_be_taken_back() -> None:
    overrides = ["cluster.resources.gpu_train.sbatch={exclusive: false, requeue: false, nice: 100}"]
    text = script(profile("whole_nodes", *overrides))
    assert "exclusive" not in text and "--requeue" not in text and "#SBATCH --nice=100\n" in text


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("environment={HF_TOKEN: hf_x}", r"environment.HF_TOKEN: a key would stand in scripts that others read"),
        ("environment={A-B: x}", r"cluster\.environment\.A-B"),
        ('container={image: "a\nb"}', r"cluster\.container\.image: string should match"),
        ("container={image: x, mounts: ['/a:/b,/c:/d']}", r"cluster\.container\.mounts\.0: string should match"),
    ],
)
def test_what_has_no_place_in_a_script_is_refused(override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        profile("plain_venv", f"cluster.{override}")


def test_the_root_folder_must_be_in_the_container(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=rf"root={tmp_path} is not in the container: add {tmp_path}:{tmp_path} to cluster"
    ):
        preflight(load_config(["cluster=pyxis", f"root={tmp_path}", "cluster.gpu=null"]))
