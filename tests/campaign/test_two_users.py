"""Two users of one group below one root: what one began the other continues, and may delete."""

from __future__ import annotations

import grp
import multiprocessing
import os
import pwd
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from msm_hpc.campaign.runner import run_step
from msm_hpc.config.stages import ExportConfig
from msm_hpc.graph import kinds
from msm_hpc.graph.steps import Step
from msm_hpc.store.store import Store
from msm_hpc.store.trash import Trash
from tests.campaign import stages

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become other users")
FORK = multiprocessing.get_context("fork")
GROUP = grp.getgrnam("users").gr_gid
STEP = Step("export", "x", ExportConfig(), {})


@pytest.fixture
def shared() -> Iterator[Store]:
    """A store with the rights that a group needs; not below ``tmp_path``, which nobody else may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, -1, GROUP)
        os.chmod(folder, 0o2770)
        yield Store(Path(folder))


def as_user(name: str, umask: int, function: Callable[[], object]) -> int | None:
    """How a process of a user of the group ends that calls a function."""

    def call() -> None:
        user = pwd.getpwnam(name)
        os.umask(umask)
        os.setgroups([GROUP])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        function()

    process = FORK.Process(target=call)
    process.start()
    process.join(60)
    return process.exitcode


@pytest.mark.parametrize("umask", [0o007, 0o002])
def test_one_is_killed_and_another_resumes_and_either_may_delete(
    umask: int, shared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, folder = f"{stages.__name__}:continue_or_die", shared.of(STEP)
    kind = kinds.Kind(1, ExportConfig, dict, stage, carry_over=f"{stages.__name__}:carry_over")
    monkeypatch.setitem(kinds.KINDS, "export", kind)

    def make() -> None:
        shared.register((STEP,))
        run_step(str(shared.root), STEP.id)

    def delete() -> None:
        trash = Trash(shared.root)
        assert trash.take(folder.path) and trash.empty()

    assert as_user("daemon", umask, make) == -9
    assert folder.lease_file.owner() == "daemon" and not folder.done
    assert as_user("bin", umask, make) == 0
    assert (folder.out / "result.txt").read_text() == "half and whole"
    assert [attempt.cause for attempt in folder.attempts()] == [None, "done"]
    assert folder.lease() is None and not folder.attempt(1).out.exists()
    assert as_user("daemon", umask, delete) == 0
    assert not folder.path.exists() and len(list(Trash(shared.root).spent())) == 1


def test_without_the_group_s_umask_the_other_begins_nothing(shared: Store) -> None:
    def register() -> None:
        shared.register((STEP,))

    assert as_user("daemon", 0o022, register) == 0
    assert as_user("bin", 0o022, register) == 1
    assert shared.of(STEP).read_record().name == "export/x" and not shared.of(STEP).attempt_folders()
