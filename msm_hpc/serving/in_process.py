"""A server in a thread of this process: any model that transformers opens, on CPU too.

Requests that wait are answered together, as one batch. What one is answered does not depend on the others.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web

from msm_hpc.base.errors import UserError
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.serving import Serving
from msm_hpc.serving.handshake import shake_hands
from msm_hpc.serving.names import endpoint_of, name_here, name_of
from msm_hpc.serving.sampler import Drawn, Row, Sampler

GATHER_S = 0.02
"""What comes within this time is one batch."""
LARGEST_REQUEST = 64 << 20


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant"]
    content: str


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    """What may be asked; anything else is refused, and never left out silently."""

    model: str
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    seed: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0
    temperature: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1.0
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    n: Literal[1] = 1


_REQUESTS = msgspec.json.Decoder(_Request)


class Server:
    """Answers for one opened model under one name.

    Attributes:
        error: what the model failed with, if it did; nothing is answered from then on.
        url: where it answers, once :meth:`start` is done.
    """

    def __init__(self, sampler: Sampler, name: str, batch: int) -> None:
        self._sampler, self.name, self._batch = sampler, name, batch
        self._waiting: asyncio.Queue[tuple[Row, asyncio.Future[Drawn]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "generate")
        self.error: BaseException | None = None
        self.url = ""

    async def start(self) -> None:
        """Answer on a free port of this machine."""
        application = web.Application(client_max_size=LARGEST_REQUEST)
        application.router.add_get("/v1/models", self._models)
        application.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        self._generating = asyncio.create_task(self._generate())

    async def close(self) -> None:
        """Answer no more; what is being generated ends without an answer."""
        self._sampler.stopping.set()
        self._generating.cancel()
        await self._runner.cleanup()
        self._thread.shutdown(wait=True)

    async def _generate(self) -> None:
        """Answer what waits, batch by batch."""
        while True:
            waiting = [await self._waiting.get()]
            await asyncio.sleep(GATHER_S)
            while len(waiting) < self._batch and not self._waiting.empty():
                waiting.append(self._waiting.get_nowait())
            drawn = await self._drawn([row for row, _ in waiting])
            for index, (_, future) in enumerate(waiting):
                future.cancel() if drawn is None else future.set_result(drawn[index])

    async def _drawn(self, rows: list[Row]) -> list[Drawn] | None:
        """Replies, or None where the model fails, or failed before."""
        if self.error is None:
            drawing = asyncio.get_running_loop().run_in_executor(self._thread, self._sampler.draw, rows)
            await asyncio.wait([drawing])
            self.error = drawing.exception()
            return None if self.error or self._sampler.stopping.is_set() else drawing.result()
        return None

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self.name, "object": "model"}]})

    async def _chat(self, request: web.Request) -> web.Response:
        try:
            asked = _REQUESTS.decode(await request.read())
            if asked.model != self.name:
                return _refuse(404, f"no model {asked.model!r} here, but {self.name!r}")
            row = self._row(asked)
        except (msgspec.DecodeError, UnicodeDecodeError, UserError) as error:
            return _refuse(400, str(error))
        future: asyncio.Future[Drawn] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((row, future))
        await asyncio.wait([future])
        if future.cancelled():
            return _refuse(500, f"the model failed: {self.error!r}")
        return web.json_response(self._completion(row, future.result()))

    def _row(self, asked: _Request) -> Row:
        ids = self._sampler.prompts.encode([msgspec.structs.asdict(each) for each in asked.messages])
        context = self._sampler.context
        if context is not None and len(ids) + asked.max_tokens > context:
            raise UserError(
                f"a prompt of {len(ids)} tokens and a reply of at most {asked.max_tokens} are longer than the model's "
                f"context of {context}; ask for less"
            )
        return Row(ids, asked.max_tokens, asked.temperature, asked.top_p, asked.seed)

    def _completion(self, row: Row, drawn: Drawn) -> dict[str, Any]:
        message = {"role": "assistant", "content": drawn.text}
        return {
            "object": "chat.completion",
            "model": self.name,
            "choices": [{"index": 0, "message": message, "finish_reason": drawn.finish}],
            "usage": {
                "prompt_tokens": len(row.ids),
                "completion_tokens": drawn.tokens,
                "total_tokens": len(row.ids) + drawn.tokens,
            },
        }


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status)


@contextmanager
def in_process(config: Serving, model: Path, adapter: Path | None) -> Iterator[Endpoint]:
    """An endpoint in this process; see :func:`msm_hpc.serving.served`.

    Raises:
        UserError: the model or the adapter cannot be opened, or its training diverged.
        Exception: what the model failed with while it was asked.
    """
    name = name_of(model, adapter)
    server = Server(Sampler(model, adapter), name_here(name), config.batch)
    with _loop_in_a_thread() as wait_for:
        wait_for(server.start())
        try:
            shake_hands(server.url, server.name)
            # No failure here passes by itself, so that none is waited for.
            yield endpoint_of(config, server.url, name, server.name, patience_s=1.0)
        finally:
            wait_for(server.close())
            if server.error is not None:
                raise server.error


@contextmanager
def _loop_in_a_thread() -> Iterator[Callable[[Coroutine[Any, Any, None]], None]]:
    """An event loop in another thread, and what waits for a coroutine there."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="serving", daemon=True)
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
