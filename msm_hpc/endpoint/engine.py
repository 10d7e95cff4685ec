"""The engine: prompts in, replies out as they arrive, everything that was paid for on disk.

>>> async with opened(endpoint, folder) as engine:
...     async for prompt, result in engine.ask(prompts):
...         match result:
...             case Reply(text=text): ...
...             case Reject(reason=reason): ...
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from msm_hpc.base.errors import StoppedBySignalError, UserError
from msm_hpc.base.stopping import StopRequest, noticed
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.endpoint.asking import Asker, EndedError, Ending
from msm_hpc.endpoint.batches import BatchAsker
from msm_hpc.endpoint.breaker import Breaker
from msm_hpc.endpoint.pace import Pace
from msm_hpc.endpoint.prompts import UNANSWERED, Prompt, Reject, Reply, Result
from msm_hpc.endpoint.replies import Replies
from msm_hpc.endpoint.spending import Ledger, Spent
from msm_hpc.endpoint.streams import Prompts, Stream
from msm_hpc.endpoint.transport import connected

GRACE_S = 20.0  # for what is in flight when a signal comes: Slurm kills 30 s after SIGTERM
SECONDS_BETWEEN_LOOKS = 0.1
RARELY = (100_000, 20, 20)  # the thresholds of the garbage collector

log = logging.getLogger(__name__)


class Engine:
    """One endpoint and one folder of replies; several streams may ask at once and share limits, budget and folder."""

    def __init__(self, asker: Asker | BatchAsker, replies: Replies) -> None:
        self._asker = asker
        self._replies = replies
        self._asking: dict[str, list[tuple[Stream, Prompt]]] = {}
        self._streams: set[asyncio.Task[None]] = set()
        self._workers: set[asyncio.Task[None]] = set()
        self._working: set[asyncio.Task[None]] = set()  # those of them with a prompt; the others wait for one

    @property
    def spent(self) -> Spent:
        """What all requests to this endpoint's model have cost, those of earlier runs in the folder included."""
        return self._asker.ledger.spent.get(self._asker.endpoint.model, Spent())

    async def ask(self, prompts: Prompts) -> AsyncIterator[tuple[Prompt, Result]]:
        """Each prompt with how it ended, in the order of arrival; what the folder has is not asked again.

        ``prompts`` is read no further than there is room for, and may wait for replies, another stream's or this one's.
        What is yielded is on disk. Leaving the loop early abandons what is in flight.

        Raises:
            UserError: the budget is spent, the key or the model is refused, or the endpoint fails at everything.
            StoppedBySignalError: SIGTERM, SIGUSR2 or Ctrl-C; what had arrived is on disk.
        """
        stream = Stream(prompts, self._asker.workers)
        asking = asyncio.create_task(self._serve(stream))
        self._streams.add(asking)
        try:
            while (item := await stream.out.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
                stream.room.release()
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            self._streams.discard(asking)

    def end(self, error: Exception, grace_s: float | None = None) -> None:
        """Start no further request; what is in flight may take ``grace_s`` more, and no longer."""
        self._asker.ending.because(error)
        for each in self._workers - self._working:  # the next prompt may wait for a reply that will never come
            each.cancel()
        if grace_s is not None:
            asyncio.get_running_loop().call_later(grace_s, self._cancel)

    async def close(self) -> None:
        """Abandon what streams that nobody reads any more have in flight."""
        for each in self._streams:
            each.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)

    def _cancel(self) -> None:
        for each in tuple(self._working):
            each.cancel()

    async def _serve(self, stream: Stream) -> None:
        """Have workers answer a stream's prompts; then end the stream, when all that they asked is on disk."""
        try:
            async with asyncio.TaskGroup() as workers:
                workers.create_task(self._work(stream, workers))
        except ExceptionGroup as broken:
            stream.out.put_nowait(broken.exceptions[0])
            return
        if self._asker.ending.error is None:
            stream.finish()
        else:
            await self._replies.written()
            stream.out.put_nowait(self._asker.ending.error)

    async def _work(self, stream: Stream, workers: asyncio.TaskGroup) -> None:
        """Answer prompts, one at a time; another worker takes the next, if there may be one more."""
        worker = asyncio.current_task()
        assert worker is not None
        with _among(self._workers, worker):
            while self._asker.ending.error is None and (prompt := await stream.take()) is not None:
                if stream.workers < self._asker.workers:
                    stream.workers += 1
                    workers.create_task(self._work(stream, workers))
                key = prompt.key(self._asker.endpoint)
                if (known := self._replies.find(key)) is not None:
                    stream.deliver(prompt, known)
                elif (waiting := self._asking.get(key)) is not None:
                    waiting.append((stream, prompt))
                else:
                    with _among(self._working, worker):
                        await self._answer(stream, prompt, key)

    async def _answer(self, stream: Stream, prompt: Prompt, key: str) -> None:
        self._asking[key] = [(stream, prompt)]
        result = None
        try:
            result = await self._asker.ask(prompt, key)
            self._asker.breaker.ended(result)
        except EndedError:
            return
        except UserError as error:
            self.end(error)
        finally:
            self._conclude(key, self._asking.pop(key), result)

    def _conclude(self, key: str, asked: list[tuple[Stream, Prompt]], result: Result | None) -> None:
        """Pass on how a prompt ended to all that asked it; None: it has not, since its stream or the run ends."""
        if result is None and self._asker.ending.error is None:
            asked, result = asked[1:], Reject("failed", "abandoned with the stream that was first to ask the same")
        if isinstance(result, Reply) or (result is not None and result.reason not in UNANSWERED):
            self._replies.add(key, result, self._asker.ledger.spent, partial(_deliver, asked, result))
        elif result is not None:
            _deliver(asked, result)


@asynccontextmanager
async def opened(endpoint: Endpoint, folder: Path) -> AsyncIterator[Engine]:
    """An engine whose replies are kept in ``folder``, which one process at a time may use.

    Raises:
        UserError: another process uses the folder, or the endpoint's key is missing.
    """
    async with connected(endpoint) as transport:
        replies = Replies(folder)
        name = f"endpoint {endpoint.base_url}, model {endpoint.model}"
        ledger, ending = Ledger(endpoint, replies.spent), Ending()
        breaker = Breaker(name, endpoint.patience_s)
        batches = BatchAsker(endpoint, transport.client, ledger, breaker, ending, replies, folder)
        direct = Asker(endpoint, transport, Pace(endpoint.in_flight), ledger, breaker, ending)
        engine = Engine(batches if endpoint.batch else direct, replies)
        log.info("%s: %d replies are on disk", folder, len(replies))
        try:
            if endpoint.batch:
                await batches.find_earlier()
            with _stopping() as request, _collecting_rarely():
                tasks = [asyncio.create_task(_write(engine, replies)), asyncio.create_task(_watch(engine, request))]
                try:
                    yield engine
                finally:
                    await engine.close()
                    tasks[1].cancel()
                    replies.finish()
                    await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            batches.close()
            replies.close(ledger.spent)
            log.info("%s: spent so far on %s: %s", folder, endpoint.model, engine.spent)


async def ask(endpoint: Endpoint, prompts: Prompts, folder: Path) -> AsyncIterator[tuple[Prompt, Result]]:
    """:meth:`Engine.ask` of an engine opened for this alone."""
    async with opened(endpoint, folder) as engine:
        async for each in engine.ask(prompts):
            yield each


@contextlib.contextmanager
def _stopping() -> Iterator[StopRequest]:
    """Signals that stop are noted, where this may be done: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield StopRequest()
        return
    with noticed() as request:
        yield request


@contextlib.contextmanager
def _among(tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> Iterator[None]:
    """A task is one of ``tasks`` while this is open."""
    tasks.add(task)
    try:
        yield
    finally:
        tasks.discard(task)


@contextlib.contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Garbage is looked for rarely: else what hundreds of requests hold is looked through again and again."""
    usual = gc.get_threshold()
    gc.set_threshold(*RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _deliver(asked: list[tuple[Stream, Prompt]], result: Result) -> None:
    for stream, prompt in asked:
        stream.deliver(prompt, result)


async def _write(engine: Engine, replies: Replies) -> None:
    try:
        await replies.write()
    except OSError as error:
        engine.end(error, grace_s=0.0)


async def _watch(engine: Engine, request: StopRequest) -> None:
    at_first = engine.spent
    while not request.received:
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
    asked = signal.Signals(request.received)
    message = f"{asked.name} asked the run to stop; what had been answered is on disk, and is not asked again"
    engine.end(StoppedBySignalError(message, asked, progressed=engine.spent != at_first), GRACE_S)
