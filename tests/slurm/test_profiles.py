"""The site profiles that are shipped as examples: each is read, and does what it is an example of.

To accept a change of the scripts in golden/: ``MSM_ACCEPT_GOLDEN=1 pytest tests/slurm``.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.runner import run_step
from msm_hpc.campaign.slurm_run import plan_submission, scripts
from msm_hpc.config.cluster import Cluster, Work
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.launch.slurm import SlurmLauncher
from msm_hpc.store.store import Store
from tests.composed import graph_of, load_config, preflight

PROFILES = Path(__file__).parents[2] / "slurm" / "profiles"
GOLDEN = Path(__file__).parent / "golden"
ARRAYS = {"tokenize": "a CPU array", "aft": "a training array", "export": "an eval array"}
NAMES = sorted(file.stem for file in PROFILES.glob("*.yaml"))


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "cluster").symlink_to(PROFILES)
    monkeypatch.setenv("MSM_CONFIG", str(tmp_path / "tree"))


def profile(name: str, *overrides: str) -> Cluster:
    return load_config([f"cluster={name}", *overrides]).cluster


def script(cluster: Cluster, stage: str = "aft", **shape: Any) -> str:
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


def campaign_scripts(name: str) -> str:
    """The scripts of three arrays of a campaign whose fine-tunings fill a node; identities and code are alike."""
    ranks = 4 if name == "whole_nodes" else 8
    layout = ["stages.aft.global_batch_size=16", f"stages.aft.layout.data_parallel={ranks}"]
    small = ["campaign.arms=[msm+aft]", "campaign.contrast=[]", "campaign.seeds=[0]"]
    config = load_config(["campaign=demo", f"cluster={name}", "root=/shared/runs", *small, *layout])
    store = Store(config.root)
    plan = plan_submission("demo", graph_of(config), store, config.cluster)
    texts = dict(zip((array.name for array in plan.arrays), scripts(plan, store, config.cluster), strict=True))
    shown = "\n\n".join(f"#### {what}\n{texts[array]}" for array, what in ARRAYS.items())
    shown = re.sub(r"/code/[\w.-]+-[0-9a-f]{16}", "/code/USER-CODE", shown)
    return re.sub(r"/[0-9a-f]{16}\b", "/IDENTITY", shown).replace(shlex.quote(sys.executable), "PYTHON")


@pytest.mark.parametrize("name", NAMES)
def test_scripts_are_as_agreed(name: str) -> None:
    shown, golden = campaign_scripts(name), GOLDEN / f"{name}.sh"
    if os.environ.get("MSM_ACCEPT_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(shown)
    assert shown == golden.read_text()


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
    assert f" --container-image=/shared/images/msm_hpc-0.1.sqsh {mounts} --container-env=" in last
    assert " /opt/msm/bin/python -u -P -m msm_hpc" in last


def test_of_what_an_image_sets_too_ours_holds_in_the_container() -> None:
    """An image may set PYTHONPATH itself; Pyxis would keep that, and the job would run the image's code."""
    cluster, ours = profile("pyxis"), " --container-env=NCCL_SOCKET_IFNAME,NCCL_NET_GDR_LEVEL,OMP_NUM_THREADS"
    assert f"{ours} " in script(cluster)
    assert f"{ours},PYTHONPATH " in script(cluster, code=Path("/shared/runs/code/x"))


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
