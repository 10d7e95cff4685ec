"""A store of several users: what one makes, the others of the group can go on with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from msm_hpc.store.store import Store
from tests.store.conftest import Make, step, write


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    usual = os.umask(request.param)
    try:
        yield
    finally:
        os.umask(usual)


@pytest.mark.parametrize("umask", [0o002, 0o027], indirect=True)
def test_permissions_are_those_of_the_umask(umask: None, store: Store, make: Make) -> None:
    mask = os.umask(0)
    os.umask(mask)
    folder = make(step(), write)
    for path in (folder.path, *folder.path.rglob("*")):
        usual = 0o777 if path.is_dir() else 0o666
        assert path.stat().st_mode & 0o777 == usual & ~mask, path


@pytest.mark.parametrize("umask", [0o022], indirect=True)
def test_whoever_asks_for_a_report_first_locks_nobody_out(umask: None, tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    folder = Store(tmp_path).unfinished("report/demo")
    assert folder == tmp_path / "unfinished" / "report" / "demo"
    for each in (folder, *folder.parents[:2]):
        assert each.stat().st_mode & 0o7777 == 0o2775
    folder.chmod(0o770)
    assert Store(tmp_path).unfinished("report/demo").stat().st_mode & 0o777 == 0o770, "of another: left as it is"
