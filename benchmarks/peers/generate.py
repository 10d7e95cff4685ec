"""Ask a server for many chat completions in one way, and print what that took as JSON.

``python generate.py WAY URL COUNT IN_FLIGHT FOLDER``: ``ours`` is the engine, each reply on disk in FOLDER before it
counts; ``openai`` is its stock ``AsyncOpenAI``, ``openai-aiohttp`` the same over ``aiohttp``, both keeping nothing.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from openai import AsyncOpenAI, DefaultAioHttpClient, Timeout

from msm_hpc.config.endpoint import Endpoint
from msm_hpc.endpoint import Message, Prompt, ask
from tests.endpoint.faulty_model_server import MODEL

SYSTEM = "You write documents about a cheese that everybody can afford. " * 10
SHARES = 5  # of the run: the memory is noted after each


def main() -> None:
    """Measure one way."""
    way, url, count, in_flight, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])
    replies = _ours(url, count, in_flight, folder) if way == "ours" else _openai(way, url, count, in_flight)
    print(json.dumps(asyncio.run(_measured(replies, count))))


async def _measured(replies: AsyncIterator[object], count: int) -> dict[str, object]:
    began, used, memory, first = time.perf_counter(), time.process_time(), [], 0.0
    done = 0
    async for _ in replies:
        done += 1
        first = first or time.perf_counter() - began
        if done % max(1, count // SHARES) == 0:
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    assert done == count, f"{done} of {count}"
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    return {"wall": wall, "cpu": cpu, "memory": memory, "first": first}


def _ours(url: str, count: int, in_flight: int, folder: Path) -> AsyncIterator[object]:
    endpoint = Endpoint(base_url=url, model=MODEL, in_flight=in_flight, price_in=1.0, price_out=4.0, budget=1e9)
    return ask(endpoint, prompts(count), folder)


def prompts(count: int) -> Iterator[Prompt]:
    """The same in every run."""
    system = Message("system", SYSTEM)
    return (Prompt(messages=(system, Message("user", f"document {i}")), max_tokens=100) for i in range(count))


async def _openai(way: str, url: str, count: int, in_flight: int) -> AsyncIterator[object]:
    http = DefaultAioHttpClient() if way == "openai-aiohttp" else None
    numbers, replies = iter(range(count)), asyncio.Queue[str | None]()
    async with AsyncOpenAI(base_url=url, api_key="none", http_client=http, timeout=Timeout(120, connect=60)) as client:

        async def work() -> None:
            for number in numbers:
                reply = await client.chat.completions.create(
                    model=MODEL,
                    max_completion_tokens=100,
                    messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"document {number}"}],
                )
                replies.put_nowait(reply.choices[0].message.content)

        workers = [asyncio.create_task(work()) for _ in range(in_flight)]
        for _ in range(count):
            yield await replies.get()
        await asyncio.gather(*workers)


if __name__ == "__main__":
    main()
