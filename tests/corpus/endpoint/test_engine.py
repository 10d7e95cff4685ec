from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.corpus.endpoint import Answer, Message, Prompt, Reject, Reply, ask, opened, spent
from msm_hpc.corpus.endpoint import failures
from tests.corpus.endpoint.faulty_model_server import KEY, MODEL, FaultyModelServer, serving


class Idea(Answer):
    title: str
    score: int


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "LONGEST_DELAY_S", 0.01)


@pytest.fixture
def server() -> Iterator[FaultyModelServer]:
    with serving() as running:
        yield running


def at(server: FaultyModelServer, **fields: object) -> Endpoint:
    return Endpoint(**{"base_url": server.url, "model": MODEL, "timeout_s": 5.0, **fields})


def prompt(text: str, **fields: object) -> Prompt:
    return Prompt(**{"messages": (Message("user", text),), "max_tokens": 100, **fields})


def run(endpoint: Endpoint, prompts: list[Prompt], folder: Path) -> list[tuple[Prompt, Reply | Reject]]:
    async def collect() -> list[tuple[Prompt, Reply | Reject]]:
        return [each async for each in ask(endpoint, prompts, folder)]

    return asyncio.run(collect())


def only(endpoint: Endpoint, asked: Prompt, folder: Path) -> Reply | Reject:
    [(back, result)] = run(endpoint, [asked], folder)
    assert back is asked
    return result


@pytest.mark.parametrize(
    ("script", "requests"),
    [
        ("429", 2),
        ("429:0.05", 2),
        ("429 429 500 503", 5),
        ("500 500 500 500", 5),
        ("cut", 2),
        ("cut-in-the-middle cut", 3),
        ("torn page no-choices".split()[0], 2),
        ("page torn", 3),
        ("no-choices", 2),
        ("slow:0.1", 1),
        ("dated", 1),
        ("no-usage", 1),
        ("same", 1),
    ],
)
def test_what_passes_is_tried_again(server: FaultyModelServer, tmp_path: Path, script: str, requests: int) -> None:
    result = only(at(server), prompt(f"[{script}] hello"), tmp_path)
    assert isinstance(result, Reply), result
    assert server.asked.total() == requests


@pytest.mark.parametrize(
    ("script", "structured", "reason", "requests"),
    [
        ("429 " * 9, False, "failed", 8),
        ("500 " * 9, False, "failed", 5),
        ("cut " * 9, False, "failed", 5),
        ("torn " * 9, False, "failed", 3),
        ("400", False, "failed", 1),
        ("refuse", False, "refused", 1),
        ("filter", False, "refused", 1),
        ("empty", False, "empty", 1),
        ("null", False, "empty", 1),
        ("thinking", False, "truncated", 1),
        ("length", True, "truncated", 1),
        ("other", False, "other_model", 1),
        ("schema schema", True, "malformed", 2),
        ("prose schema", True, "malformed", 2),
    ],
)
def test_what_stays_is_a_reject(
    server: FaultyModelServer, tmp_path: Path, script: str, structured: bool, reason: str, requests: int
) -> None:
    asked = prompt(f"[{script}] hello", answer=Idea if structured else None)
    result = only(at(server), asked, tmp_path)
    assert isinstance(result, Reject) and result.reason == reason, result
    assert result.detail and len(server.bodies) == requests
