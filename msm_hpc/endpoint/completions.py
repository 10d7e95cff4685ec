"""Reading a response: what a chat completion says, and whether that is an answer to the prompt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import msgspec
import orjson
from pydantic import ValidationError

from msm_hpc.config.endpoint import Endpoint
from msm_hpc.endpoint.prompts import Prompt, Reason, Reject, Reply, Result

_DATED = re.compile(r"-\d{4}(-?\d{2}){0,2}")  # gpt-4o answers as gpt-4o-2024-08-06


class _Said(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Said
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    """Tokens, as the endpoint counts them."""

    prompt_tokens: int
    completion_tokens: int


class Completion(msgspec.Struct):
    """The parts of a chat completion that count here."""

    choices: list[_Choice]
    model: str = ""
    usage: Usage | None = None


@dataclass(frozen=True)
class Unusable:
    """Why a completion is no answer; ``text`` is what the model said."""

    reason: Reason
    detail: str
    text: str = ""


_COMPLETIONS = msgspec.json.Decoder(Completion)


def completion(body: bytes) -> Completion | str:
    """A response of status 200; a string says what is wrong with one that is no chat completion."""
    try:
        read = _COMPLETIONS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"no chat completion: {error}; it begins {body[:100]!r}"
    return read if read.choices else f"a completion without choices: {body[:100]!r}"


def answer(read: Completion, prompt: Prompt, endpoint: Endpoint) -> str | Unusable:
    """The text of a completion if it answers the prompt."""
    said, finish = read.choices[0].message, read.choices[0].finish_reason
    text = said.content or ""
    if not _is_of(read.model, endpoint):
        return Unusable("other_model", f"asked {endpoint.asked}, and {read.model or 'a model without a name'} answered")
    if said.refusal or finish == "content_filter":
        return Unusable("refused", said.refusal or "the endpoint's content filter")
    if finish == "length" and (prompt.answer or not text.strip()):
        return Unusable("truncated", f"max_tokens={prompt.max_tokens} reached after {text[-60:]!r}")
    if not text.strip():
        return Unusable("empty", f"no text (finish reason {finish})")
    if prompt.answer is not None:
        try:
            prompt.answer.model_validate_json(text)
        except ValidationError as error:
            return Unusable("malformed", _explain(error), text)
    return text


def result_of(read: Completion, said: str | Unusable, prompt_tokens: int, completion_tokens: int) -> Result:
    """How a prompt ends with a completion, for so many tokens."""
    if isinstance(said, Unusable):
        return Reject(said.reason, said.detail, prompt_tokens, completion_tokens)
    finish: Literal["length", "stop"] = "length" if read.choices[0].finish_reason == "length" else "stop"
    return Reply(said, finish, read.model, prompt_tokens, completion_tokens)


def problem(body: bytes) -> tuple[str, str]:
    """The code and the message of an error's response."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", body[:300].decode(errors="replace").strip()
    error = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(error, dict):
        return "", str(error)[:300]
    return str(error.get("code") or error.get("type") or ""), str(error.get("message") or error.get("detail") or error)[
        :300
    ]


def _is_of(model: str, endpoint: Endpoint) -> bool:
    if endpoint.replies_as:
        return model == endpoint.replies_as
    return model == endpoint.asked or (
        model.startswith(endpoint.asked) and _DATED.fullmatch(model, len(endpoint.asked)) is not None
    )


def _explain(error: ValidationError) -> str:
    """Each problem as ``field: what is wrong``."""
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'JSON'}: {each['msg']}" for each in error.errors()[:5])
