"""A store of several users: what one makes, the others of the group can go on with."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_json
from msm_hpc.campaign.runner import run_step
from msm_hpc.launch.job import local_job
from msm_hpc.store.journal import Journal, Submission, new_token
from msm_hpc.store.lock import submission_lock
from msm_hpc.store.store import Store
from tests.store.conftest import Make, step, write

SUBMISSION = Submission(new_token(), "msm-demo-generate", (("generate/x",),), "ada", "cluster", "demo", "", 1.0)


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
        usual = 0o777 if path.is_dir() else 0o644 if path.name == "step.json" else 0o666
        assert path.stat().st_mode & 0o777 == usual & ~mask, path


@pytest.mark.parametrize("umask", [0o002], indirect=True)
@pytest.mark.parametrize("hand", ["writes into it", "replaces it", "puts another there"])
def test_a_job_runs_no_record_that_another_user_can_have_written(
    umask: None, hand: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.register((step(), step(step())))
    file = store.of(step()).path / "step.json"
    if hand == "writes into it":
        file.chmod(0o664)
    elif hand == "replaces it":
        monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    else:
        os.replace(store.of(step(step())).path / "step.json", file)
    with pytest.raises(UserError, match=r"step\.json(: others can have written it| is of export/).*`msm run`"):
        run_step(str(store.root), step().id)


@pytest.mark.parametrize("umask", [0o077, 0o027], indirect=True)
@pytest.mark.parametrize(("folder", "file"), [(0o775, 0o660), (0o2755, 0o640), (0o700, 0o600)])
def test_what_others_add_to_has_the_group_s_rights_of_the_root(
    umask: None, folder: int, file: int, tmp_path: Path
) -> None:
    os.chown(tmp_path, -1, max([*os.getgroups(), os.getgid()]) or 1)
    tmp_path.chmod(folder)
    mask = os.umask(0)
    os.umask(mask)
    journal = Journal(tmp_path)
    journal.rewrite([SUBMISSION])
    journal.answered(SUBMISSION, "64")
    with submission_lock(tmp_path, print) as lock:
        for path in (journal.path, lock.path):
            assert path.stat().st_mode & 0o777 == file | 0o666 & ~mask, path
            assert path.stat().st_gid == tmp_path.stat().st_gid
    assert [each.job for each in journal.read()] == ["64"]


def test_what_is_not_shared_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.rewrite([SUBMISSION])
    write_json(tmp_path / "submitting.json", asdict(local_job()))
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name in ("submissions.jsonl", "submitting.json"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    for use in (journal.read, lambda: journal.add(SUBMISSION), lambda: submission_lock(tmp_path, print).__enter__()):
        with pytest.raises(UserError, match=r"may not read and write .*/submi.*let its owner give it to a group"):
            use()


@pytest.mark.parametrize("umask", [0o022], indirect=True)
def test_whoever_asks_for_a_report_first_locks_nobody_out(umask: None, tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    folder = Store(tmp_path).unfinished("report/demo")
    assert folder == tmp_path / "unfinished" / "report" / "demo"
    for each in (folder, *folder.parents[:2]):
        assert each.stat().st_mode & 0o7777 == 0o2775
    folder.chmod(0o770)
    assert Store(tmp_path).unfinished("report/demo").stat().st_mode & 0o777 == 0o770, "of another: left as it is"
