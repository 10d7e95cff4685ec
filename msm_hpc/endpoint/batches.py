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
from collections.abc import Iterable, Iterator
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
from msm_hpc.endpoint.asking import Ending, tokens_of
from msm_hpc.endpoint.breaker import Breaker
from msm_hpc.endpoint.completions import answer, completion, problem, result_of
from msm_hpc.endpoint.failures import in_a_line, is_bad
from msm_hpc.endpoint.prompts import Prompt, Reject, Result
from msm_hpc.endpoint.replies import Replies
from msm_hpc.endpoint.spending import Cost, Ledger

FOLDER = "batches"
REQUESTS, BYTES = 10_000, 100_000_000  # of one batch; the API takes 50,000 and 200 MB
AT_ONCE = 4
SECONDS_BETWEEN_LOOKS = 30.0
QUIET_S = 5.0  # without a further prompt a batch is sent as it is: the next may wait for its replies
NAME = "msm_requests"
_ENDED = ("completed", "expired", "cancelled")
_TRANSIENT = (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError)

log = logging.getLogger(__name__)


class _Response(msgspec.Struct):
    status_code: int
    body: msgspec.Raw = msgspec.Raw(b"{}")


class _Line(msgspec.Struct):
    """Of a file of requests, whose ``custom_id`` alone counts here, or of answers."""

    custom_id: str
    response: _Response | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


_LINES = msgspec.json.Decoder(_Line)


@dataclass
class _Batch:
    """A batch: being filled (it has ``bodies``), at the provider, or answered (``answers`` are lines by key)."""

    keys: set[str] = field(default_factory=set)
    bodies: dict[str, bytes] = field(default_factory=dict)
    size: int = 0
    most: dict[str, Cost] = field(default_factory=dict)
    reserved: dict[str, Cost] = field(default_factory=dict)
    file: Path = Path()
    id: str = ""
    status: str = ""
    answers: dict[str, bytes] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        return len(self.bodies) >= REQUESTS or self.size >= BYTES


class BatchAsker:
    """Asks prompts of one endpoint in batches; an answer that does not fit its schema is a reject at once."""

    def __init__(
        self,
        endpoint: Endpoint,
        client: AsyncOpenAI,
        ledger: Ledger,
        breaker: Breaker,
        ending: Ending,
        replies: Replies,
        folder: Path,
    ) -> None:
        self.endpoint = endpoint
        self.ledger = ledger
        self.breaker = breaker
        self.ending = ending
        self._client = client
        self._replies = replies
        self._folder = folder / FOLDER
        self._by_key: dict[str, _Batch] = {}
        self._filling: _Batch | None = None
        self._done: list[Path] = []
        self._free = asyncio.Semaphore(AT_ONCE)

    @property
    def workers(self) -> int:
        """How many prompts are under way at most."""
        return REQUESTS * AT_ONCE

    async def ask(self, prompt: Prompt, key: str) -> Result:
        """How a prompt ends.

        Raises:
            UserError: its batch is refused, or would exceed the budget.
            EndedError: the run ended before.
        """
        batch = self._by_key.get(key) or self._put(prompt, key)
        batch.task = batch.task or asyncio.create_task(self._run(batch))
        try:
            await asyncio.shield(batch.task)
            return self._conclude(batch, prompt, key)
        finally:
            if (reserved := batch.reserved.pop(key, None)) is not None:
                self.ledger.release(reserved)

    async def find_earlier(self) -> None:
        """Look for batches of earlier runs whose answers are not all here.

        Raises:
            UserError: the batch API cannot say which there are.
        """
        files = sorted(self._folder.glob("*.jsonl"))
        unknown = {each.stem for each in files if not each.with_suffix(".id").is_file()}
        if unknown:
            with self._api_errors():
                unknown -= await self._found_by_name(unknown)
        for file in files:
            with file.open("rb") as lines:
                keys = {key for line in lines if self._replies.find(key := _LINES.decode(line).custom_id) is None}
            if keys and file.stem not in unknown:
                batch = _Batch(keys, file=file, id=file.with_suffix(".id").read_text())
                self._by_key.update(dict.fromkeys(keys, batch))
            else:
                _forget([file])  # all its answers are here, or the batch was never created

    def close(self) -> None:
        """Remove what is needed no more."""
        if not self._replies.failed:
            _forget(self._done)

    async def _found_by_name(self, wanted: set[str]) -> set[str]:
        """Those of the files of requests for which a batch was created, though its id was not noted."""
        found = set[str]()
        async for batch in self._client.batches.list():
            name = (batch.metadata or {}).get(NAME, "")
            if name in wanted - found:
                write_text(self._folder / f"{name}.id", batch.id)
                found.add(name)
            if found == wanted:
                break
        return found

    @contextlib.contextmanager
    def _api_errors(self) -> Iterator[None]:
        """What the API refuses is an error of the user's."""
        try:
            yield
        except openai.APIError as error:
            raise UserError(f"endpoint {self.endpoint.base_url}: the batch API says: {in_a_line(error)}") from error

    def _put(self, prompt: Prompt, key: str) -> _Batch:
        self._filling = batch = self._filling or _Batch()
        self._by_key[key] = batch
        batch.keys.add(key)
        batch.bodies[key] = body = prompt.body(self.endpoint, key)
        batch.most[key] = self.ledger.most(body, prompt.max_tokens)
        batch.size += len(body)
        if batch.full:
            self._filling = None
        return batch

    async def _run(self, batch: _Batch) -> None:
        """Fill and submit a batch, unless an earlier run has, and fetch its answers."""
        with self._api_errors():
            if batch.id:
                await self._fetch(batch, await self._finished(batch))
                return
            await self._filled(batch)
            async with self._free:
                await self._submit(batch)
                await self._fetch(batch, await self._finished(batch))

    async def _filled(self, batch: _Batch) -> None:
        before = 0
        while not batch.full and len(batch.bodies) > before:
            before = len(batch.bodies)
            await self.ending.sleep(QUIET_S)
            self.ending.check()
        if self._filling is batch:
            self._filling = None
        requests = (
            {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": orjson.Fragment(body)}
            for key, body in batch.bodies.items()
        )
        name = hashlib.sha256("".join(batch.bodies).encode()).hexdigest()[:32]
        batch.file = self._folder / f"{name}.jsonl"
        write_bytes(batch.file, b"".join(orjson.dumps(each) + b"\n" for each in requests))
        batch.bodies.clear()

    async def _submit(self, batch: _Batch) -> None:
        self.ending.check()
        most = batch.most.values()
        tokens = sum(each.prompt_tokens for each in most), sum(each.completion_tokens for each in most)
        await self.ledger.reserve(self.ledger.cost(*tokens))
        batch.reserved = batch.most
        self.ending.check()
        uploaded = await self._client.files.create(file=batch.file, purpose="batch")
        created = await self._client.batches.create(
            input_file_id=uploaded.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={NAME: batch.file.stem},
        )
        batch.id = created.id
        write_text(batch.file.with_suffix(".id"), batch.id)
        log.info("batch %s of %d requests is submitted", batch.id, len(batch.keys))
        done, self._done = self._done, []
        await self._replies.written()
        if not self._replies.failed:
            _forget(done)

    async def _finished(self, batch: _Batch) -> Batch:
        failing_since = 0.0
        while True:
            self.ending.check()
            try:
                found = await self._client.batches.retrieve(batch.id)
            except _TRANSIENT:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > self.endpoint.patience_s:
                    raise
            else:
                failing_since = 0.0
                if found.status == "failed":
                    _forget([batch.file])
                    why = "; ".join(each.message or "" for each in (found.errors and found.errors.data) or [])
                    raise UserError(f"batch {batch.id} was refused ({why}); correct this and run again")
                if found.status in _ENDED:
                    return found
            await self.ending.sleep(SECONDS_BETWEEN_LOOKS)

    async def _fetch(self, batch: _Batch, found: Batch) -> None:
        batch.status = found.status
        for file in (found.output_file_id, found.error_file_id):
            if file is not None:
                async with self._client.files.with_streaming_response.content(file) as response:
                    async for line in response.iter_lines():
                        key = _LINES.decode(line).custom_id
                        if key in batch.keys:
                            batch.answers[key] = line.encode()

    def _conclude(self, batch: _Batch, prompt: Prompt, key: str) -> Result:
        del self._by_key[key]
        batch.keys.discard(key)
        if not batch.keys:
            self._done.append(batch.file)
        line = batch.answers.pop(key, None)
        if line is None:
            return Reject("failed", f"batch {batch.id} ({batch.status}) has no answer")
        said = _LINES.decode(line)
        if said.response is None or said.response.status_code != 200:
            detail = ": ".join(filter(None, problem(bytes(said.response.body if said.response else said.error))))
            return Reject("bad_request" if said.response and is_bad(said.response.status_code) else "failed", detail)
        read = completion(bytes(said.response.body))
        if isinstance(read, str):
            return Reject("failed", read)
        most = self.ledger.most(prompt.body(self.endpoint, key), prompt.max_tokens)
        cost = self.ledger.cost(*tokens_of(read, most))
        self.ledger.book(cost)
        return result_of(read, answer(read, prompt, self.endpoint), cost.prompt_tokens, cost.completion_tokens)


def _forget(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
        file.with_suffix(".id").unlink(missing_ok=True)
