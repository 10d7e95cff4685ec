"""Results that are not what was published: found when they are read, withdrawn, and made again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.campaign import local_run
from msm_hpc.campaign.local_run import RunState, run_local
from msm_hpc.campaign.runner import run_step
from msm_hpc.campaign.step_inputs import UpstreamMissingError
from msm_hpc.campaign.views.why import why
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.stages import ExportConfig, GenerateConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef, local_job
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.store import folder as store_folder
from msm_hpc.store.store import Store
from tests.store.conftest import Make, step, write
from tokenization.tokenize import TokenizeConfig


def flip(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a flipped bit": (flip, r"out/result is damaged: its XXH3 is [0-9a-f]{32}, [0-9a-f]{32} was published"),
    "cut short": (lambda file: os.truncate(file, 4), "out/result is damaged: it has 4 bytes, 23 were published"),
    "a file that is gone": (Path.unlink, "out/result is damaged: No such file or directory"),
    "all of it deleted": (lambda file: shutil.rmtree(file.parent), "out was deleted"),
    "no hashes": (lambda file: (file.parents[1] / "done.json").write_text(""), "done.json is damaged"),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_input_is_named_and_made_again(how: str, store: Store, make: Make) -> None:
    damage, said = DAMAGES[how]
    parent, child = step(), step(step(), label="child")
    whole = {file.name: file.read_bytes() for file in make(parent, write).out.iterdir()}
    damage(store.of(parent).out / "result")
    with pytest.raises(UpstreamMissingError, match=f"{said}.*`msm run` makes it again"):
        make(child, write)
    assert not store.of(parent).done
    (attempt,) = store.of(child).attempts()
    assert attempt.cause == "upstream"
    (reason,) = why(parent, Graph((child,)), store)
    assert reason == store.of(parent).damage()

    again = make(parent, write)
    assert {file.name: file.read_bytes() for file in again.out.iterdir()} == whole
    assert again.done and again.damage() is None and again.verify("the test") is None
    assert make(child, write).done
    assert not list((again.path / "attempts").glob("*/*/")), "the damaged files are not kept"


def misread(file: Path) -> str:
    return "0" * 32


def fail_to_read(file: Path) -> str:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def fail(config: ExportConfig, inputs: dict[str, Path], out: Path) -> None:
    (out / "saved").write_text("half")
    raise RuntimeError("the stage broke")


def test_a_sound_result_that_one_host_misread_stays(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parent, child = step(), step(step(), label="child")
    folder = make(parent, write)
    published = (folder.path / "done.json").read_bytes()
    with monkeypatch.context() as bad_memory:
        bad_memory.setattr(store_folder, "xxh3_of", misread)
        with pytest.raises(UpstreamMissingError, match=r"its XXH3 is 0{32}"):
            make(child, write)
        with pytest.raises(RuntimeError):  # on that host it is begun again, too
            make(parent, fail)
    assert not folder.done and folder.newest() and (folder.partial / "saved").exists()

    make(parent, fail)
    assert (folder.path / "done.json").read_bytes() == published
    assert folder.done and not (folder.path / "damaged.json").exists()
    assert [attempt.cause for attempt in folder.attempts()] == ["done", "code", "done"]
    assert not list((folder.path / "attempts").glob("*/*/")), "what was begun again is not kept"
    assert f"on {socket.gethostname()} it is sound, so it stays" in caplog.text
    assert make(child, write).done


def test_a_damaged_result_that_cannot_be_read_is_made_again(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(step(), write)
    flip(folder.out / "result")
    assert folder.verify("the test")
    with monkeypatch.context() as bad_disk:
        bad_disk.setattr(store_folder, "xxh3_of", fail_to_read)
        make(step(), write)
    assert folder.done and folder.verify("the test") is None


def test_a_result_that_was_made_again_is_not_withdrawn_by_a_slow_reader_of_the_one_before(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has found damage; before it says so, another says so, and the step is made again."""
    folder = make(step(), write)
    flip(folder.out / "result")
    write_now = store_folder.write_json

    def write_late(path: Path, value: object) -> None:
        monkeypatch.setattr(store_folder, "write_json", write_now)
        assert folder.verify("a fast reader")
        make(step(), write)
        write_now(path, value)

    monkeypatch.setattr(store_folder, "write_json", write_late)
    assert folder.verify("a slow reader")
    assert folder.attempts()[-1].cause == "done" and len(folder.attempts()) == 2
    assert folder.done and folder.damage() is None


def test_damage_that_cannot_be_noted_is_named_all_the_same(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is another user's."""
    folder = make(step(), write)
    flip(folder.out / "result")

    def refuse(path: Path, value: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(store_folder, "write_json", refuse)
        wrong = folder.verify("the test")
    assert wrong and re.search(r"result is damaged: .*could not be noted in .*Permission denied.*: delete", wrong)


def test_what_nothing_unfinished_needs_may_be_deleted(store: Store, make: Make) -> None:
    pack = step(label="pack")
    training = step(pack, label="training")
    for each in (pack, training):
        make(each, write)
    graph = Graph((training,))
    shutil.rmtree(store.of(pack).path)
    assert graph.needed(store.done) == ()
    flip(store.of(training).out / "result")
    store.of(training).verify("the test")
    assert graph.needed(store.done) == (pack, training), "now it is needed"


@pytest.mark.slow
def test_a_local_run_makes_a_damaged_input_again_at_once(store: Store) -> None:
    chats = Step("generate", "chats", GenerateConfig(product="chats", count=10), {})
    inputs = {"corpus": chats, "tokenizer": Step("generate", "tokenizer", GenerateConfig(product="tokenizer"), {})}
    readers = tuple(Step("tokenize", cot, TokenizeConfig(cot=cot), inputs) for cot in ("train", "mask"))
    cluster = Cluster(launcher="local", slots=2)
    run_local(Graph((chats,)), store, cluster, lambda state: None)
    published = json.loads((store.of(chats).path / "done.json").read_text())
    flip(store.of(chats).out / "data.jsonl")

    state = run_local(Graph(readers), store, cluster, lambda state: None)
    assert state.healed == {chats.identity} and not state.failed
    assert all(store.done(reader) for reader in readers)
    again = json.loads((store.of(chats).path / "done.json").read_text())
    assert again["files"] == published["files"] and again["attempt"] == 2


class Here:
    """A launcher whose jobs run in this process, one at a time; ``after`` is called when each has ended."""

    def __init__(self, store: Store, after: Callable[[], object]) -> None:
        self._store, self._after = store, after

    def submit(self, folder: Path, request: ArrayRequest) -> list[JobRef]:
        with contextlib.suppress(UpstreamMissingError):
            run_step(*request.given, *request.each[0])
        self._after()
        return [local_job()]

    def states(self, jobs: Iterable[JobRef]) -> dict[JobRef, str]:
        return {}


@pytest.mark.parametrize("always", [False, True])
def test_a_reader_whose_input_another_run_has_made_again_meanwhile_is_started_again_once(
    always: bool, store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, child = step(), step(step(), label="child")
    folder = make(parent, write)
    flip(folder.out / "result")

    def another_run() -> None:
        if not folder.done:
            make(parent, write)
        if always:
            flip(folder.out / "result")

    monkeypatch.setattr(local_run, "launcher_of", lambda cluster: Here(store, another_run))
    state = run_local(Graph((child,)), store, Cluster(launcher="local"), lambda state: None)
    assert (child.identity in state.done, child.identity in state.failed) == (not always, always)
    assert [attempt.cause for attempt in store.of(child).attempts()] == ["upstream", "upstream" if always else "done"]
    assert not state.healed


@pytest.mark.slow
def test_a_step_of_another_run_that_found_damage_is_made_here(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, child = step(), step(step(), label="child")
    folder = make(parent, write)
    holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    store.of(child).write_lease(local_job(holder.pid))

    def find_damage(state: RunState) -> None:
        if child.identity in state.foreign:
            flip(folder.out / "result")
            assert folder.verify("the other run")
            holder.kill()
            holder.wait()

    monkeypatch.setattr(local_run, "SECONDS_BETWEEN_LEASE_CHECKS", 0.1)
    monkeypatch.setattr(local_run, "launcher_of", lambda cluster: Here(store, lambda: None))
    state = run_local(Graph((child,)), store, Cluster(launcher="local"), find_damage)
    assert state.done == {parent.identity, child.identity} and state.healed == {parent.identity}


def test_a_host_that_cannot_read_a_result_condemns_nothing(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(step(), write)

    with monkeypatch.context() as patched:
        patched.setattr(store_folder, "xxh3_of", fail_to_read)
        with pytest.raises(UserError, match=r"out/result cannot be read on .* \(Input/output error\)"):
            folder.verify("the test")
    assert folder.done and folder.damage() is None
