"""What is asked and how it can end: a :class:`Prompt` ends as a :class:`Reply` or as a :class:`Reject`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict

from msm_hpc.config.endpoint import Endpoint

Role = Literal["system", "user", "assistant"]
Reason = Literal["refused", "empty", "truncated", "malformed", "bad_request", "other_model", "failed"]
UNANSWERED: frozenset[Reason] = frozenset({"bad_request", "other_model", "failed"})
"""Reasons of rejects that are no answer of the model: a later run asks again."""


class Answer(BaseModel):
    """Base of structured answers: no unknown fields, and none with a default, as strict JSON schemas want it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Message:
    """One turn of a prompt."""

    role: Role
    content: str


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What is asked, once.

    Attributes:
        messages: the turns, in order.
        max_tokens: the most tokens of a reply, reasoning included.
        temperature: of sampling.
        sample: the n-th answer to the same messages. It is part of the key, so that no cache gives one answer twice.
        answer: of a structured answer; its JSON schema is sent, and the reply's text validates against it.
        about: yours; it comes back with the prompt, is not sent and not part of the key.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 1.0
    sample: int = 0
    answer: type[Answer] | None = None
    about: Any = field(default=None, compare=False)

    def key(self, endpoint: Endpoint) -> str:
        """SHA-256 (hexadecimal) of all that shapes the reply: the request, and the number of the sample."""
        shape = {"sample": self.sample, "request": self._request(endpoint)}
        return hashlib.sha256(orjson.dumps(shape, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def body(self, endpoint: Endpoint, key: str, after: tuple[Message, ...] = ()) -> bytes:
        """What is sent; ``after`` are turns that follow. The seed comes from the key: each sample has its own."""
        request = {**self._request(endpoint, after), "model": endpoint.asked}
        request.setdefault("seed", int(key[:8], 16) >> 1)
        return orjson.dumps({name: value for name, value in request.items() if value is not None})

    def _request(self, endpoint: Endpoint, after: tuple[Message, ...] = ()) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": endpoint.model,
            "messages": [{"role": each.role, "content": each.content} for each in (*self.messages, *after)],
            endpoint.limit_field: self.max_tokens,
            "temperature": self.temperature,
        }
        if self.answer is not None:
            request["response_format"] = _response_format(self.answer)
        return {**request, **endpoint.body}


@cache
def _response_format(answer: type[Answer]) -> dict[str, Any]:
    schema = {"name": answer.__name__, "strict": True, "schema": answer.model_json_schema()}
    return {"type": "json_schema", "json_schema": schema}


@dataclass(frozen=True)
class Reply:
    """A model's answer; ``text`` is valid JSON of ``Prompt.answer`` where there is one.

    ``finish`` is ``"length"`` where ``max_tokens`` cut the text; structured answers that were cut are rejects. The
    tokens are those of all requests that were paid for it; an upper bound, where the endpoint does not say.
    """

    text: str
    finish: Literal["stop", "length"]
    model: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Reject:
    """A prompt that ends without an answer; counted, and no exception.

    - ``refused``: the API says so (a text that declines is a reply: whoever asked judges that)
    - ``empty``: no text
    - ``truncated``: a structured answer cut by ``max_tokens``, or no text before it was reached
    - ``malformed``: no JSON of ``Prompt.answer``, even when asked again with the error
    - ``bad_request``: the API does not take the request, such as one that is too long for the model
    - ``other_model``: another model answered
    - ``failed``: no usable response after several tries
    """

    reason: Reason
    detail: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


Result = Reply | Reject
