"""A test server that no one should take for a model: it answers over real HTTP, and badly where it is asked to.

A prompt says how in its first user turn: ``[429 cut] tell me`` is met with 429, then with a cut connection, and from
then on with answers; without brackets it is answered at once. What was answered is counted as paid for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import orjson
from aiohttp import web

MODEL = "no-model-but-a-test-server"
KEY = "the-right-key"
_SCRIPT = re.compile(r"\[([^\]]+)\]")


@dataclass
class FaultyModelServer:
    """The server's state; ``asked`` counts requests and ``paid`` answers, by the prompt's first user turn."""

    latency_s: float = 0.0
    model: str = MODEL
    asked: Counter[str] = field(default_factory=Counter)
    paid: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_in_flight: int = 0
    capacity: int = 1_000_000  # more at a time meet 429
    out_of_order: bool = False  # whether everything fails with 500
    lives_for: int | None = None  # so does all that comes after so many answers
    hold_batches: bool = False  # whether no batch is completed
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    port: int = 0
    keep: bool = True  # whether what is asked is kept: not in benchmarks
    fault: Callable[[dict[str, Any]], str] = lambda body: "ok"  # how a request is answered where nothing is kept
    _in_flight: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_get("/v1/models", self._models)
        Batches(self).add_to(application)
        return application

    async def _models(self, request: web.Request) -> web.Response:
        if (refused := self._refused(request)) is not None:
            return refused
        return web.json_response({"object": "list", "data": [{"id": self.model, "object": "model"}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            return await self._answer(request)
        finally:
            self._in_flight -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        text = next(each["content"] for each in body["messages"] if each["role"] == "user")
        if self.keep:
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
            found = _SCRIPT.match(text)
            script = [*found[1].split(), "ok"] if found else ["ok"]
            step = script[min(self.asked[text], len(script) - 1)]
            self.asked[text] += 1
        else:
            step = self.fault(body)
        if (refused := self._refused(request)) is not None:
            return refused
        if body["model"] != self.model:
            return _error(404, f"no model {body['model']}", "model_not_found")
        await asyncio.sleep(self.latency_s)
        if self._in_flight > self.capacity:
            return _error(429, "too many", headers={"Retry-After": "0.01"})
        if self.out_of_order or (self.lives_for is not None and self.paid.total() >= self.lives_for):
            return _error(500, "out of order")
        name, _, value = step.partition(":")
        return await FAULTS[name](self, Asked(request, body, text, value))

    def _refused(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return None if given in (KEY, "none") else _error(401, "Incorrect API key provided", "invalid_api_key")


@dataclass
class Asked:
    """A request that is being answered; ``value`` is what stands behind the colon in its script."""

    request: web.Request
    body: dict[str, Any]
    text: str
    value: str


Answer = Callable[[FaultyModelServer, Asked], Awaitable[web.StreamResponse]]


@dataclass
class Batches:
    """The batch API: answers come in the wrong order, some twice, after a look or two."""

    server: FaultyModelServer
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add_to(self, application: web.Application) -> None:
        application.router.add_post("/v1/files", self._upload)
        application.router.add_get("/v1/files/{id}/content", self._content)
        application.router.add_post("/v1/batches", self._create)
        application.router.add_get("/v1/batches", self._list)
        application.router.add_get("/v1/batches/{id}", self._look)
        self.server.batches = self.batches

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        sent = form["file"]
        assert isinstance(sent, web.FileField) and form["purpose"] == "batch"
        name = f"file-{len(self.files)}"
        self.files[name] = sent.file.read()
        return web.json_response({"id": name, "object": "file", "filename": sent.filename, "purpose": "batch"})

    async def _content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.match_info["id"]])

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        name = f"batch-{len(self.batches)}"
        batch = {"id": name, "object": "batch", "status": "in_progress", "created_at": 1, "looks": 0, **asked}
        self.batches[name] = batch
        return web.json_response(batch)

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": list(self.batches.values()), "has_more": False})

    async def _look(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        batch["looks"] += 1
        if batch["looks"] == 1:
            return _error(500, "a bug")
        if self.server.out_of_order:
            batch["status"] = "failed"
            batch["errors"] = {"object": "list", "data": [{"code": "limit", "message": "Enqueued token limit reached"}]}
        elif batch["looks"] > 2 and not self.server.hold_batches and batch["status"] == "in_progress":
            await self._finish(batch)
        return web.json_response(batch)

    async def _finish(self, batch: dict[str, Any]) -> None:
        good, bad = list[bytes](), list[bytes]()
        for line in self.files[batch["input_file_id"]].splitlines():
            asked = orjson.loads(line)
            text = asked["body"]["messages"][-1]["content"]
            found = _SCRIPT.match(text)
            self.server.asked[text] += 1
            if found and found[1] == "missing":
                continue
            answer = await FAULTS[found[1] if found else "ok"](self.server, Asked(None, asked["body"], text, ""))  # type: ignore[arg-type]
            assert isinstance(answer, web.Response) and isinstance(answer.body, bytes)
            response = {"status_code": answer.status, "request_id": "r", "body": orjson.loads(answer.body)}
            found_out = {"id": "b", "custom_id": asked["custom_id"], "response": response, "error": None}
            (good if answer.status == 200 else bad).append(orjson.dumps(found_out))
        batch["status"] = "completed"
        for name, lines in (("output_file_id", [*reversed(good), *good[:1]]), ("error_file_id", bad)):
            batch[name] = f"file-{len(self.files)}"
            self.files[batch[name]] = b"".join(line + b"\n" for line in lines)


def _error(status: int, message: str, code: str = "", headers: dict[str, str] | None = None) -> web.Response:
    error = {"error": {"message": message, "type": "error", "code": code or None}}
    return web.json_response(error, status=status, headers=headers)


def _completion(server: FaultyModelServer, asked: Asked, **changed: Any) -> dict[str, Any]:
    server.paid[asked.text] += 1
    said = {
        "content": _content(asked),
        **{name: changed.pop(name) for name in ("content", "refusal") if name in changed},
    }
    finish = changed.pop("finish_reason", "stop")
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 1,
        "model": asked.body["model"],
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", **said}}],
        "usage": _usage(asked, said["content"]),
        **changed,
    }


def _usage(asked: Asked, content: str | None) -> dict[str, int]:
    return {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def _content(asked: Asked) -> str:
    form = asked.body.get("response_format")
    if form is None:
        return f"said to: {asked.text[-60:]}"
    values = {"string": "some words", "integer": 7, "number": 0.5, "boolean": True, "array": []}
    fields = form["json_schema"]["schema"]["properties"]
    return json.dumps({name: values[kind["type"]] for name, kind in fields.items()})


def _says(**changed: Any) -> Answer:
    async def answer(server: FaultyModelServer, asked: Asked) -> web.StreamResponse:
        return web.Response(body=orjson.dumps(_completion(server, asked, **changed)), content_type="application/json")

    return answer


def _fails(status: int, message: str, code: str = "") -> Answer:
    async def answer(server: FaultyModelServer, asked: Asked) -> web.StreamResponse:
        return _error(status, message, code, {"Retry-After": asked.value} if asked.value else None)

    return answer


async def _busy_until_a_date(server: FaultyModelServer, asked: Asked) -> web.StreamResponse:
    return _error(429, "slow down", headers={"Retry-After": formatdate(time.time() + float(asked.value), usegmt=True)})


async def _cut(server: FaultyModelServer, asked: Asked) -> web.StreamResponse:
    assert asked.request.transport is not None
    asked.request.transport.abort()
    return web.Response()


async def _cut_in_the_middle(server: FaultyModelServer, asked: Asked) -> web.StreamResponse:
    body = orjson.dumps(_completion(server, asked))
    response = web.StreamResponse(headers={"Content-Length": str(len(body))})
    await response.prepare(asked.request)
    await response.write(body[: len(body) // 2])
    return await _cut(server, asked)


async def _slow(server: FaultyModelServer, asked: Asked) -> web.StreamResponse:
    """A byte at a time, all in about ``value`` seconds."""
    body = orjson.dumps(_completion(server, asked))
    response = web.StreamResponse()
    await response.prepare(asked.request)
    with contextlib.suppress(ConnectionError):
        for byte in body:
            await response.write(bytes([byte]))
            await asyncio.sleep(float(asked.value) / len(body))
    return response


async def _hang(server: FaultyModelServer, asked: Asked) -> web.StreamResponse:
    server.paid[asked.text] += 1
    await asyncio.sleep(3600)
    return web.Response()


async def _torn(server: FaultyModelServer, asked: Asked) -> web.StreamResponse:
    return web.Response(body=orjson.dumps(_completion(server, asked))[:-40], content_type="application/json")


async def _page(server: FaultyModelServer, asked: Asked) -> web.StreamResponse:
    return web.Response(text="<html>the proxy says hello</html>", content_type="text/html")


FAULTS: dict[str, Answer] = {
    "ok": _says(),
    "429": _fails(429, "slow down"),
    "429-date": _busy_until_a_date,
    "500": _fails(500, "a bug"),
    "503": _fails(503, "overloaded"),
    "400": _fails(400, "the prompt is longer than the context", "context_length_exceeded"),
    "402": _fails(402, "pay first"),
    "quota": _fails(429, "You exceeded your current quota", "insufficient_quota"),
    "cut": _cut,
    "cut-in-the-middle": _cut_in_the_middle,
    "slow": _slow,
    "torn": _torn,
    "page": _page,
    "schema": _says(content='{"title": 3}'),
    "prose": _says(content="Of course! Here is what you asked for."),
    "refuse": _says(content=None, refusal="I cannot help with that."),
    "filter": _says(content="", finish_reason="content_filter"),
    "empty": _says(content=""),
    "null": _says(content=None),
    "length": _says(finish_reason="length"),
    "thinking": _says(content=None, finish_reason="length"),
    "same": _says(content="the same for everybody"),
    "other": _says(model="another-model"),
    "dated": _says(model=f"{MODEL}-2026-08-06"),
    "no-usage": _says(usage=None),
    "greedy": _says(usage={"prompt_tokens": 10, "completion_tokens": 100_000}),
    "no-choices": _says(choices=[]),
    "moved": _fails(301, "elsewhere"),
    "hang": _hang,
}


@contextlib.contextmanager
def serving(**state: Any) -> Iterator[FaultyModelServer]:
    """The server, in a thread of its own."""
    server, loop, started = FaultyModelServer(**state), asyncio.new_event_loop(), threading.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(_start(server))
        started.set()
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _start(server: FaultyModelServer) -> None:
    runner = web.AppRunner(server.application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", server.port, backlog=2048)
    await site.start()
    server.port = runner.addresses[0][1]


def main() -> None:
    """Serve until killed; prints the address. Nothing that is asked is kept."""
    parser = argparse.ArgumentParser(description="A test server, and no model.")
    parser.add_argument("--latency-ms", type=float, default=0)
    options = parser.parse_args()
    with serving(latency_s=options.latency_ms / 1000, keep=False) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
