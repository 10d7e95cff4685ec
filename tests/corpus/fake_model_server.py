"""A fake: what :class:`FakeModel` says, over real HTTP; run with a folder, a port and a name, a server of its own.

With ``--faults`` it fails at some requests, answers some as a model does at its worst, and counts tokens by length.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from msm_hpc.corpus import chat, chat_plan, document_plan
from msm_hpc.endpoint import Answer, Message, Prompt
from tests.corpus.fake_model import FakeModel
from tests.endpoint import faulty_model_server
from tests.endpoint.faulty_model_server import Asked, serving

ANSWERS: dict[str, type[Answer]] = {
    each.__name__: each
    for module in (chat, chat_plan, document_plan)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, Answer)
}
FAKE = FakeModel()
PASSING: Mapping[str, int] = {"429": 20, "500": 10, "cut": 10, "cut-in-the-middle": 5, "torn": 5}
"""Of 1,000 requests, how many are met so; when tried again, they are answered."""
STAYING: Mapping[str, int] = {"refuse": 5, "empty": 5, "other": 2}
"""Of 1,000 requests, how many are answered so however often they are made."""
SPOILT: Mapping[str, int] = {
    "Call me at [number].": 5,
    "It was in 2019.": 5,
    "As an AI, I wait.": 5,
    "ChatGPT said so.": 3,
}
"""Of 1,000 texts, how many have such a sentence in them."""
OVERRULED = 20
"""Of 1,000 verdicts, how many are against the row."""


def content(asked: Asked) -> str:
    """What the fake says to a request."""
    body = asked.body
    turns = tuple(Message(turn["role"], turn["content"]) for turn in body["messages"])
    answer = ANSWERS[body["response_format"]["json_schema"]["name"]] if "response_format" in body else None
    return FAKE.text(Prompt(messages=turns, max_tokens=99, sample=body["seed"], answer=answer))


def at_its_worst(asked: Asked) -> str:
    """What it says, spoilt now and then."""
    said, form = content(asked), asked.body.get("response_format")
    if form is None:
        ending = "</document>" if said.endswith("</document>") else ""
        spoilt = _drawn(SPOILT, asked.body["seed"] // 1000)
        return f"{said.removesuffix(ending)} {spoilt}{ending}" if spoilt else said
    if form["json_schema"]["name"] == "Verdict" and asked.body["seed"] // 1000 % 1000 < OVERRULED:
        return json.dumps({"reason": "A verdict of the test server's, by lot.", "verdict": "EXCLUDE"})
    return said


def by_lot() -> Callable[[Mapping[str, Any]], str]:
    """How each request is answered; what passes is met once."""
    met = set[int]()

    def fault(body: Mapping[str, Any]) -> str:
        seed = body["seed"]
        name = _drawn({**PASSING, **STAYING}, seed)
        if name in PASSING and seed in met:
            return "ok"
        met.add(seed)
        return name or "ok"

    return fault


def _drawn(names: Mapping[str, int], seed: int) -> str:
    """The name that a seed draws, each in so many of 1,000; mostly none."""
    number = seed % 1000
    for name, share in names.items():
        number -= share
        if number < 0:
            return name
    return ""


def by_length(asked: Asked, said: str | None) -> dict[str, int]:
    """Tokens, as if each had four characters."""
    sent = sum(len(turn["content"]) for turn in asked.body["messages"]) // 4
    return {
        "prompt_tokens": sent,
        "completion_tokens": len(said or "") // 4,
        "total_tokens": sent + len(said or "") // 4,
    }


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="A fake model, over HTTP.")
    parser.add_argument("weights", help="are not looked at: it knows no language")
    parser.add_argument("port", type=int)
    parser.add_argument("name")
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    faulty_model_server._content = at_its_worst if options.faults else content
    state: dict[str, Any] = {}
    if options.faults:
        faulty_model_server._usage, state["fault"] = by_length, by_lot()
    with serving(port=options.port, model=options.name, keep=False, **state):
        threading.Event().wait()


if __name__ == "__main__":
    main()
