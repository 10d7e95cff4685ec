"""Where a language model answers over HTTP, what it costs, and how much of it may be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, NonNegativeFloat, PositiveInt

from msm_hpc.base.errors import UserError
from msm_hpc.config.schema import Rate, Strict, placement

KEYS_OF = {"ANTHROPIC_API_KEY": "anthropic.com", "OPENAI_API_KEY": "openai.com"}
"""By the usual variables of providers' keys, whose they are: an override of the address alone would give them away."""


@dataclass(frozen=True, kw_only=True)
class Endpoint(Strict):
    """One model behind an OpenAI-compatible API: a provider's, or a server of your own.

    Attributes:
        model: as the API calls it; part of every prompt's key.
        body: further fields of each request, such as ``reasoning_effort``; null leaves one out, such as a ``seed`` that
            the API does not know. Part of every prompt's key.
        limit_field: what the API calls the limit of a reply's tokens; some servers know only the older ``max_tokens``.
        replies_as: the model's name in replies, where that is another (a dated version of ``model`` is known as such).
        asked_as: the model's name in requests and replies, where prompts are keyed by another: the server of one job
            has a name of its own.
        base_url: up to and without ``/chat/completions``: ``https://api.openai.com/v1``.
        key_variable: the environment variable with the API key; empty if the endpoint wants none.
        in_flight: the most requests at a time; fewer where the endpoint answers 429.
        timeout_s: how long one reply may take.
        patience_s: how long an endpoint that fails at everything is waited for.
        price_in: of a million prompt tokens, in the currency of ``budget``.
        price_out: of a million completion tokens, reasoning included.
        budget: money that all requests of one folder may cost; None is no limit. Tasks that write one corpus have
            equal parts of it.
        budget_tokens: prompt and completion tokens that they may take.
        batch: ask through the batch API, which takes up to a day and commonly costs half.
    """

    model: Annotated[str, Field(min_length=1)]
    body: Mapping[str, Any] = field(default_factory=dict)
    limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    replies_as: str = ""
    asked_as: str = placement("")
    base_url: str = placement("")
    key_variable: str = placement("")
    in_flight: PositiveInt = placement(64)
    timeout_s: Rate = placement(120.0)
    patience_s: Rate = placement(300.0)
    price_in: NonNegativeFloat = placement(0.0)
    price_out: NonNegativeFloat = placement(0.0)
    budget: NonNegativeFloat | None = placement(None)
    budget_tokens: PositiveInt | None = placement(None)
    batch: bool = placement(False)

    def __post_init__(self) -> None:
        owner, host = KEYS_OF.get(self.key_variable), urlsplit(self.base_url).hostname
        if owner and host and not f".{host}".endswith(f".{owner}"):
            raise UserError(
                f"key_variable {self.key_variable} holds a key of {owner}, which would be sent to {host}; name the "
                "variable with the key of that server, or give '' if it wants none"
            )

    @property
    def asked(self) -> str:
        """The model's name in requests."""
        return self.asked_as or self.model

    @property
    def priced(self) -> bool:
        """Whether it is known what tokens cost."""
        return self.price_in + self.price_out > 0
