"""What the tests of servers ask with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msm_hpc.config.endpoint import Endpoint
from msm_hpc.endpoint import Message, Prompt, Reject, Reply, ask


def prompt(text: str, **fields: Any) -> Prompt:
    return Prompt(**{"messages": (Message("user", text),), "max_tokens": 12, **fields})


def run(endpoint: Endpoint, prompts: Iterable[Prompt], folder: Path) -> dict[Prompt, Reply | Reject]:
    async def collect() -> dict[Prompt, Reply | Reject]:
        return {asked: result async for asked, result in ask(endpoint, prompts, folder)}

    return asyncio.run(collect())
