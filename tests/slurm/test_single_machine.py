from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.slurm_tools import Slurm, elements

SCRIPTS = Path(__file__).parents[2] / "slurm" / "single_machine"
needs_packages = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("slurmctld") is None or shutil.which("mariadbd") is None,
    reason="needs root and the packages of slurm/single_machine/install.sh",
)


@pytest.fixture(autouse=True)
def no_cluster_but_where_one_is_tested(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are not of the cluster that all tests share bring up one of their own, with Slurm's commands."""
    if not request.node.get_closest_marker("slurm"):
        monkeypatch.delenv("SLURM_CONF", raising=False)


@pytest.mark.slurm
def test_each_array_element_waits_for_its_partner(slurm: Slurm) -> None:
    first = slurm.sbatch(["--array=0-3"], "sleep 0.2; touch $SLURM_ARRAY_TASK_ID")
    second = slurm.sbatch(["--array=0-3", f"--dependency=aftercorr:{first}"], "ls $SLURM_ARRAY_TASK_ID")
    both = elements(first, 4) + elements(second, 4)
    assert slurm.wait(both) == dict.fromkeys(both, "COMPLETED")


@pytest.mark.slurm
def test_failed_element_cancels_only_its_partner(slurm: Slurm) -> None:
    first = slurm.sbatch(["--array=0-3"], "test $SLURM_ARRAY_TASK_ID != 2")
    dependency = [f"--dependency=aftercorr:{first}", "--kill-on-invalid-dep=yes"]
    second = slurm.sbatch(["--array=0-3", *dependency], "touch ran.$SLURM_ARRAY_TASK_ID")
    states = slurm.wait(elements(first, 4) + elements(second, 4))
    assert [states[element] for element in elements(first, 4)] == ["COMPLETED", "COMPLETED", "FAILED", "COMPLETED"]
    assert [states[element] for element in elements(second, 4)] == ["COMPLETED", "COMPLETED", "CANCELLED", "COMPLETED"]
    assert sorted(path.name for path in slurm.folder.glob("ran.*")) == ["ran.0", "ran.1", "ran.3"]


@pytest.mark.slurm
def test_two_node_job_sees_two_hosts_that_resolve(slurm: Slurm) -> None:
    hosts = subprocess.run(["sinfo", "--noheader", "--Node", "--format=%n"], capture_output=True, text=True, check=True)
    if len(set(hosts.stdout.split())) < 2:
        pytest.skip("the nodes of this cluster share one host name (no right to make namespaces)")
    job = slurm.sbatch(["--nodes=2", "--output=out"], "srun bash -c 'getent hosts $(hostname)'")
    assert slurm.wait([job]) == {job: "COMPLETED"}
    names = [line.split()[1] for line in (slurm.folder / "out").read_text().splitlines()]
    assert len(set(names)) == 2, names


@pytest.mark.slurm
def test_wait_reports_what_has_not_ended(slurm: Slurm) -> None:
    job = slurm.sbatch(["--hold"], "true")
    with pytest.raises(TimeoutError, match=rf"{job} PENDING JobHeldUser"):
        slurm.wait([job], timeout=0)
    subprocess.run(["scancel", job], check=True)


def processes_of(conf: str) -> list[str]:
    """The command lines of live processes that run with this SLURM_CONF."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"SLURM_CONF={conf}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended, or is not ours to look at
            continue
    return found


def assert_nothing_is_left_of(conf: str) -> None:
    assert processes_of(conf) == []
    assert not Path(conf).parents[1].exists()


@pytest.mark.slow
@needs_packages
def test_own_cluster_has_the_asked_nodes_and_gpus_and_goes_away() -> None:
    script = """
        echo $SLURM_CONF
        srun --nodes=3 --gpus-per-node=2 bash -c 'echo devices=$CUDA_VISIBLE_DEVICES'
        sbatch --array=0-20 --output=/dev/null --wrap 'setsid sleep 900 & sleep 900' >/dev/null
        until squeue --noheader --states=running | grep -q .; do sleep 0.1; done
        exit 7
    """
    knobs = {**os.environ, "NODES": "3", "GPUS": "2"}
    result = subprocess.run(
        [SCRIPTS / "with_cluster.sh", "bash", "-c", script], env=knobs, capture_output=True, text=True
    )
    assert result.returncode == 7, result.stderr
    conf, *devices = result.stdout.split()
    assert devices == ["devices=0,1"] * 3
    assert_nothing_is_left_of(conf)


@pytest.mark.slow
@needs_packages
def test_terminated_command_takes_its_cluster_along() -> None:
    command: list[str | Path] = [SCRIPTS / "with_cluster.sh", "bash", "-c", 'echo "$SLURM_CONF"; exec sleep 900']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        conf = process.stdout.readline().strip()
        assert any("slurmctld" in command_line for command_line in processes_of(conf))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    assert_nothing_is_left_of(conf)


@pytest.mark.slow
@needs_packages
def test_failing_daemon_is_shown_and_the_rest_stopped(tmp_path: Path) -> None:
    broken = tmp_path / "slurmctld"
    broken.write_text('#!/bin/bash\necho "$SLURM_CONF is cursed"; exit 1\n')
    broken.chmod(0o755)
    result = subprocess.run(
        [SCRIPTS / "with_cluster.sh", "echo", "never"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert "slurmctld does not answer" in result.stderr
    cursed = re.search(r"(\S+) is cursed", result.stderr)
    assert cursed is not None
    assert_nothing_is_left_of(cursed[1])


@needs_packages
def test_start_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    result = subprocess.run(
        [SCRIPTS / "start.sh"], env={**os.environ, "STATE": str(tmp_path)}, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "is not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@needs_packages
@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"NODES": "none"}, r"NODES=none .* must be whole numbers"),
        ({"STATE": "/tmp/with space"}, r"must be absolute, short and plain"),
    ],
)
def test_start_refuses_wrong_knobs(knobs: dict[str, str], message: str) -> None:
    result = subprocess.run([SCRIPTS / "start.sh"], env={**os.environ, **knobs}, capture_output=True, text=True)
    assert result.returncode == 2
    assert re.search(message, result.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_start_needs_root() -> None:
    with tempfile.TemporaryDirectory() as folder:  # the checkout and tmp_path may be closed to other users
        Path(folder).chmod(0o755)
        shutil.copytree(SCRIPTS, folder, dirs_exist_ok=True)
        result = subprocess.run(["bash", f"{folder}/start.sh"], user=65534, cwd="/", capture_output=True, text=True)
    assert result.returncode == 2
    assert "not root" in result.stderr


def test_stop_without_a_cluster_says_so(tmp_path: Path) -> None:
    result = subprocess.run(
        [SCRIPTS / "stop.sh"], env={**os.environ, "STATE": str(tmp_path)}, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (0, f"stop.sh: no cluster in {tmp_path}\n")


def test_with_cluster_needs_a_command() -> None:
    result = subprocess.run([SCRIPTS / "with_cluster.sh"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "usage" in result.stderr


def test_install_knows_debian_only() -> None:
    bash = shutil.which("bash")
    assert bash is not None
    result = subprocess.run([bash, SCRIPTS / "install.sh"], env={"PATH": "/nowhere"}, capture_output=True, text=True)
    assert result.returncode == 2
    assert "Debian only" in result.stderr


@needs_packages
def test_install_has_nothing_to_do_twice() -> None:
    result = subprocess.run([SCRIPTS / "install.sh"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "nothing to do" in result.stdout
