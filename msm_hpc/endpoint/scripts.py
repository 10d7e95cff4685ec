"""Many scripts played side by side: each a generator that yields prompts and is sent how they ended.

What is asked for one document is linear code, however many documents are asked for at once::

    def document(item: Item) -> Script[Row | Rejection]:
        draft = yield prompt_of(item)
        if isinstance(draft, Reject):
            return Rejection(item, draft.reason)
        revised = yield revision_of(draft)
        ...
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterable
from dataclasses import replace
from typing import Generic, Protocol, TypeAlias, TypeVar

from msm_hpc.endpoint.prompts import Prompt, Result

T = TypeVar("T")
Script: TypeAlias = Generator[Prompt, Result, T]
WINDOW = 4096
"""How many scripts may have begun since the oldest one that has not ended: what is kept in memory."""


class Asks(Protocol):
    """What scripts need of the engine."""

    def ask(self, prompts: AsyncIterator[Prompt]) -> AsyncIterator[tuple[Prompt, Result]]:
        """Each prompt with how it ended, in the order of arrival."""
        ...


async def play(engine: Asks, scripts: Iterable[Script[T]], window: int = WINDOW) -> AsyncIterator[T]:
    """What the scripts return, in their order. Each asks for something."""
    stage = _Stage(scripts, window)
    async for prompt, result in engine.ask(stage.prompts()):
        for returned in stage.hear(prompt.about, result):
            yield returned


class _Stage(Generic[T]):
    def __init__(self, scripts: Iterable[Script[T]], window: int) -> None:
        self._scripts = iter(scripts)
        self._window = window
        self._playing: dict[int, Script[T]] = {}
        self._ready: deque[Prompt] = deque()
        self._returned: dict[int, T] = {}
        self._begun = self._given = 0
        self._all_begun = False
        self._changed = asyncio.Event()

    async def prompts(self) -> AsyncIterator[Prompt]:
        """What there is to ask: first what follows a reply, then the beginnings of further scripts."""
        while True:
            if not self._ready:
                self._begin()
            if self._ready:
                yield self._ready.popleft()
            elif self._all_begun and not self._playing:
                return
            else:
                self._changed.clear()
                await self._changed.wait()

    def hear(self, number: int, result: Result) -> Iterable[T]:
        """Send a script how its prompt ended; what scripts have returned whose predecessors all have."""
        script = self._playing[number]
        try:
            self._ready.append(replace(script.send(result), about=number))
        except StopIteration as end:
            del self._playing[number]
            self._returned[number] = end.value
        while self._given in self._returned:
            self._given += 1
            yield self._returned.pop(self._given - 1)
        self._changed.set()

    def _begin(self) -> None:
        if self._all_begun or self._begun >= self._given + self._window:
            return
        script = next(self._scripts, None)
        if script is None:
            self._all_begun = True
            return
        self._playing[self._begun] = script
        self._ready.append(replace(next(script), about=self._begun))
        self._begun += 1
