from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.endpoint import Prompt, Reject, Reply, ask, batches, spent
from tests.endpoint.asking import Ends, Idea, at, prompt, run
from tests.endpoint.faulty_model_server import MODEL, FaultyModelServer


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setattr(batches, "QUIET_S", 0.05)
    monkeypatch.setattr(batches, "REQUESTS", 10)


def numbers(count: int) -> list[Prompt]:
    return [prompt(f"number {i}") for i in range(count)]


def replies(ends: Ends) -> set[str]:
    return {asked.messages[0].content for asked, result in ends if isinstance(result, Reply)}


def test_answers_in_the_wrong_order_come_to_their_prompts(server: FaultyModelServer, tmp_path: Path) -> None:
    ends = run(at(server, batch=True), [*numbers(25), *numbers(3)], tmp_path)
    assert len(ends) == 28 and len(server.batches) == 3
    for asked, result in ends:
        assert isinstance(result, Reply) and result.text == f"said to: {asked.messages[0].content}"
    assert spent(tmp_path)[MODEL].requests == server.paid.total() == 25
    assert not list((tmp_path / "batches").iterdir())
    assert replies(run(at(server, batch=True), numbers(25), tmp_path)) == replies(ends)
    assert len(run(at(server), numbers(25), tmp_path)) == server.paid.total() == 25  # asked either way


def test_what_a_batch_does_not_answer_is_a_counted_reject(server: FaultyModelServer, tmp_path: Path) -> None:
    scripts = {"missing": "failed", "500": "failed", "400": "bad_request", "refuse": "refused", "schema": "malformed"}
    asked = [prompt(f"[{script}]", answer=Idea, about=reason) for script, reason in scripts.items()]
    ends = run(at(server, batch=True), asked, tmp_path)
    for each, result in ends:
        assert isinstance(result, Reject) and result.reason == each.about and result.detail
    assert len(ends) == len(scripts)


@pytest.mark.parametrize("id_is_known", [True, False])
def test_a_batch_of_an_earlier_run_is_fetched_and_not_paid_again(
    server: FaultyModelServer, tmp_path: Path, id_is_known: bool
) -> None:
    server.hold_batches = True
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(_collect(server, numbers(15), tmp_path), 1.5))
    assert len(server.batches) == 2
    if not id_is_known:
        for each in (tmp_path / "batches").glob("*.id"):
            each.unlink()
    server.hold_batches = False
    ends = run(at(server, batch=True), numbers(18), tmp_path)
    assert len(replies(ends)) == server.paid.total() == 18
    assert len(server.batches) == 3


async def _collect(server: FaultyModelServer, prompts: list[Prompt], folder: Path) -> None:
    async for _ in ask(at(server, batch=True), prompts, folder):
        pass


def test_a_batch_that_is_refused_is_one_clear_line(server: FaultyModelServer, tmp_path: Path) -> None:
    server.out_of_order = True
    with pytest.raises(UserError, match=r"batch batch-0 was refused \(Enqueued token limit reached\)"):
        run(at(server, batch=True), numbers(5), tmp_path)
    server.out_of_order = False
    assert len(replies(run(at(server, batch=True), numbers(5), tmp_path))) == 5


def test_a_batch_fits_the_budget_or_is_not_sent(server: FaultyModelServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"endpoint\.budget: 0\.0000 of 0\.9 is spent"):
        run(at(server, batch=True, budget=0.9, price_out=1000.0), numbers(15), tmp_path)
    assert not server.batches


def test_prompts_may_wait_for_replies(server: FaultyModelServer, tmp_path: Path) -> None:
    """As scripts do: the source has the next prompt only when the one before has ended."""
    ended, heard = asyncio.Event(), list[str]()

    async def prompts() -> AsyncIterator[Prompt]:
        for number in range(3):
            yield prompt(f"number {number}")
            await ended.wait()
            ended.clear()

    async def main() -> None:
        async for asked, _ in ask(at(server, batch=True), prompts(), tmp_path):
            heard.append(asked.messages[0].content)
            ended.set()

    asyncio.run(main())
    assert heard == ["number 0", "number 1", "number 2"] and len(server.batches) == 3
