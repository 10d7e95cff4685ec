"""What answers in a rehearsal in the place of a judge: over real HTTP, and at random.

So requests, replies and scores go the way that they go in the campaign, and no reply is judged. An answer is of the
form that is asked for, and always the same to the same question.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from zlib import crc32

from msm_hpc.config.endpoint import Endpoint

MODEL = "stand-in-that-answers-at-random"
_LISTED = re.compile(r"^(\w+): ", re.MULTILINE)
"""What an answer names, where it has something for each thing of a list in the question."""


@contextmanager
def judge() -> Iterator[Endpoint]:
    """It answers on a free port of this machine while this is open."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, name="stand-in judge", daemon=True).start()
    try:
        yield Endpoint(model=MODEL, base_url=f"http://127.0.0.1:{server.server_port}/v1")
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Which models there are."""
        self._reply({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def do_POST(self) -> None:
        """A chat completion."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = "\n".join(each["content"] for each in asked["messages"])
        message = {"role": "assistant", "content": json.dumps(_answer(asked["response_format"]["json_schema"], text))}
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._reply({"object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage})

    def _reply(self, answer: Mapping[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal is the rehearsal's."""


def _answer(asked: Mapping[str, Any], text: str) -> Any:
    schema = asked["schema"]
    if asked["name"] != "Classified":
        return _filled(schema, schema, text)
    found = schema["$defs"]["Found"]
    return {"patterns": [{**_filled(found, schema, name + text), "id": name} for name in _LISTED.findall(text)]}


def _filled(part: Mapping[str, Any], schema: Mapping[str, Any], text: str) -> Any:
    """A value for a part of a JSON schema, which the question's text decides."""
    if "$ref" in part:
        return _filled(schema["$defs"][part["$ref"].rpartition("/")[2]], schema, text)
    if "anyOf" in part:
        return _filled(part["anyOf"][0], schema, text)
    number = crc32(text.encode())
    if "enum" in part:
        return part["enum"][number % len(part["enum"])]
    match part["type"]:
        case "object":
            return {name: _filled(each, schema, name + text) for name, each in part["properties"].items()}
        case "array":
            return [_filled(part["items"], schema, text)]
        case "integer":
            least = part.get("minimum", 1)
            return least + number % (part.get("maximum", least) - least + 1)
        case "boolean":
            return number % 2 == 1
        case "string":
            return MODEL
    raise AssertionError(part)
