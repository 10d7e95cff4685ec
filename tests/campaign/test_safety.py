"""Names, paths and values reach a shell only quoted, and keys reach no file."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from msm_hpc.cli.main import main
from msm_hpc.store.snapshots import snapshot_of
from tests.campaign.shrunk import SHRUNK

HOSTILE = "x\"; touch pwned; $(touch pwned) `touch pwned` '; touch pwned #"
SRUN = """#!/bin/bash
for argument; do printf '%s\\0' "$argument" >> "$ARGUMENTS"; done
env -0 > "$ARGUMENTS.environment"
"""


def quoted(value: str) -> str:
    """``value`` as Hydra reads it."""
    return '"' + value.replace('"', '\\"') + '"'


def planned_scripts(capsys: pytest.CaptureFixture[str], *overrides: str) -> list[str]:
    """Those of the arrays, as ``msm plan --scripts`` prints them."""
    assert main(["plan", "campaign=demo", "campaign.arms=[init,aft]", *overrides, "--scripts"]) == 0
    script = r"^#!/bin/bash\n.*?^# command\n(?:[^\n]+\n)+"
    return re.findall(script, capsys.readouterr().out, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", [HOSTILE, "'a b'", "a/../../b", "$(id)"])
def test_a_hostile_name_of_a_campaign_is_refused(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["plan", "campaign=demo", f"campaign.name={quoted(name)}", f"root={tmp_path}"]) == 2
    assert "campaign.name: string should match pattern" in " ".join(capsys.readouterr().err.split())


def test_hostile_values_are_inert_in_every_script(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, here, programs = tmp_path / HOSTILE, tmp_path / "here", tmp_path / "bin"
    here.mkdir()
    programs.mkdir()
    (programs / "srun").write_text(SRUN)
    (programs / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(here)
    texts = planned_scripts(
        capsys,
        "cluster=slurm",
        f"root={quoted(str(root))}",
        f"cluster.resources.cpu.sbatch.comment={quoted(HOSTILE)}",
        f"cluster.resources.cpu.account={quoted(HOSTILE)}",
        f"cluster.resources.of_stage.aft.qos={quoted(HOSTILE)}",
        f"cluster.environment.OWN={quoted(HOSTILE)}",
        f"cluster.container={{image: {quoted(HOSTILE)}, python: {quoted(HOSTILE)}, mounts: ['/:/']}}",
        "cluster.health_check=true",
    )
    snapshot_of(root).folder.mkdir(0o755, parents=True)  # without which a job ends at once
    assert len(texts) > 3
    for number, text in enumerate(texts):
        arguments = tmp_path / f"arguments{number}"
        environment = {"PATH": f"{programs}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "0", "ARGUMENTS": str(arguments)}
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        subprocess.run(["bash"], input=text, text=True, check=True, cwd=here, env=environment)
        given = arguments.read_text().split("\0")
        assert {f"--container-image={HOSTILE}", HOSTILE, str(root), str(root / "jobs")} <= {*given}
        assert f"OWN={HOSTILE}" in (tmp_path / f"arguments{number}.environment").read_text().split("\0")
    assert [*here.iterdir()] == [] and not [*tmp_path.rglob("pwned")]


def test_a_job_runs_no_copy_of_the_code_that_others_can_have_changed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Below a root that a group may write to, anyone may rename folders of this user's, and link to them."""
    (text, *_) = planned_scripts(capsys, "cluster=slurm", f"root={tmp_path}")
    code = snapshot_of(tmp_path).folder
    (tmp_path / "srun").write_text("#!/bin/bash\necho $PYTHONPATH\n")
    (tmp_path / "srun").chmod(0o755)

    def ran() -> bool:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "0"}
        done = subprocess.run(["bash"], input=text, text=True, capture_output=True, cwd=tmp_path, env=environment)
        assert done.returncode == (0 if str(code) in done.stdout else 1)
        assert done.returncode == 0 or "is gone or not yours: run `msm run` again" in done.stderr
        return done.returncode == 0

    assert not ran(), "gone"
    code.parent.mkdir()
    (attempt := tmp_path / "attempt").mkdir()
    attempt.chmod(0o555)
    code.symlink_to(attempt)
    assert not ran(), "a link"
    code.unlink()
    attempt.rename(code)
    assert ran()
    code.chmod(0o775)
    assert not ran(), "the group may write"


@pytest.mark.slow
def test_keys_stand_in_nothing_that_a_campaign_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    keys = {name: f"planted-{name.lower()}-0123456789" for name in ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY")}
    for name, key in keys.items():
        monkeypatch.setenv(name, key)
    few = ("campaign.arms=[base]", "campaign.contrast=[]", "stages.pretrain.layout.data_parallel=1")
    assert main(["run", *SHRUNK, *few, f"root={tmp_path}"]) == 0
    assert main(["plan", *SHRUNK, *few, "cluster=slurm", f"root={tmp_path / 'other'}", "--scripts"]) == 0
    said = "".join(capfd.readouterr())
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 20
    for key in keys.values():
        assert key not in said
        assert [str(file) for file in files if key.encode() in file.read_bytes()] == []


def test_folders_have_the_rights_of_the_umask(tmp_path: Path) -> None:
    """What a group shares (umask 007) is not for the world."""
    before = os.umask(0o007)
    try:
        assert main(["stage", "generate/pairs-america", "campaign=demo", f"root={tmp_path / 'runs'}"]) == 0
    finally:
        os.umask(before)
    made = [*(tmp_path / "runs").rglob("*")]
    assert made and not [str(path) for path in made if path.lstat().st_mode & 0o007 and not path.is_symlink()]
