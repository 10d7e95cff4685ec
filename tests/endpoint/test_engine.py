from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.endpoint import Message, Prompt, Reject, Reply, ask, opened, spent
from msm_hpc.endpoint.prompts import UNANSWERED
from tests.endpoint.asking import Idea, at, only, prompt, run
from tests.endpoint.drills import AS_JSON, EACH, MISFITS, PASSES, STAYS, everything, on_disk
from tests.endpoint.faulty_model_server import MODEL, FaultyModelServer


def test_what_passes_is_tried_again(server: FaultyModelServer, tmp_path: Path) -> None:
    prompts = [prompt(f"[{script}] hello") for script in PASSES]
    ends = run(at(server), prompts, tmp_path)
    assert {asked.messages[0].content: type(result) for asked, result in ends} == dict.fromkeys(server.asked, Reply)
    assert server.asked == {f"[{script}] hello": requests for script, requests in PASSES.items()}
    assert {result.finish for asked, result in ends if "length" in asked.messages[0].content} == {"length"}


def test_what_stays_is_a_counted_reject(server: FaultyModelServer, tmp_path: Path) -> None:
    prompts = [prompt(f"[{script}] hello", about=expected) for script, expected in STAYS.items()]
    prompts += [prompt(f"[{script}] an idea", about=expected, answer=Idea) for script, expected in MISFITS.items()]
    requests: Counter[str] = Counter()
    ends = run(at(server), prompts, tmp_path)
    for body in server.bodies:
        requests[body["messages"][0]["content"]] += 1
    assert len(ends) == len(prompts)
    for asked, result in ends:
        assert isinstance(result, Reject) and result.detail, asked
        assert (result.reason, requests[asked.messages[0].content]) == asked.about, asked


def test_everything_at_once_ends_with_the_right_counts(server: FaultyModelServer, tmp_path: Path) -> None:
    ends = everything(server, tmp_path)
    misfits = {name + AS_JSON: expected for name, expected in MISFITS.items()}
    rejected = {name: reason for name, (reason, _) in (STAYS | misfits).items()}
    assert Counter(asked.about for asked, _ in ends) == dict.fromkeys((*PASSES, *rejected, "ok", "same"), EACH)
    for asked, result in ends:
        assert (result.reason if isinstance(result, Reject) else "") == rejected.get(asked.about, ""), asked
    requests = PASSES | {name: count for name, (_, count) in (STAYS | misfits).items()} | {"ok": 1, "same": 1}
    assert server.asked.total() == EACH * sum(requests.values())
    assert on_disk(tmp_path) == sum(getattr(result, "reason", "") not in UNANSWERED for _, result in ends)


def test_only_what_says_nothing_of_the_model_is_asked_by_a_later_run(server: FaultyModelServer, tmp_path: Path) -> None:
    excused = ["[400] four", "[other] five", "[torn torn torn] six"]
    prompts = [prompt(text) for text in ("one", "two", "[refuse] three", *excused)]
    first = run(at(server), prompts, tmp_path)
    again = run(at(server), prompts, tmp_path)
    asked = {"one": 1, "two": 1, "[refuse] three": 1, "[400] four": 2, "[other] five": 2, "[torn torn torn] six": 4}
    assert server.asked == asked
    results = [{asked.messages[0].content: result for asked, result in ends} for ends in (first, again)]
    for text in excused:
        assert isinstance(results[1].pop(text), Reply)  # the script has passed its fault
        results[0].pop(text)
    assert results[0] == results[1]


def test_a_reply_that_does_not_fit_is_asked_for_once_more_with_the_error(
    server: FaultyModelServer, tmp_path: Path
) -> None:
    result = only(at(server), prompt("[schema] an idea", answer=Idea), tmp_path)
    assert isinstance(result, Reply) and Idea.model_validate_json(result.text) == Idea(title="some words", score=7)
    assert (result.prompt_tokens, result.completion_tokens) == (20, 10)
    _, said, error = server.bodies[1]["messages"]
    assert said == {"role": "assistant", "content": '{"title": 3}'}
    assert "title: Input should be a valid string; score: Field required" in error["content"]


def test_each_sample_is_asked_and_the_same_prompt_is_asked_once(server: FaultyModelServer, tmp_path: Path) -> None:
    prompts = [prompt("[same] a story", sample=sample, about=n) for sample in range(4) for n in range(2)]
    ends = run(at(server), prompts, tmp_path)
    assert server.paid == {"[same] a story": 4}
    assert len({body["seed"] for body in server.bodies}) == 4
    assert Counter((asked.sample, asked.about) for asked, _ in ends) == Counter(
        (sample, n) for sample in range(4) for n in range(2)
    )


def test_whatever_shapes_the_reply_is_part_of_the_key(server: FaultyModelServer) -> None:
    one = prompt("hello")
    other_prompts = [
        prompt("hello!"),
        prompt("hello", max_tokens=99),
        prompt("hello", temperature=0.5),
        prompt("hello", sample=1),
        prompt("hello", answer=Idea),
        Prompt(messages=(Message("system", "hello"),), max_tokens=100),
    ]
    keys = {each.key(at(server)) for each in (one, *other_prompts)}
    keys |= {one.key(at(server, model="m")), one.key(at(server, body={"reasoning_effort": "low"}))}
    assert len(keys) == len(other_prompts) + 3
    assert prompt("hello", about="mine").key(at(server, in_flight=1, base_url="http://elsewhere")) == one.key(
        at(server)
    )


def test_fields_of_the_endpoint_are_sent_and_null_leaves_one_out(server: FaultyModelServer, tmp_path: Path) -> None:
    fields = {"reasoning_effort": "low", "seed": None}
    only(at(server, body=fields, limit_field="max_tokens"), prompt("hello", temperature=0.7), tmp_path)
    [body] = server.bodies
    messages = [{"role": "user", "content": "hello"}]
    assert body == {
        **{"model": MODEL, "messages": messages, "max_tokens": 100, "temperature": 0.7},
        "reasoning_effort": "low",
    }


def test_another_name_in_replies_can_be_agreed_on(server: FaultyModelServer, tmp_path: Path) -> None:
    endpoint = at(server, replies_as="another-model")
    assert isinstance(only(endpoint, prompt("[other] hello"), tmp_path), Reply)


def test_fewer_are_in_flight_where_the_endpoint_pushes_back(server: FaultyModelServer, tmp_path: Path) -> None:
    server.capacity, server.latency_s = 4, 0.005
    ends = run(at(server, in_flight=64), [prompt(f"number {i}") for i in range(300)], tmp_path)
    assert sum(isinstance(result, Reply) for _, result in ends) == server.paid.total() == 300
    assert server.asked.total() < 300 * 2


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("402", "account is empty"),
        ("quota", "account is empty"),
        ("moved", "correct model or base_url"),
        ("429:4000", "asks to wait 4000 s"),
        ("greedy", "set endpoint.limit_field"),
    ],
)
def test_what_no_retry_can_cure_ends_the_run(server: FaultyModelServer, tmp_path: Path, script: str, says: str) -> None:
    prompts = [prompt(f"[{script}] number {i}") for i in range(50)]
    with pytest.raises(UserError, match=says):
        run(at(server, in_flight=2), prompts, tmp_path)
    assert server.asked.total() <= 4


@pytest.mark.parametrize("wrong", [{"model": "unknown"}, {"key_variable": "WRONG_KEY"}])
def test_a_wrong_model_or_key_ends_the_run(
    server: FaultyModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str]
) -> None:
    monkeypatch.setenv("WRONG_KEY", "wrong")
    with pytest.raises(UserError, match=r"unknown|WRONG_KEY"):
        run(at(server, in_flight=2, **wrong), [prompt(f"number {i}") for i in range(50)], tmp_path)
    assert server.asked.total() <= 4


def test_an_endpoint_that_fails_at_everything_ends_the_run(server: FaultyModelServer, tmp_path: Path) -> None:
    server.out_of_order = True
    with pytest.raises(UserError, match=r"nothing was answered for \d+ s; the last failure: 500 error: out of order"):
        run(at(server, patience_s=0.5), (prompt(f"number {i}") for i in count()), tmp_path)


def test_an_endpoint_that_fails_for_a_while_loses_nothing(server: FaultyModelServer, tmp_path: Path) -> None:
    server.out_of_order = True
    repaired = threading.Timer(1.0, setattr, (server, "out_of_order", False))
    repaired.start()
    ends = run(at(server), [prompt(f"number {i}") for i in range(100)], tmp_path)
    assert sum(isinstance(result, Reply) for _, result in ends) == 100


def test_rejects_without_end_are_not_paid_without_end(server: FaultyModelServer, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"100 prompts in a row gave no usable reply \(100 other_model\); the last: asked"
    ):
        run(at(server, in_flight=4), (prompt(f"[other] number {i}") for i in count()), tmp_path)
    assert server.paid.total() < 110


def test_the_budget_is_never_exceeded(server: FaultyModelServer, tmp_path: Path) -> None:
    prices = {"price_in": 1000.0, "price_out": 2000.0}  # 0.02 a reply; before it, up to 0.9 more
    prompts = [prompt(f"number {i}") for i in range(200)]
    with pytest.raises(UserError, match=r"endpoint\.budget: \d\.\d+ of 3 is spent"):
        run(at(server, budget=3.0, **prices), prompts, tmp_path)
    account = spent(tmp_path)[MODEL]
    assert account.requests == server.paid.total() > 50 and 2.0 < account.money <= 3.0
    assert account.money == pytest.approx(account.requests * 0.02)
    with pytest.raises(UserError, match=r"endpoint\.budget"):
        run(at(server, budget=3.0, **prices), prompts, tmp_path)
    assert server.paid.total() == account.requests
    assert len(run(at(server, budget=10.0, **prices), prompts, tmp_path)) == server.paid.total() == 200


def test_tokens_have_a_budget_too(server: FaultyModelServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"endpoint\.budget_tokens: 1,\d+ of 2,000 are spent"):
        run(at(server, budget_tokens=2000), [prompt(f"number {i}") for i in range(200)], tmp_path)


def test_what_nobody_accounts_for_is_counted_at_its_most(server: FaultyModelServer, tmp_path: Path) -> None:
    result = only(at(server, timeout_s=0.3), prompt("[hang hang hang] hello"), tmp_path)
    assert isinstance(result, Reject) and result.reason == "failed" and "0.3 s" in result.detail
    account = spent(tmp_path)[MODEL]
    assert (account.requests, account.unsure_requests) == (0, 3) and account.unsure_tokens > 300
    assert str(account).startswith("0 requests, 0 + 0 tokens, 0.0000; and at most ")


def test_streams_can_feed_each_other_and_share_the_folder(server: FaultyModelServer, tmp_path: Path) -> None:
    async def main() -> int:
        async with opened(at(server, in_flight=4), tmp_path) as engine:

            async def documents() -> AsyncIterator[Prompt]:
                async for asked, idea in engine.ask(prompt(f"idea {i}") for i in range(1200)):
                    assert isinstance(idea, Reply)
                    yield prompt(f"write on {asked.messages[0].content}: {idea.text}")

            return sum([1 async for _, result in engine.ask(documents()) if isinstance(result, Reply)])

    assert asyncio.run(main()) == 1200
    assert server.paid.total() == 2400


@pytest.mark.parametrize(("script", "budget"), [("402", 5.0), ("ok", 0.5)])
def test_a_run_ends_though_the_next_prompt_waits_for_a_reply(
    server: FaultyModelServer, tmp_path: Path, script: str, budget: float
) -> None:
    """As scripts do: a reply that never comes leaves the source waiting."""

    async def prompts() -> AsyncIterator[Prompt]:
        for number in range(3):
            yield prompt(f"[{script}] number {number}")
        await asyncio.Event().wait()

    async def main() -> None:
        endpoint = at(server, budget=budget, price_in=1000.0)  # a prompt costs 0.7 at most
        async for _ in ask(endpoint, prompts(), tmp_path):
            pass

    with pytest.raises(UserError, match=r"account is empty|endpoint\.budget: "):
        asyncio.run(asyncio.wait_for(main(), 20))


def test_a_stream_that_is_left_early_stops_asking(server: FaultyModelServer, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(at(server, in_flight=4), tmp_path) as engine:
            async for _ in engine.ask(prompt(f"number {i}") for i in count()):
                break
            assert len([each async for each in engine.ask([prompt("[slow:0.2] another")])]) == 1

    asyncio.run(main())
    assert server.asked.total() < 3000


def test_a_stream_whose_prompts_fail_says_so(server: FaultyModelServer, tmp_path: Path) -> None:
    def prompts() -> Iterator[Prompt]:
        yield prompt("one")
        raise ZeroDivisionError("a bug of the caller's")

    with pytest.raises(ZeroDivisionError, match="a bug of the caller's"):
        run(at(server), prompts(), tmp_path)


def test_a_folder_serves_one_process(server: FaultyModelServer, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(at(server), tmp_path):
            async for _ in ask(at(server), [prompt("hello")], tmp_path):
                pass

    with pytest.raises(UserError, match="another process writes its replies here"):
        asyncio.run(main())
