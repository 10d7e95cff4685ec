"""A test judge that no one should take for a model: over real HTTP, it answers any schema by a hash of the prompt.

Asked which patterns are in a transcript, it has an answer for each; asked for no schema, it says a number many times.

``python -m tests.evals.judge_server`` serves until it is killed, and prints the settings with which a campaign asks it.
"""

from __future__ import annotations

import argparse
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from zlib import crc32

from tests.endpoint import faulty_model_server
from tests.endpoint.faulty_model_server import Asked, FaultyModelServer, serving

JUDGE = "TEST-JUDGE-and-no-model"
WORDS = 250
"""Of an answer without a schema."""


@contextmanager
def judging(**state: Any) -> Iterator[FaultyModelServer]:
    """The test judge; ``state`` as of the server."""
    before = faulty_model_server._content
    faulty_model_server._content = content
    try:
        with serving(**{"model": JUDGE, **state}) as server:
            yield server
    finally:
        faulty_model_server._content = before


def content(asked: Asked) -> str:
    if "response_format" not in asked.body:
        return f"TEST JUDGE {asked.body['seed']} " * (WORDS // 3)
    schema = asked.body["response_format"]["json_schema"]["schema"]
    if schema["title"] == "Classified":
        names = re.findall(r"^(\w+): The agent", asked.text, re.MULTILINE)
        return json.dumps({"patterns": [_found(name, crc32((name + asked.text).encode())) for name in names]})
    return json.dumps(_filled(schema, schema.get("$defs", {}), crc32(asked.text.encode())))


def _found(name: str, number: int) -> dict[str, str]:
    return {"id": name, "quote": "", "verdict": ("present", "absent", "absent", "uncertain")[number % 4]}


def _filled(schema: dict[str, Any], defined: dict[str, Any], number: int) -> Any:
    """A value that fits a schema, chosen by ``number``."""
    if "$ref" in schema:
        return _filled(defined[schema["$ref"].rpartition("/")[2]], defined, number)
    if "enum" in schema:
        return schema["enum"][number % len(schema["enum"])]
    if "anyOf" in schema:
        return _filled(schema["anyOf"][0], defined, number)
    match schema["type"]:
        case "object":
            return {name: _filled(each, defined, number) for name, each in schema["properties"].items()}
        case "array":
            return [_filled(schema["items"], defined, number)]
        case "integer":
            return schema.get("minimum", 1) + number % 10
        case "boolean":
            return True
        case "string":
            return f"TEST JUDGE {number}"
    raise AssertionError(schema)


def main() -> None:
    """Serve until killed; nothing that is asked is kept."""
    parser = argparse.ArgumentParser(description="A test judge, and no model.")
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--name", default=JUDGE)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    with judging(latency_s=given.latency_ms / 1000, model=given.name, port=given.port, keep=False) as server:
        print(f"judge.model={given.name} judge.base_url={server.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
