from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from msm_hpc.base.errors import UserError
from msm_hpc.endpoint import Message, Prompt, Reply, check
from tests.endpoint.asking import at, only
from tests.endpoint.faulty_model_server import KEY, MODEL, FaultyModelServer

RIGHT, WRONG, EMPTY = "RIGHT_API_KEY", "WRONG_API_KEY", "NO_API_KEY"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RIGHT, KEY)
    monkeypatch.setenv(WRONG, "not-the-right-one")


def test_an_endpoint_that_can_be_asked(server: FaultyModelServer) -> None:
    asyncio.run(check(at(server)))
    asyncio.run(check(at(server, key_variable=RIGHT)))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"key_variable": EMPTY}, f"the environment variable {EMPTY} is not set"),
        ({"key_variable": WRONG}, f"the API key in {WRONG} is refused .*Incorrect API key provided.*; correct it"),
        ({"base_url": "http://127.0.0.1:9/v1"}, "no answer .*; start the server, or correct endpoint.base_url"),
        ({"base_url": "http://no-such-host.invalid/v1"}, "no answer"),
        ({"base_url": "127.0.0.1:80/v1"}, "is no address; give one such as"),
        ({"base_url": ""}, "is no address"),
        ({"budget": 5.0}, "nothing has a price; set endpoint.price_in and endpoint.price_out"),
        ({"model": "gpt-9"}, f"no model 'gpt-9'; correct endpoint.model to one of: {MODEL}"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_line(server: FaultyModelServer, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        asyncio.run(check(at(server, **fields)))
    assert "\n" not in str(caught.value) and "not-the-right-one" not in str(caught.value)


def test_a_wrong_path_is_one_clear_line(server: FaultyModelServer) -> None:
    with pytest.raises(UserError, match=r"has no list of models .*often ends in /v1"):
        asyncio.run(check(at(server, base_url=server.url.removesuffix("/v1"))))


def test_prompts_go_out_as_the_openai_client_would_send_them(server: FaultyModelServer, tmp_path: Path) -> None:
    asked = Prompt(messages=(Message("system", "s"), Message("user", "ünïcode")), max_tokens=7, temperature=0.5)
    assert isinstance(only(at(server, key_variable=RIGHT), asked, tmp_path), Reply)

    async def stock() -> None:
        async with AsyncOpenAI(base_url=server.url, api_key=KEY) as client:
            body = {name: value for name, value in server.bodies[0].items()}
            reply = await client.chat.completions.create(**body)
            assert reply.choices[0].message.content

    asyncio.run(stock())
    ours, theirs = server.bodies
    assert json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)
    for name in ("Authorization", "User-Agent", "Accept", "Content-Type"):
        assert server.headers[0][name] == server.headers[1][name], name
