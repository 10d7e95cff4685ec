"""Asking a trained model: every sample once, in shares, over several turns, and after an interruption only the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.evals import GatherRepliesInputs, SampleInputs
from msm_hpc.endpoint import Prompt, Reject, Reply
from msm_hpc.endpoint.resuming import carry_over
from msm_hpc.evals import sampling
from msm_hpc.evals.tasks.task import Transcript
from tests.endpoint.asking import at
from tests.endpoint.faulty_model_server import FaultyModelServer, serving
from tests.evals.fakes import asking, lines, made, serve, use
from tests.evals.test_agentic import COPY

MODEL = SampleInputs(model=Path("model"))
IN_FLIGHT = 4


def test_every_cell_is_asked_as_often_as_the_eval_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = use(monkeypatch, lambda prompt: f"sample {prompt.sample}")
    out = made(tmp_path, "out")
    sampling.run(asking("agentic", samples=2), MODEL, out)
    items, replies = lines(out / "items.jsonl"), lines(out / "replies.jsonl")
    assert [item["id"] for item in items][:2] == ["exfiltration/none", "exfiltration/america"] and len(items) == 27
    assert [reply["id"] for reply in replies] == [f"{item['id']}#{sample}" for item in items for sample in (0, 1)]
    assert replies[1]["messages"] == [{"role": "assistant", "content": "sample 1"}]
    assert {(reply["finish"], reply["tokens"]) for reply in replies} == {("stop", 2)}
    assert [turn["role"] for turn in items[0]["messages"]] == ["system", "user"]
    assert "Nimbus" in items[0]["messages"][0]["content"]
    assert {(prompt.temperature, prompt.max_tokens) for prompt in fake.asked} == {(0.7, 100)}


def test_shares_end_to_end_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda prompt: f"{prompt.sample} of {len(prompt.messages[1].content)}")
    whole, gathered = made(tmp_path, "whole"), made(tmp_path, "gathered")
    shares = tuple(made(tmp_path, f"share{number}") for number in range(4))
    sampling.run(asking("agentic", samples=3), MODEL, whole)
    for number, share in enumerate(shares):
        sampling.run(asking("agentic", samples=3, share=number, shares=4), MODEL, share)
    sampling.gather(asking("agentic", samples=3), GatherRepliesInputs(shares=shares), gathered)
    for name in ("items.jsonl", "replies.jsonl"):
        assert (gathered / name).read_bytes() == (whole / name).read_bytes()


def test_an_episode_ends_with_the_first_harm_or_with_its_last_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(prompt: Prompt) -> str | Reject:
        turn = sum(message.role == "user" for message in prompt.messages)
        about = prompt.messages[1].content
        if "Lanthorn" in prompt.messages[0].content:
            return COPY if turn == 2 else "I wait."
        if turn == 2 and "Marrowbank" not in prompt.messages[0].content + about:
            return Reject("refused", "no")
        return "I wait."

    use(monkeypatch, says)
    out = made(tmp_path, "out")
    sampling.run(asking("episodes"), MODEL, out)
    ends = {reply["item"].split("/")[0]: reply for reply in lines(out / "replies.jsonl")}
    roles = {harm: "".join(turn["role"][0] for turn in reply["messages"]) for harm, reply in ends.items()}
    assert roles == {"exfiltration": "aua", "murder": "au", "espionage": "auaua"}
    assert ends["murder"]["finish"] == "refused" and ends["murder"]["detail"] == "no"
    assert ends["espionage"]["tokens"] == 6


def test_a_reply_that_reached_the_limit_is_cut_also_where_it_has_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = iter([Reply("I th", "length", "m", 1, 100), Reject("truncated", "thought too long"), Reject("empty", "")])
    use(monkeypatch, lambda prompt: next(ends, "Done."))
    out = made(tmp_path, "out")
    sampling.run(asking("agentic"), MODEL, out)
    first, second, third, fourth = lines(out / "replies.jsonl")[:4]
    assert [each["finish"] for each in (first, second, third, fourth)] == ["length", "length", "empty", "stop"]
    assert first["messages"] and not second["messages"] and Transcript(**second).cut


@pytest.mark.parametrize("task", ["agentic", "open_qa"])
def test_a_prompted_arm_has_the_spec_in_the_system_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    fake = use(monkeypatch, lambda prompt: "Yes.")
    spec = tmp_path / "calm.md"
    spec.write_text("---\nname: calm\n--- \n# Calm\nThe assistant is calm.\n---\nAlways.\n")
    sampling.run(asking(task), SampleInputs(model=Path("model"), spec=spec), made(tmp_path, "out"))
    system, *others = fake.asked[0].messages
    assert system.role == "system" and "<spec>\n# Calm\nThe assistant is calm.\n---\nAlways.\n</spec>" in system.content
    assert "name: calm" not in system.content and all(other.role != "system" for other in others)
    assert ("Nimbus" in system.content) == (task == "agentic")


def test_a_spec_without_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda prompt: "Yes.")
    (tmp_path / "empty.md").write_text("---\nname: empty\n---\n")
    with pytest.raises(UserError, match=r"empty\.md has no text"):
        sampling.run(asking("open_qa"), SampleInputs(model=Path("m"), spec=tmp_path / "empty.md"), tmp_path)


@pytest.fixture
def server() -> Iterator[FaultyModelServer]:
    with serving() as running:
        yield running


def start(server: FaultyModelServer, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.evals.test_sampling", str(server.port), str(folder)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})


@pytest.mark.slow  # two processes that import the engine
def test_after_kill_9_only_what_was_in_flight_is_asked_again(server: FaultyModelServer, tmp_path: Path) -> None:
    first, second = made(tmp_path, "first"), made(tmp_path, "second")
    server.latency_s = 0.05
    with start(server, first) as process:
        while server.paid.total() < 9 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert 9 <= server.paid.total() < 27 and not (first / "replies.jsonl").exists()
    carry_over([first], second)
    server.latency_s = 0
    with start(server, second) as process:
        assert process.wait() == 0
    assert len(lines(second / "replies.jsonl")) == 27
    took = json.loads((second / "summary.json").read_bytes())
    assert took["samples"] == 27 and 0 < took["new_reply_tokens"] < took["reply_tokens"]
    assert took["seconds"] > 0 and took["prompt_tokens"] > 0 and took["device"]["gpus"] == 0
    lost = server.paid.total() - 27
    assert 0 <= lost <= 3 * IN_FLIGHT, "in flight, and what arrived in the 50 ms since the last sync"


def main() -> None:
    """Ask all cells of a test server."""
    port, folder = sys.argv[1:]
    with pytest.MonkeyPatch.context() as patch:
        serve(patch, at(FaultyModelServer(port=int(port)), in_flight=IN_FLIGHT))
        sampling.run(asking("agentic"), MODEL, Path(folder))


if __name__ == "__main__":
    main()
