from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import msm_hpc
import tokenization
from msm_hpc.base.code import code_commit
from msm_hpc.base.files import read_json
from msm_hpc.store import snapshots
from msm_hpc.store.snapshots import keep_code, snapshot_of


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one module, in the place of ours."""
    folder = tmp_path / "checkout" / "toy"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("VALUE = 1\n")
    module = ModuleType("toy")
    module.__path__ = [str(folder)]
    monkeypatch.setattr(snapshots, "PACKAGES", (module,))
    return folder


def printed(folder: Path, code: str) -> str:
    """What Python prints that finds packages in ``folder`` first, as a job does."""
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(
        command, env={"PYTHONPATH": str(folder)}, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_copy_stays_as_it_was_while_the_checkout_is_edited(tmp_path: Path, package: Path) -> None:
    before = keep_code(tmp_path)
    assert keep_code(tmp_path) == before
    (package / "__init__.py").write_text("VALUE = 2\n")
    after = keep_code(tmp_path)
    shown = [printed(each.folder, "import toy; print(toy.VALUE)") for each in (before, after)]
    assert shown == ["1", "2"]


def test_nothing_is_written_to_know_its_name(tmp_path: Path, package: Path) -> None:
    snapshot = snapshot_of(tmp_path)
    assert not snapshot.folder.parent.exists()
    assert keep_code(tmp_path).folder == snapshot.folder


def test_nobody_may_write_into_a_copy_or_take_it_away(tmp_path: Path, package: Path) -> None:
    tmp_path.chmod(0o2775)
    folder = keep_code(tmp_path).folder
    assert folder.parent.stat().st_mode & 0o7777 == 0o3775, "as the root, and each may delete only their own"
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o222 == 0


@pytest.mark.parametrize(("umask", "folders", "files"), [(0o007, 0o550, 0o440), (0o022, 0o555, 0o444)])
def test_a_copy_is_read_by_whom_the_umask_lets(
    tmp_path: Path, package: Path, umask: int, folders: int, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "code_commit", lambda: "0123456-dirty")
    monkeypatch.setattr(snapshots, "_changes", lambda: "what is not committed")
    before = os.umask(umask)
    try:
        folder = keep_code(tmp_path).folder
    finally:
        os.umask(before)
    names = {path.name for path in folder.rglob("*")}
    assert {"changes.diff", "code.json", "toy", "__init__.py"} <= names
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o777 == (folders if path.is_dir() else files), path


def test_what_a_killed_copy_left_is_no_copy(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(made: Path) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(snapshots, "_close", broken)
        with pytest.raises(OSError, match="the disk is full"):
            keep_code(tmp_path)
    assert list((tmp_path / "code").iterdir()) == []
    assert keep_code(tmp_path).folder.is_dir()


@pytest.mark.slow
def test_a_job_runs_the_copy_and_knows_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own packages; below a root that is in a checkout of something else."""
    monkeypatch.setattr(snapshots, "PACKAGES", (msm_hpc, tokenization))
    monkeypatch.setattr(snapshots, "code_commit", code_commit)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    snapshot = keep_code(tmp_path)
    found = "import msm_hpc.base.code as c, tokenization as t; print(c.__file__, t.__file__, c.code_commit())"
    ours, tokens, commit = printed(snapshot.folder, found).split()
    assert Path(ours).is_relative_to(snapshot.folder) and Path(tokens).is_relative_to(snapshot.folder)
    assert commit == str(code_commit())
    assert read_json(snapshot.folder / "code.json") == {"commit": code_commit()}
    assert (snapshot.folder / "changes.diff").exists() == snapshot.changed
    assert not list(snapshot.folder.rglob("*.partial"))
    looked = f"from msm_hpc.launch.node_check import *; print(SCRIPT, failed_checks(Path({str(tmp_path)!r})))"
    script, failed = printed(snapshot.folder, looked).split(maxsplit=1)
    assert Path(script).is_relative_to(snapshot.folder) and failed == "()"
