"""Requests that failed: whether and when each is tried again, by cause."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import openai

from msm_hpc.base.errors import UserError
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.endpoint.completions import problem
from msm_hpc.endpoint.transport import Response

LONGEST_DELAY_S = 30.0


@dataclass(frozen=True)
class Retry:
    """How a cause is met: tries of one prompt in all, and the delay before the second; it doubles from then on."""

    tries: int
    delay_s: float


RETRIES: Mapping[str, Retry] = {
    "busy": Retry(8, 1.0),  # 429, and 503 or 529 of an overloaded server
    "server": Retry(5, 0.5),  # any other 5xx, 408, 409 and 425
    "cut": Retry(5, 0.2),
    "timeout": Retry(3, 1.0),
    "torn": Retry(3, 0.2),  # 200, and no chat completion
}
_BUSY, _AGAIN = (429, 503, 529), (408, 409, 425)


@dataclass(frozen=True)
class Failure:
    """A request that failed.

    ``cause`` is one of ``RETRIES``, or ``"prompt"`` (400, 413, 422…), which is not tried again. ``wait_s`` is how long
    the endpoint asks to wait; ``paid``, whether the request may have cost something all the same.
    """

    cause: str
    detail: str
    wait_s: float = 0.0
    paid: bool = False

    def delay_s(self, tries: int) -> float:
        """How long to wait after ``tries`` tries, with jitter: what failed together shall not return together."""
        grown = min(LONGEST_DELAY_S, RETRIES[self.cause].delay_s * 2 ** (tries - 1))
        return self.wait_s * random.uniform(1.0, 1.1) if self.wait_s else grown * random.uniform(0.5, 1.0)


def failure_of(response: Response, endpoint: Endpoint) -> Failure:
    """What a status other than 200 means.

    Raises:
        UserError: no request can succeed: the key, the model or the address is wrong, or the account is empty.
    """
    code, message = problem(response.body)
    detail = f"{response.status} {code}: {message}" if code else f"{response.status}: {message}"
    name = f"endpoint {endpoint.base_url}"
    if response.status in (401, 403):
        raise key_refused(endpoint, detail)
    if response.status in (404, 405) or 300 <= response.status < 400:
        raise UserError(f"{name}: no model {endpoint.asked!r} answers there ({detail}); correct model or base_url")
    if response.status == 402 or code == "insufficient_quota":
        raise UserError(f"{name}: the account is empty ({detail}); pay in, and run again")
    wait_s = _retry_after(response.headers)
    if wait_s > endpoint.patience_s:
        raise UserError(f"{name}: asks to wait {wait_s:.0f} s ({detail}); run again then, or raise endpoint.patience_s")
    if is_bad(response.status):
        return Failure("prompt", detail)
    return Failure("busy" if response.status in _BUSY else "server", detail, wait_s)


def key_refused(endpoint: Endpoint, detail: str) -> UserError:
    """An endpoint does not take its key."""
    variable = endpoint.key_variable or "nothing (endpoint.key_variable is empty)"
    return UserError(f"endpoint {endpoint.base_url}: the API key in {variable} is refused ({detail}); correct it")


def in_a_line(error: openai.APIError) -> str:
    """What an API said, as one line of an error."""
    return " ".join(error.message.split())[:300]


def is_bad(status: int) -> bool:
    """Whether a status other than 200 says that the request itself is at fault, so that it would fail again."""
    return status < 500 and status not in (*_BUSY, *_AGAIN)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds; a date counts too."""
    if milliseconds := _number(headers.get("retry-after-ms", "")):
        return milliseconds / 1000
    text = headers.get("Retry-After", "")
    if seconds := _number(text):
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0


def _number(text: str) -> float:
    """A number of at least 0, and finite; 0 for any other text."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 <= value < float("inf") else 0.0
