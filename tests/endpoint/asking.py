"""What the tests of the engine ask with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from typing import Any

from msm_hpc.config.endpoint import Endpoint
from msm_hpc.endpoint import Answer, Message, Prompt, Reject, Reply, ask
from tests.endpoint.faulty_model_server import MODEL, FaultyModelServer

Ends = list[tuple[Prompt, Reply | Reject]]


class Idea(Answer):
    """A structured answer."""

    title: str
    score: int


def at(server: FaultyModelServer, **fields: Any) -> Endpoint:
    return Endpoint(**{"base_url": server.url, "model": MODEL, "timeout_s": 20.0, "in_flight": 32, **fields})


def prompt(text: str, **fields: Any) -> Prompt:
    return Prompt(**{"messages": (Message("user", text),), "max_tokens": 100, **fields})


def run(endpoint: Endpoint, prompts: Iterable[Prompt] | AsyncIterable[Prompt], folder: Path) -> Ends:
    async def collect() -> Ends:
        return [each async for each in ask(endpoint, prompts, folder)]

    return asyncio.run(collect())


def only(endpoint: Endpoint, asked: Prompt, folder: Path) -> Reply | Reject:
    [(back, result)] = run(endpoint, [asked], folder)
    assert back is asked
    return result
