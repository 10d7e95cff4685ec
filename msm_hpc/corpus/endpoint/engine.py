"""The engine: prompts in, replies out as they arrive, everything that was paid for on disk.

>>> async with opened(endpoint, folder) as engine:
...     async for prompt, result in engine.ask(prompts):
...         match result:
...             case Reply(text=text): ...
...             case Reject(reason=reason): ...
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from msm_hpc.config.endpoint import Endpoint
from msm_hpc.corpus.endpoint.prompts import Prompt, Reject, Reply

Prompts = Iterable[Prompt] | AsyncIterable[Prompt]


class Engine:
    """One endpoint and one folder of replies; several streams may ask at once and share limits, budget and folder."""

    def ask(self, prompts: Prompts) -> AsyncIterator[tuple[Prompt, Reply | Reject]]:
        """Each prompt with how it ended, in the order of arrival; what the folder has is not asked again.

        ``prompts`` is read no further than there is room for, and may be made of another stream's replies. What is
        yielded is on disk. Leaving the loop early abandons what is in flight.

        Raises:
            UserError: the budget is spent, the key or the model is refused, or the endpoint fails at everything.
            StoppedBySignalError: SIGTERM, SIGUSR2 or Ctrl-C; what had arrived is on disk.
        """
        raise NotImplementedError


@asynccontextmanager
async def opened(endpoint: Endpoint, folder: Path) -> AsyncIterator[Engine]:
    """An engine whose replies are kept in ``folder``, which one process at a time may use.

    Raises:
        UserError: another process uses the folder, or the endpoint's key is missing.
    """
    raise NotImplementedError
    yield


async def ask(endpoint: Endpoint, prompts: Prompts, folder: Path) -> AsyncIterator[tuple[Prompt, Reply | Reject]]:
    """:meth:`Engine.ask` of an engine opened for this alone."""
    async with opened(endpoint, folder) as engine:
        async for each in engine.ask(prompts):
            yield each
