"""Asking through the batch API: files of requests, answered within a day and commonly for half the money.

A file of requests is in ``batches/`` before its batch is created, and the batch carries the file's name. So a run that
died in between finds its batch at the provider, and pays for no request twice: what an open batch has is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import openai
import orjson
from openai import AsyncOpenAI
from openai.types import Batch

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_bytes, write_text
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.corpus.endpoint.asking import EndedError, Ending, tokens_of
from msm_hpc.corpus.endpoint.completions import answer, completion, problem, result_of
from msm_hpc.corpus.endpoint.prompts import Prompt, Reject, Result
from msm_hpc.corpus.endpoint.replies import Replies
from msm_hpc.corpus.endpoint.spending import Cost, Ledger
from msm_hpc.corpus.endpoint.streams import Prompts, each_of

FOLDER = "batches"
REQUESTS, BYTES = 10_000, 100_000_000  # of one batch; the API takes 50,000 and 200 MB
AT_ONCE = 8
SECONDS_BETWEEN_LOOKS = 30.0
NAME = "msm_requests"
_ENDED = ("completed", "expired", "cancelled", "failed")
_PASSING = (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError)

Ends = list[tuple[Prompt, Result]]
log = logging.getLogger(__name__)


class _Response(msgspec.Struct):
    status_code: int
    body: msgspec.Raw = msgspec.Raw(b"{}")


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


_LINES = msgspec.json.Decoder(_Line)


@dataclass
class _Requests:
    """What one batch asks: the body of each key."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    most: list[Cost] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        return len(self.bodies) >= REQUESTS or self.size >= BYTES

    def lines(self) -> Iterator[bytes]:
        for key, body in self.bodies.items():
            request = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": orjson.Fragment(body)}
            yield orjson.dumps(request) + b"\n"


@dataclass(frozen=True)
class _Open:
    """A batch that was submitted: its file of requests, its keys, and what is reserved for it."""

    id: str
    file: Path
    keys: frozenset[str]
    most: Cost


class Batches:
    """The batches of one endpoint and one folder."""

    def __init__(
        self,
        endpoint: Endpoint,
        client: AsyncOpenAI,
        replies: Replies,
        ledger: Ledger,
        ending: Ending,
        folder: Path,
    ) -> None:
        self._endpoint = endpoint
        self._client = client
        self._replies = replies
        self._ledger = ledger
        self._ending = ending
        self._folder = folder / FOLDER
        self._name = f"endpoint {endpoint.base_url}"

    async def ask(self, prompts: Prompts) -> AsyncIterator[tuple[Prompt, Result]]:
        """As ``Engine.ask``; an answer that does not fit its schema is a reject at once."""
        asked: dict[str, list[Prompt]] = {}
        running: set[asyncio.Task[Ends]] = set()
        try:
            earlier = await self._left_open()
            theirs = {key for each in earlier for key in each.keys}
            fresh = _Requests()
            async for prompt in each_of(prompts):
                self._ending.check()
                key = prompt.key(self._endpoint)
                if (known := self._replies.find(key)) is not None:
                    yield prompt, known
                elif key in asked or key in theirs:
                    asked.setdefault(key, []).append(prompt)
                else:
                    asked[key] = [prompt]
                    self._put(fresh, prompt, key)
                if fresh.full:
                    running.add(asyncio.create_task(self._answers(await self._submit(fresh), asked)))
                    fresh = _Requests()
                while len(running) >= AT_ONCE:
                    for end in await self._next(running):
                        yield end
            if fresh.bodies:
                running.add(asyncio.create_task(self._answers(await self._submit(fresh), asked)))
            running |= {asyncio.create_task(self._answers(each, asked)) for each in earlier if each.keys & asked.keys()}
            while running:
                for end in await self._next(running):
                    yield end
        except EndedError:
            assert self._ending.error is not None
            raise self._ending.error from None
        except openai.APIError as error:
            raise UserError(f"{self._name}: the batch API says: {' '.join(error.message.split())[:300]}") from error
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _put(self, fresh: _Requests, prompt: Prompt, key: str) -> None:
        body = prompt.body(self._endpoint, key)
        fresh.bodies[key] = body
        fresh.most.append(self._ledger.most(body, prompt.max_tokens))
        fresh.size += len(body)

    async def _next(self, running: set[asyncio.Task[Ends]]) -> Ends:
        """The ends of those that are done first, which leave ``running``."""
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        running -= done
        return [end for each in done for end in each.result()]

    async def _submit(self, fresh: _Requests) -> _Open:
        name = hashlib.sha256("".join(fresh.bodies).encode()).hexdigest()[:32]
        file = self._folder / f"{name}.jsonl"
        most = self._ledger.cost(
            sum(each.prompt_tokens for each in fresh.most), sum(each.completion_tokens for each in fresh.most)
        )
        await self._ledger.reserve(most)
        self._ending.check()
        write_bytes(file, b"".join(fresh.lines()))
        uploaded = await self._client.files.create(file=file, purpose="batch")
        batch = await self._client.batches.create(
            input_file_id=uploaded.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={NAME: name},
        )
        write_text(file.with_suffix(".id"), batch.id)
        log.info("%s: batch %s of %d requests is submitted", self._name, batch.id, len(fresh.bodies))
        return _Open(batch.id, file, frozenset(fresh.bodies), most)

    async def _left_open(self) -> list[_Open]:
        """The batches of earlier runs whose answers were not fetched."""
        files = sorted(self._folder.glob("*.jsonl"))
        ids = {each: each.with_suffix(".id") for each in files}
        unknown = {each.stem: each for each in files if not ids[each].is_file()}
        if unknown:
            async for batch in self._client.batches.list():
                if not unknown:
                    break
                file = unknown.pop((batch.metadata or {}).get(NAME, ""), None)
                if file is not None:
                    write_text(ids[file], batch.id)
        found = []
        for file in files:
            with file.open("rb") as lines:
                keys = frozenset(_LINES.decode(line).custom_id for line in lines)
            if file.stem in unknown or all(self._replies.find(key) for key in keys):
                _forget(file)  # its batch was never created, or all its answers are on disk
            else:
                found.append(_Open(ids[file].read_text(), file, keys, Cost(0, 0, 0.0)))
        return found

    async def _answers(self, batch: _Open, asked: dict[str, list[Prompt]]) -> Ends:
        """Wait for a batch; how all prompts that asked what it asks have ended, on disk."""
        try:
            ends = await self._fetched(batch, await self._finished(batch), asked)
        finally:
            self._ledger.release(batch.most)
        await self._replies.written()
        self._ending.check()  # they cannot be written, perhaps
        _forget(batch.file)
        return ends

    async def _fetched(self, batch: _Open, done: Batch, asked: dict[str, list[Prompt]]) -> Ends:
        ends: Ends = []
        for file in (done.output_file_id, done.error_file_id):
            if file is not None:
                async for line in self._lines(file):
                    prompts = asked.pop(line.custom_id, []) if line.custom_id in batch.keys else []
                    if prompts:
                        ends += self._conclude(line, prompts)
        for key in batch.keys & asked.keys():
            missing = Reject("failed", f"batch {batch.id} ({done.status}) has no answer")
            ends += [(prompt, missing) for prompt in asked.pop(key)]
        return ends

    async def _finished(self, batch: _Open) -> Batch:
        failing_since = None
        while True:
            self._ending.check()
            try:
                found = await self._client.batches.retrieve(batch.id)
            except _PASSING:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > self._endpoint.patience_s:
                    raise
            else:
                failing_since = None
                if found.status == "failed":
                    _forget(batch.file)
                    why = "; ".join(each.message or "" for each in (found.errors and found.errors.data) or [])
                    raise UserError(f"{self._name}: batch {batch.id} was refused ({why}); correct this and run again")
                if found.status in _ENDED:
                    return found
            await self._ending.sleep(SECONDS_BETWEEN_LOOKS)

    async def _lines(self, file: str) -> AsyncIterator[_Line]:
        path = self._folder / f"{file}.answers"
        async with self._client.files.with_streaming_response.content(file) as response:
            await response.stream_to_file(path)
        with contextlib.closing(path.open("rb")) as lines:
            for line in lines:
                yield _LINES.decode(line)
        path.unlink()

    def _conclude(self, line: _Line, prompts: list[Prompt]) -> Ends:
        response, prompt = line.response, prompts[0]
        if response is None or response.status_code != 200:
            said = bytes(line.error if response is None else response.body)
            return [(each, Reject("failed", ": ".join(problem(said)))) for each in prompts]
        read = completion(bytes(response.body))
        if isinstance(read, str):
            return [(each, Reject("failed", read)) for each in prompts]
        most = self._ledger.most(prompt.body(self._endpoint, line.custom_id), prompt.max_tokens)
        cost = self._ledger.cost(*tokens_of(read, most))
        self._ledger.book(cost)
        said_text = answer(read, prompt, self._endpoint)
        result = result_of(read, said_text, cost.prompt_tokens, cost.completion_tokens)
        self._replies.add(line.custom_id, result, self._ledger.spent, lambda: None)
        return [(each, result) for each in prompts]


def _forget(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.with_suffix(".id").unlink(missing_ok=True)
