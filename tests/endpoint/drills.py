"""Faults that the test server is asked for, and how a prompt ends that meets them.

``python -m tests.endpoint.drills`` sends all of them at once and prints the table of docs/endpoint.md.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from pathlib import Path

from msm_hpc.endpoint import Prompt, Reject, failures
from msm_hpc.endpoint.replies import FILE
from tests.endpoint.asking import Ends, Idea, at, prompt, run
from tests.endpoint.faulty_model_server import FaultyModelServer, serving

PASSES = {  # script of a prompt -> requests until it is answered
    "429": 2,
    "429:0.05": 2,
    "429-date:1": 2,
    "429 429 500 503": 5,
    "500 500 500 500": 5,
    "cut": 2,
    "cut-in-the-middle cut": 3,
    "torn page": 3,
    "no-choices": 2,
    "slow:0.1": 1,
    "dated": 1,
    "no-usage": 1,
    "length": 1,
}
STAYS = {  # script -> the reject's reason, requests
    "429 " * 9: ("failed", 8),
    "500 " * 9: ("failed", 5),
    "cut " * 9: ("failed", 5),
    "torn " * 9: ("failed", 3),
    "400": ("bad_request", 1),
    "refuse": ("refused", 1),
    "filter": ("refused", 1),
    "empty": ("empty", 1),
    "null": ("empty", 1),
    "thinking": ("truncated", 1),
    "other": ("other_model", 1),
}
MISFITS = {"length": ("truncated", 1), "schema schema": ("malformed", 2), "prose schema": ("malformed", 2)}
"""Likewise, of prompts for a structured answer."""
EACH = 20
AS_JSON = " as JSON"
SAID = {
    **{"429": "429", "429:0.05": "429 with `Retry-After: 0.05`", "429-date:1": "429 with a date to retry after"},
    **{"cut": "the connection cut", "cut-in-the-middle": "cut in the middle of the reply", "torn": "truncated JSON"},
    **{"page": "a proxy's HTML page", "no-choices": "no choices", "slow:0.1": "a slow stream, byte by byte"},
    **{"dated": "the model's name with a date", "no-usage": "no token counts", "length": "text cut at `max_tokens`"},
    **{"refuse": "a refusal", "filter": "content filter", "empty": "empty content", "null": "null content"},
    **{"thinking": "`max_tokens` used up by thinking", "other": "another model's name", "400": "400, prompt too long"},
    **{"schema": "JSON of another schema", "prose": "prose for JSON", "same": "the same text as all", "ok": "none"},
}
"""What a step of a script is called in the table."""


def everything(server: FaultyModelServer, folder: Path) -> Ends:
    """Ends of ``EACH`` prompts of every script, in any order, 200 in flight; ``about`` has the script."""
    prompts = [prompt(f"[{name}] hello", about=name) for name in (*PASSES, *STAYS, "ok", "same")] * EACH
    prompts += [prompt(f"[{name}] an idea", about=name + AS_JSON, answer=Idea) for name in MISFITS] * EACH
    random.Random(7).shuffle(prompts)
    return run(at(server, in_flight=200), map(_numbered, range(len(prompts)), prompts), folder)


def _numbered(number: int, each: Prompt) -> Prompt:
    return prompt(f"{each.messages[0].content} {number}", about=each.about, answer=each.answer)


def on_disk(folder: Path) -> int:
    """How many ends a folder keeps."""
    with (folder / FILE).open("rb") as lines:
        return sum(line.startswith(b'{"key"') for line in lines)


def table(server: FaultyModelServer, ends: Ends) -> str:
    """A line for each script: what was sent, to how many prompts, in how many requests, and how they ended."""
    requests: Counter[str] = Counter()
    ended: dict[str, Counter[str]] = {}
    for asked, result in ends:
        requests[asked.about] += server.asked[asked.messages[0].content]
        how = f"reject `{result.reason}`" if isinstance(result, Reject) else "reply"
        ended.setdefault(asked.about, Counter())[how] += 1
    lines = ["| fault | prompts | requests | ended |", "|---|---|---|---|"]
    for about in dict.fromkeys([*PASSES, *STAYS, *(name + AS_JSON for name in MISFITS), "same", "ok"]):
        ends_of = ", ".join(f"{count} {how}" for how, count in ended[about].items())
        lines.append(f"| {_said(about)} | {ended[about].total()} | {requests[about]} | {ends_of} |")
    return "\n".join(lines)


def _said(about: str) -> str:
    name, structured = about.removesuffix(AS_JSON), about.endswith(AS_JSON)
    steps = [SAID.get(step, step) for step in name.split()]
    said = f"{steps[0]}, again and again" if len(steps) > 4 else ", then ".join(steps)
    return f"{said} (JSON asked for)" if structured else said


def main() -> None:
    """Print the table."""
    failures.LONGEST_DELAY_S = 0.01
    with tempfile.TemporaryDirectory() as folder, serving() as server:
        ends = everything(server, Path(folder))
        print(table(server, ends))
        print(f"\n{len(ends):,} prompts, {server.asked.total():,} requests, {on_disk(Path(folder)):,} ends on disk")


if __name__ == "__main__":
    main()
