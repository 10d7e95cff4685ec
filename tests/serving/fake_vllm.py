"""A FAKE of vLLM's server: it knows no model, and answers over real HTTP as vLLM does where the evals ask it.

It is run as vLLM is (``PYTHON -m vllm.entrypoints.openai.api_server --model=…``), by :func:`fake_python`, and fails
where an argument ``--fake-…`` asks for that.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODULE = "vllm.entrypoints.openai.api_server"


def fake_python(folder: Path) -> str:
    """An interpreter of an environment with nothing but this."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    script.chmod(0o755)
    return str(script)


class FakeVllm(BaseHTTPRequestHandler):
    """What it serves is in ``given``, its arguments; ``loaded`` has adapters, by name."""

    protocol_version = "HTTP/1.1"
    given: dict[str, str]
    loaded: dict[str, str]
    asked: list[str]
    lock = threading.Lock()

    @property
    def name(self) -> str:
        return self.given.get("fake-name", self.given["served-model-name"])

    def do_GET(self) -> None:
        if "fake-wants-a-key" in self.given:
            self._answer({"error": "Unauthorized"}, 401)
        elif self.path == "/v1/models":
            parent = self.given.get("fake-parent", self.name)
            adapters = [{"id": each, "parent": parent} for each in self.loaded]
            self._answer({"object": "list", "data": [{"id": self.name, "parent": None}, *adapters]})
        elif self.path == "/fake":
            self._answer({"pid": os.getpid(), "given": self.given, "loaded": self.loaded, "asked": self.asked})
        else:
            self._answer({"error": {"message": "not found"}}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/chat/completions":
            self._chat(body)
        elif self.path == "/tokenize":
            self._answer({"tokens": self._tokens(body["messages"])})
        elif self.path == "/v1/load_lora_adapter" and os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == "True":
            if "enable-lora" not in self.given or not Path(body["lora_path"], "adapter_config.json").is_file():
                self._answer({"error": {"message": f"no adapter in {body['lora_path']}"}}, 404)
                return
            self.loaded[body["lora_name"]] = body["lora_path"]
            self._answer(f"Success: LoRA adapter '{body['lora_name']}' added successfully.")
        elif self.path == "/v1/unload_lora_adapter":
            del self.loaded[body["lora_name"]]
            self._answer("Success")
        else:
            self._answer({"error": {"message": "not found"}}, 404)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _chat(self, body: dict[str, Any]) -> None:
        model = body["model"]
        if model not in (self.name, *self.loaded):
            self._answer({"error": {"message": f"The model `{model}` does not exist."}}, 404)
            return
        text = body["messages"][-1]["content"]
        with self.lock:
            if len(self.asked) == int(self.given.get("fake-dies-after", -1)):
                print("FAKE VLLM: EngineDeadError", flush=True)
                os._exit(1)
            self.asked.append(text)
        content = f"FAKE VLLM asked {Path(self.loaded.get(model, self.given['model'])).name} {text}"
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
        self._answer({"object": "chat.completion", "model": model, "choices": [choice], "usage": usage})

    def _tokens(self, messages: list[dict[str, str]]) -> list[int]:
        from jinja2.sandbox import ImmutableSandboxedEnvironment
        from tokenizers import Tokenizer

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
        template = environment.from_string(Path(self.given["chat-template"]).read_text())
        text = template.render(messages=messages, add_generation_prompt="fake-no-prompt" not in self.given)
        ids: list[int] = Tokenizer.from_file(f"{self.given['model']}/tokenizer.json").encode(text).ids
        return ids

    def _answer(self, value: Any, status: int = 200) -> None:
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main(arguments: list[str]) -> None:
    assert arguments[:2] == ["-m", MODULE], arguments
    pairs = (each.removeprefix("--").partition("=") for each in arguments[2:])
    FakeVllm.given = {key: value for key, _, value in pairs}
    FakeVllm.loaded, FakeVllm.asked = {}, []
    if "fake-dies-at-start" in FakeVllm.given:
        sys.exit("FAKE VLLM: no kernel image is available")
    if "fake-slow" in FakeVllm.given:
        time.sleep(600)
    address = (FakeVllm.given["host"], int(FakeVllm.given["port"]))
    server = ThreadingHTTPServer(address, FakeVllm)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
