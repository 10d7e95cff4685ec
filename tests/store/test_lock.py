"""The lock of submission: whose it is, and when it is void."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from msm_hpc.base import watched
from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_json
from msm_hpc.launch.job import JobRef, local_job
from msm_hpc.store import lock
from msm_hpc.store.lock import submission_lock

ELSEWHERE = replace(local_job(), host=f"not-{socket.gethostname()}")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lock, "SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setattr(watched, "SECONDS_BETWEEN_TOUCHES", 0.05)
    monkeypatch.setattr(lock, "SECONDS_UNTIL_VOID", 0.5)
    yield


def held_by(root: Path, holder: JobRef) -> Path:
    write_json(root / "submitting.json", asdict(holder))
    return root / "submitting.json"


def test_it_is_there_while_it_is_held(tmp_path: Path) -> None:
    said: list[str] = []
    with submission_lock(tmp_path / "new", said.append) as held:
        assert held.path.exists()
        held.check()
    assert (list(held.path.parent.iterdir()), said) == ([], [])


def test_another_waits_and_says_for_whom(tmp_path: Path) -> None:
    said: list[str] = []
    waits = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waits.set()

    def second() -> None:
        with submission_lock(tmp_path, say):
            said.append("has it")

    with submission_lock(tmp_path, said.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(60)
        assert len(said) == 1
    thread.join(60)
    waited, has = said
    assert f"(process {os.getpid()} on {socket.gethostname()}), which is submitting below {tmp_path}" in waited
    assert has == "has it"


def test_a_process_of_this_host_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    held_by(tmp_path, local_job(process.pid))
    process.kill()
    process.wait()
    with submission_lock(tmp_path, print) as held:
        held.check()


def test_a_process_of_another_host_holds_it_as_long_as_it_renews(tmp_path: Path) -> None:
    path, looks = held_by(tmp_path, ELSEWHERE), 0
    wait = time.sleep

    def renew(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks < 60:  # longer than it takes to be void
            os.utime(path)
        wait(seconds)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(time, "sleep", renew)
        with submission_lock(tmp_path, print) as held:
            assert looks > 60
            held.check()


@pytest.mark.parametrize("content", [b"", b'{"launcher": "lo', bytes(40), b"[]", b'{"pid": 7}', b"\xff"])
def test_a_torn_lock_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "submitting.json").write_bytes(content)
    with pytest.raises(UserError, match=r"submitting\.json is damaged.*if no `msm run` is, delete that file; then run"):
        submission_lock(tmp_path, print).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["submitting.json"], "nothing of ours is left"


def test_who_stood_still_notices_that_the_lock_is_gone(tmp_path: Path) -> None:
    with submission_lock(tmp_path, print) as held:
        held.path.unlink()
        held_by(tmp_path, ELSEWHERE)
        with pytest.raises(UserError, match=r"another `msm run` has taken over .*what was submitted stays"):
            held.check()
    assert held.path.exists(), "it is the other's"
