"""What was spent on each model, in tokens and money, and the limit that no request may exceed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from msm_hpc.base.errors import UserError
from msm_hpc.config.endpoint import Endpoint

MILLION = 1_000_000
TOKENS_OF_TEMPLATE = 512  # what a chat template may add: turns, and the schema's instructions


class Spent(msgspec.Struct, frozen=True):
    """On one model, in one folder, over all runs.

    The ``unsure`` are requests whose response never came whole: nobody said what they cost, so they are counted at the
    most that they can have cost. What was in flight when a process was killed is not known here.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: float = 0.0
    unsure_requests: int = 0
    unsure_tokens: int = 0
    unsure_money: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        """Both."""
        return Spent(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.money + other.money,
            self.unsure_requests + other.unsure_requests,
            self.unsure_tokens + other.unsure_tokens,
            self.unsure_money + other.unsure_money,
        )

    def part(self, sharers: int) -> Spent:
        """One of so many equal parts; all of them are no less than this."""
        return Spent(
            -(-self.requests // sharers),
            -(-self.prompt_tokens // sharers),
            -(-self.completion_tokens // sharers),
            self.money / sharers,
            -(-self.unsure_requests // sharers),
            -(-self.unsure_tokens // sharers),
            self.unsure_money / sharers,
        )

    def __str__(self) -> str:
        said = (
            f"{self.requests:,} requests, {self.prompt_tokens:,} + {self.completion_tokens:,} tokens, {self.money:.4f}"
        )
        if not self.unsure_requests:
            return said
        return (
            f"{said}; and at most {self.unsure_tokens:,} tokens, {self.unsure_money:.4f}, in {self.unsure_requests:,} "
            "requests without a whole response"
        )


class Cost(msgspec.Struct, frozen=True):
    """Of one request: tokens, and what they cost."""

    prompt_tokens: int
    completion_tokens: int
    money: float

    @property
    def tokens(self) -> int:
        """Of both kinds."""
        return self.prompt_tokens + self.completion_tokens


class BudgetSpentError(UserError):
    """The next request could exceed the budget."""


class Ledger:
    """Books what requests cost, and holds back those that could exceed the budget."""

    def __init__(self, endpoint: Endpoint, before: Mapping[str, Spent]) -> None:
        self._endpoint = endpoint
        self.spent = dict(before)
        self._reserved_money = 0.0
        self._reserved_tokens = 0
        self._released = asyncio.Event()

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Cost:
        """At this endpoint's prices."""
        money = prompt_tokens * self._endpoint.price_in + completion_tokens * self._endpoint.price_out
        return Cost(prompt_tokens, completion_tokens, money / MILLION)

    def most(self, body: bytes, max_tokens: int) -> Cost:
        """The most that a request can cost: no token is shorter than a byte."""
        return self.cost(len(body) + TOKENS_OF_TEMPLATE, max_tokens)

    async def reserve(self, most: Cost) -> None:
        """Wait until this much fits the budget, whatever comes of what is in flight.

        Raises:
            BudgetSpentError: it does not, and nothing is in flight that may turn out cheaper.
        """
        while lacking := self._lacking(most):
            if not self._reserved_tokens:
                raise BudgetSpentError(lacking)
            self._released.clear()
            await self._released.wait()
        self._reserved_money += most.money
        self._reserved_tokens += most.tokens

    def release(self, reserved: Cost) -> None:
        """What was reserved is booked, or was not paid."""
        self._reserved_money -= reserved.money
        self._reserved_tokens -= reserved.tokens
        self._released.set()

    def book(self, cost: Cost) -> None:
        """A request has cost this."""
        self._add(Spent(1, cost.prompt_tokens, cost.completion_tokens, cost.money))

    def book_unsure(self, most: Cost) -> None:
        """A request may have cost as much as this."""
        self._add(Spent(unsure_requests=1, unsure_tokens=most.tokens, unsure_money=most.money))

    def _add(self, spent: Spent) -> None:
        before = self.spent.get(self._endpoint.model)
        self.spent[self._endpoint.model] = before + spent if before else spent

    def _lacking(self, most: Cost) -> str:
        """Why a request may not start now; empty if it may."""
        budget, limit = self._endpoint.budget, self._endpoint.budget_tokens
        models = self.spent.values()
        money = sum(each.money + each.unsure_money for each in models)
        if budget is not None and money + self._reserved_money + most.money > budget:
            return (
                f"endpoint.budget: {money:.4f} of {budget:g} is spent, and the next request may cost {most.money:.4f}; "
                "raise the budget and run again: nothing that was answered is asked again"
            )
        tokens = sum(each.prompt_tokens + each.completion_tokens + each.unsure_tokens for each in models)
        if limit is not None and tokens + self._reserved_tokens + most.tokens > limit:
            return (
                f"endpoint.budget_tokens: {tokens:,} of {limit:,} are spent, and the next request may take "
                f"{most.tokens:,}; raise the budget and run again: nothing that was answered is asked again"
            )
        return ""
