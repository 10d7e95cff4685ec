"""A stream: where prompts come from, and where their ends go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable

from msm_hpc.endpoint.prompts import Prompt, Result

Prompts = Iterable[Prompt] | AsyncIterable[Prompt]
ROOM = 1000


class Stream:
    """One call of ``Engine.ask``.

    ``room`` bounds the prompts that were taken and whose ends nobody has received yet, so that memory is bounded by it
    and not by the number of prompts. ``out`` has the ends, then None, or the exception that ends the stream.
    ``workers`` are at it.
    """

    def __init__(self, prompts: Prompts, in_flight: int) -> None:
        self.out: asyncio.Queue[tuple[Prompt, Result] | BaseException | None] = asyncio.Queue()
        self.room = asyncio.Semaphore(2 * in_flight + ROOM)
        self.workers = 1
        self._prompts = aiter(each_of(prompts))
        self._reading = asyncio.Lock()
        self._undelivered = 0
        self._finished = False

    async def take(self) -> Prompt | None:
        """The next prompt, when there is room; None when there is no more."""
        await self.room.acquire()
        async with self._reading:
            prompt = await anext(self._prompts, None)
        if prompt is None:
            self.room.release()
        else:
            self._undelivered += 1
        return prompt

    def deliver(self, prompt: Prompt, result: Result) -> None:
        """A prompt has ended."""
        self.out.put_nowait((prompt, result))
        self._undelivered -= 1
        self._close_if_done()

    def finish(self) -> None:
        """All prompts are taken; the stream ends with the last that is delivered."""
        self._finished = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._finished and not self._undelivered:
            self.out.put_nowait(None)


async def each_of(prompts: Prompts) -> AsyncIterator[Prompt]:
    """Prompts from either kind of source."""
    if isinstance(prompts, AsyncIterable):
        async for prompt in prompts:
            yield prompt
        return
    for prompt in prompts:
        yield prompt
