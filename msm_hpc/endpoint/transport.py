"""The one place where requests go out: the address and headers of the ``openai`` client, over ``aiohttp``.

The client alone costs 1 to 2 ms of CPU a request with many in flight; most of it is building typed requests and
replies. So prompts take this short way, and the client itself does what is asked rarely: models, files and batches.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from openai import AsyncOpenAI, Timeout

from msm_hpc.base.errors import UserError
from msm_hpc.config.endpoint import Endpoint

CONNECT_S = 60.0  # a busy machine takes long to open hundreds of connections at once
KEEP_ALIVE_S = 4.0  # below the 5 s after which uvicorn closes an idle connection, perhaps while we send
NO_KEY = "none"
_TELEMETRY = "x-stainless-"  # which Python on which machine: each header costs time, and no model wants to know


class NoResponseError(Exception):
    """A request without a whole response; ``sent`` says whether the model may have answered, and been paid for it."""

    def __init__(self, cause: Literal["cut", "timeout"], detail: str, sent: bool) -> None:
        super().__init__(detail)
        self.cause = cause
        self.sent = sent


@dataclass(frozen=True)
class Response:
    """A whole response, of any status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Open connections to an endpoint; ``client`` is for all but prompts."""

    def __init__(self, client: AsyncOpenAI, session: aiohttp.ClientSession, url: str) -> None:
        self.client = client
        self._session = session
        self._url = url

    async def post(self, body: bytes) -> Response:
        """Send one chat completion.

        Raises:
            NoResponseError: no whole response came.
        """
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                return Response(response.status, response.headers, await response.read())
        except aiohttp.ClientConnectorError as error:
            raise NoResponseError("cut", f"no connection: {error}", sent=False) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise NoResponseError("timeout", "no connection in time", sent=False) from error
        except TimeoutError as error:
            raise NoResponseError(
                "timeout", f"no whole reply in {self._session.timeout.total:g} s", sent=True
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise NoResponseError(
                "cut", f"the connection was cut: {error or type(error).__name__}", sent=True
            ) from error


def client(endpoint: Endpoint) -> AsyncOpenAI:
    """The ``openai`` client of an endpoint.

    Raises:
        UserError: the address is none, the key's environment variable is not set, or a budget has no prices.
    """
    if endpoint.budget is not None and not endpoint.priced:
        raise UserError("endpoint.budget: nothing has a price; set endpoint.price_in and endpoint.price_out")
    if urlsplit(endpoint.base_url).scheme not in ("http", "https"):
        raise UserError(
            f"endpoint.base_url: {endpoint.base_url!r} is no address; give one such as https://api.openai.com/v1"
        )
    key = os.environ.get(endpoint.key_variable, "").strip() if endpoint.key_variable else NO_KEY
    if not key:
        raise UserError(
            f"endpoint.key_variable: the environment variable {endpoint.key_variable} is not set; put the API key "
            f"of {endpoint.base_url} into it"
        )
    timeout = Timeout(endpoint.timeout_s, connect=CONNECT_S)
    return AsyncOpenAI(base_url=endpoint.base_url, api_key=key, timeout=timeout, max_retries=2)


@asynccontextmanager
async def connected(endpoint: Endpoint) -> AsyncIterator[Transport]:
    """Connections that are closed at the end.

    Raises:
        UserError: as :func:`client`.
    """
    known = client(endpoint)
    headers = {
        name: value
        for name, value in {**known.default_headers, **known.auth_headers}.items()
        if isinstance(value, str) and not name.lower().startswith(_TELEMETRY)
    }
    async with (
        known,
        aiohttp.ClientSession(
            headers=headers,
            proxy=_proxy(endpoint.base_url),
            timeout=aiohttp.ClientTimeout(total=endpoint.timeout_s, sock_connect=CONNECT_S),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),  # the default limit is 100
        ) as session,
    ):
        yield Transport(known, session, f"{known.base_url}chat/completions")


def _proxy(url: str) -> str | None:
    """The environment's proxy for an address, as other programs would use it; asked once, since it is slow."""
    parts = urlsplit(url)
    if parts.hostname in ("127.0.0.1", "localhost"):  # whose requests would reach the proxy's own machine
        return None
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
