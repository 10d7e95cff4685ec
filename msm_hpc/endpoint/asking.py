"""One prompt, from its first request to its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from msm_hpc.base.errors import UserError
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.endpoint.breaker import Breaker
from msm_hpc.endpoint.completions import Completion, Unusable, answer, completion, result_of
from msm_hpc.endpoint.failures import RETRIES, Failure, failure_of
from msm_hpc.endpoint.pace import Pace
from msm_hpc.endpoint.prompts import Message, Prompt, Reject, Result
from msm_hpc.endpoint.spending import Cost, Ledger
from msm_hpc.endpoint.transport import NoResponseError, Transport

SLACK = 16  # tokens that some servers count beyond the limit: an end of the turn, a tag


class EndedError(Exception):
    """The run is ending: no further request starts."""


class Ending:
    """Whether the run is ending, and why."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._event = asyncio.Event()

    def because(self, error: Exception) -> None:
        """End; the first reason stands."""
        self.error = self.error or error
        self._event.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not past the end."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return

    def check(self) -> None:
        """Raises EndedError: the run is ending."""
        if self.error is not None:
            raise EndedError from self.error


@dataclass(frozen=True)
class Asker:
    """Asks prompts of one endpoint, within its pace and budget."""

    endpoint: Endpoint
    transport: Transport
    pace: Pace
    ledger: Ledger
    breaker: Breaker
    ending: Ending

    @property
    def workers(self) -> int:
        """How many prompts are under way at most."""
        return self.endpoint.in_flight

    async def ask(self, prompt: Prompt, key: str) -> Result:
        """How a prompt ends; an answer that does not fit the schema is asked for once more, with the error.

        Raises:
            UserError: nothing further can succeed, or be paid.
            EndedError: the run ended before.
        """
        costs: list[Cost] = []
        after: tuple[Message, ...] = ()
        while True:
            read = await self._completion(prompt, prompt.body(self.endpoint, key, after))
            if isinstance(read, Failure):
                return Reject("bad_request" if read.cause == "prompt" else "failed", read.detail, *_sum(costs))
            got, cost = read
            costs.append(cost)
            said = answer(got, prompt, self.endpoint)
            if isinstance(said, str) or said.reason != "malformed" or after:
                return result_of(got, said, *_sum(costs))
            after = _once_more(said)

    async def _completion(self, prompt: Prompt, body: bytes) -> tuple[Completion, Cost] | Failure:
        """A completion and its cost, after as many tries as its failures are worth."""
        tries: dict[str, int] = {}
        while True:
            self.ending.check()
            read = await self._request(prompt, body)
            if not isinstance(read, Failure):
                self.breaker.answered()
                return read
            if read.cause == "prompt":
                return read
            self.breaker.failed(not tries, read.detail)
            tries[read.cause] = tries.get(read.cause, 0) + 1
            if tries[read.cause] >= RETRIES[read.cause].tries and not self.breaker.open:
                return read
            if self.breaker.open and read.cause != "busy":
                self.pace.probe()
            await self.ending.sleep(read.delay_s(tries[read.cause]))

    async def _request(self, prompt: Prompt, body: bytes) -> tuple[Completion, Cost] | Failure:
        most = self.ledger.most(body, prompt.max_tokens)
        async with self.pace:
            self.ending.check()
            await self.ledger.reserve(most)
            began = asyncio.get_running_loop().time()
            try:
                read = await self._respond(body)
            except asyncio.CancelledError:
                self.ledger.book_unsure(most)
                raise
            finally:
                self.ledger.release(most)
            if isinstance(read, Failure):
                if read.paid:
                    self.ledger.book_unsure(most)
                if read.cause in ("busy", "timeout"):
                    self.pace.pushed_back(began)
                return read
            cost = self.ledger.cost(*tokens_of(read, most))
            self.ledger.book(cost)
            self._check_limit(cost, prompt)
            self.pace.answered()
            return read, cost

    async def _respond(self, body: bytes) -> Completion | Failure:
        try:
            response = await self.transport.post(body)
        except NoResponseError as error:
            return Failure(error.cause, str(error), paid=error.sent)
        if response.status != 200:
            return failure_of(response, self.endpoint)
        read = completion(response.body)
        return Failure("torn", read, paid=True) if isinstance(read, str) else read

    def _check_limit(self, cost: Cost, prompt: Prompt) -> None:
        if cost.completion_tokens > prompt.max_tokens + SLACK:
            raise UserError(
                f"endpoint {self.endpoint.base_url}: took {cost.completion_tokens} tokens for a reply of at most "
                f"{prompt.max_tokens}: it does not know {self.endpoint.limit_field!r}; set endpoint.limit_field"
            )


def tokens_of(read: Completion, most: Cost) -> tuple[int, int]:
    """As the endpoint counts them; the most that it can be where it does not say."""
    if read.usage is None:
        return most.prompt_tokens, most.completion_tokens
    return read.usage.prompt_tokens, read.usage.completion_tokens


def _once_more(said: Unusable) -> tuple[Message, ...]:
    problem = f"That is not the JSON asked for ({said.detail}). Answer again, with that JSON alone."
    return Message("assistant", said.text), Message("user", problem)


def _sum(costs: list[Cost]) -> tuple[int, int]:
    return sum(each.prompt_tokens for each in costs), sum(each.completion_tokens for each in costs)
