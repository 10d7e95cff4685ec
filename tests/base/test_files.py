from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from msm_hpc.base.files import atomic, read_json, write_json, write_text


def test_what_has_no_room_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    write_json(file, {"step": 1})
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, usual[1]))  # Python ignores SIGXFSZ: writing fails instead
    try:
        with pytest.raises(OSError, match="File too large"):
            write_text(file, "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert list(tmp_path.iterdir()) == [file]
    assert read_json(file) == {"step": 1}


def test_permissions_are_those_of_the_umask(tmp_path: Path) -> None:
    usual = os.umask(0o027)
    try:
        write_text(tmp_path / "state", "x")
    finally:
        os.umask(usual)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o640


def test_an_exception_leaves_the_old_file_alone(tmp_path: Path) -> None:
    write_text(tmp_path / "state", "old")
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "state") as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_files_load_nothing_heavy() -> None:
    """The tokeniser starts thousands of array tasks by way of this module."""
    code = "import sys, msm_hpc.base.files, msm_hpc.base.errors; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"pydantic", "numpy", "torch"}.isdisjoint(modules)
