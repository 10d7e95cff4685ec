"""Runs that end from outside: kill -9, signals, a disk that takes no more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from msm_hpc.base.errors import StoppedBySignalError
from msm_hpc.endpoint import Prompt, Reply, ask, batches, engine, spent
from tests.endpoint.asking import at, prompt, run
from tests.endpoint.faulty_model_server import MODEL, FaultyModelServer

COUNT, IN_FLIGHT = 400, 16


def prompts() -> list[Prompt]:
    return [prompt(f"number {i}") for i in range(COUNT)]


def start(server: FaultyModelServer, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.endpoint.test_interrupted", server.url, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_after_kill_9_nothing_is_paid_for_twice_but_what_was_in_flight(
    server: FaultyModelServer, tmp_path: Path
) -> None:
    server.latency_s = 0.05
    with start(server, tmp_path) as process:
        wait_for(lambda: server.paid.total() >= COUNT // 3)
        process.kill()
    paid = server.paid.total()
    assert paid < COUNT
    server.latency_s = 0
    with start(server, tmp_path) as process:
        assert process.communicate()[0].split() == [str(COUNT)] and process.returncode == 0
    lost = server.paid.total() - COUNT
    at_most = 3 * IN_FLIGHT  # in flight, and what arrived in the 50 ms since the last sync
    assert 0 <= lost <= at_most and len(server.paid) == COUNT
    assert max(server.paid.values()) <= 2


@contextlib.contextmanager
def signalled(number: signal.Signals, when: Callable[[], bool]) -> Iterator[None]:
    """This process gets a signal once ``when`` holds; outside the engine, it does nothing."""
    before = signal.signal(number, lambda *_: None)
    sender = threading.Thread(target=lambda: (wait_for(when), os.kill(os.getpid(), number)))
    sender.start()
    try:
        yield
    finally:
        sender.join()
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_lets_what_is_in_flight_arrive(
    server: FaultyModelServer, tmp_path: Path, number: signal.Signals
) -> None:
    server.latency_s = 0.1
    stopped = pytest.raises(StoppedBySignalError, match=f"{number.name} asked the run to stop")
    with signalled(number, lambda: server.paid.total() >= IN_FLIGHT), stopped as caught:
        run(at(server, in_flight=IN_FLIGHT), prompts(), tmp_path)
    assert caught.value.progressed and caught.value.signal == number
    assert server.asked.total() == server.paid.total() < COUNT
    server.latency_s = 0
    assert len(run(at(server), prompts(), tmp_path)) == server.paid.total() == COUNT


def test_what_takes_too_long_after_a_signal_is_abandoned(
    server: FaultyModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "GRACE_S", 0.1)
    with signalled(signal.SIGTERM, lambda: server.paid.total() == 1), pytest.raises(StoppedBySignalError) as caught:
        run(at(server), [prompt("[hang] hello")], tmp_path)
    assert spent(tmp_path)[MODEL].unsure_requests == 1 and caught.value.signal == signal.SIGTERM


def test_a_signal_leaves_batches_under_way(
    server: FaultyModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.hold_batches = True
    monkeypatch.setattr(batches, "QUIET_S", 0.05)
    with signalled(signal.SIGTERM, lambda: len(server.batches) == 1), pytest.raises(StoppedBySignalError):
        run(at(server, batch=True), prompts(), tmp_path)
    assert len(list((tmp_path / "batches").glob("*.id"))) == 1


def test_a_full_disk_ends_the_run_and_leaves_whole_lines(server: FaultyModelServer, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"too large: '.*replies\.jsonl'"):
            run(at(server, in_flight=IN_FLIGHT), prompts(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    lines = (tmp_path / "replies.jsonl").read_bytes().splitlines(keepends=True)
    assert 0 < len(lines) < COUNT and all(line.endswith(b"}}\n") for line in lines)
    assert len(run(at(server), prompts(), tmp_path)) == COUNT


async def main() -> None:
    """Ask all, and print how many were answered."""
    url, folder = sys.argv[1:]
    answered = 0
    endpoint = at(FaultyModelServer(port=int(url.split(":")[2].split("/")[0])), in_flight=IN_FLIGHT)
    async for _, result in ask(endpoint, prompts(), Path(folder)):
        answered += isinstance(result, Reply)
    print(answered)


if __name__ == "__main__":
    asyncio.run(main())
