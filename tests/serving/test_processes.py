"""Servers as processes: a fake of vLLM over real HTTP."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import ServerLostError, UserError
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.serving import Serving
from msm_hpc.endpoint import Reply, failures, spent
from msm_hpc.serving import asked, handshake, kept, processes, served
from tests.endpoint.faulty_model_server import serving
from tests.serving.asking import prompt, run
from tests.serving.fake_vllm import fake_python
from tests.serving.toy import TEMPLATE, WORDS, adapter_without_weights, without_weights

PROMPTS = [prompt(text) for text in "abcdef"]


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "LONGEST_DELAY_S", 0.01)
    monkeypatch.setattr(processes, "PATIENCE_S", 0.1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return without_weights(tmp_path / "base")


def fake(tmp_path: Path, *tuning: str, **fields: Any) -> Serving:
    return Serving(server="vllm", python=fake_python(tmp_path), tuning=tuning, **fields)


def state(endpoint: Endpoint) -> Any:
    """What the fake knows of itself."""
    return handshake.ask(f"{endpoint.base_url.removesuffix('/v1')}/fake")


def texts(endpoint: Endpoint, folder: Path) -> set[str]:
    return {end.text for end in run(endpoint, PROMPTS[:1], folder).values() if isinstance(end, Reply)}


def is_gone(*pids: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_a_job_has_one_server_for_a_base_and_its_adapters(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    config = fake(tmp_path, "--enforce-eager", arguments=("--max-model-len=99",))
    one, two = (adapter_without_weights(tmp_path / name) for name in ("one", "two"))
    with kept():
        with served(config, model, one) as endpoint:
            assert texts(endpoint, tmp_path / "1") == {"FAKE VLLM asked one a"}
            first, name = state(endpoint), endpoint.model
            assert list(first["loaded"]) == [endpoint.asked]
            assert endpoint.body == {"stop_token_ids": [WORDS.index("<end>"), WORDS.index("<eos>")]}
        for adapter in (two, None):
            with served(config, model, adapter) as endpoint:
                assert texts(endpoint, tmp_path / str(adapter)) == {f"FAKE VLLM asked {(adapter or model).name} a"}
                now = state(endpoint)
                assert (now["pid"], list(now["loaded"].values())) == (first["pid"], [str(adapter)] if adapter else [])
                assert endpoint.model != name
        with served(fake(tmp_path), model) as endpoint:  # another one, and no room for both
            assert state(endpoint)["pid"] != first["pid"]
            assert is_gone(first["pid"])
            last = state(endpoint)["pid"]
    assert is_gone(last)
    given = first["given"]
    assert {name: given[name] for name in ("tensor-parallel-size", "max-lora-rank", "max-model-len", "model")} == {
        "tensor-parallel-size": "2",
        "max-lora-rank": "64",
        "max-model-len": "99",
        "model": str(model),
    }
    assert {"enable-lora", "enforce-eager"} <= given.keys()


WRONG = {
    "ends": (
        "--fake-dies-at-start",
        {},
        r"ended with status 1; its last lines:\n  FAKE VLLM: no kernel image is avail",
    ),
    "slow": ("--fake-slow", {"ready_s": 0.3}, r"did not answer within 0 s \(serving.ready_s\)"),
    "key": ("--fake-wants-a-key", {}, "cannot be asked what it serves: 401: .*Unauthorized"),
    "other": ("--fake-name=other", {}, "is another one: it serves other, and not msm-"),
    "parent": ("--fake-parent=other", {}, "as an adapter of other, and not of msm-"),
    "chats": ("--fake-no-prompt", {}, r"vLLM encodes a question as \[.*\], and training as \[.*\]"),
    "rank": ("", {"max_lora_rank": 4}, "has rank 8: set serving.max_lora_rank=8 or higher"),
}


@pytest.mark.parametrize(("tuning", "fields", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_server_that_is_not_what_is_meant_is_not_asked(
    tmp_path: Path, model: Path, tuning: str, fields: dict[str, Any], message: str
) -> None:
    adapter = adapter_without_weights(tmp_path / "adapter")
    config = fake(tmp_path, *filter(None, [tuning]), **fields)
    with kept(), pytest.raises(UserError, match=message):
        with served(config, model, adapter):
            pass
        assert not list(Path(os.environ["MSM_SERVERS"].split()[2]).glob("*.address"))


def test_a_port_that_another_program_took_is_left_to_it(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as other:
        ports = iter([other.port, processes._free_port()])
        monkeypatch.setattr(processes, "_free_port", lambda: next(ports))
        with served(fake(tmp_path), model) as endpoint:
            assert texts(endpoint, tmp_path / "replies") == {"FAKE VLLM asked base a"}
    assert not other.asked


def test_a_server_that_hangs_is_lost(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "SECONDS", 0.2)
    with pytest.raises(ServerLostError, match="ended or hangs"), served(fake(tmp_path), model) as endpoint:
        server = state(endpoint)["pid"]
        os.kill(server, signal.SIGSTOP)
        threading.Timer(1.0, os.kill, (server, signal.SIGCONT)).start()  # so that it hears that it is to end
        raise UserError("nothing was answered")


def test_an_adapter_of_another_base_is_not_served(tmp_path: Path, model: Path) -> None:
    adapter = adapter_without_weights(tmp_path / "adapter", base="77")
    with pytest.raises(UserError, match="was trained on other weights"), served(fake(tmp_path), model, adapter):
        pass


def test_a_server_that_ends_is_lost_and_what_it_answered_is_not_asked_again(tmp_path: Path, model: Path) -> None:
    replies = tmp_path / "replies"
    with (
        pytest.raises(
            ServerLostError, match="ended or hangs while it is asked; its last lines:\n  FAKE VLLM: EngineDeadError"
        ),
        served(fake(tmp_path, "--fake-dies-after=2", in_flight=1), model) as endpoint,
    ):
        run(endpoint, PROMPTS, replies)
    with served(fake(tmp_path), model) as endpoint:
        ends = run(endpoint, PROMPTS, replies)
        assert len(state(endpoint)["asked"]) == len(PROMPTS) - 2
    assert len([end for end in ends.values() if isinstance(end, Reply)]) == len(PROMPTS)
    assert sum(each.requests for each in spent(replies).values()) == len(PROMPTS)


def test_the_day_is_that_of_training(tmp_path: Path) -> None:
    """As Llama 3's, this template prints today where it can; the fake would, and its chats would not be training's."""
    model = without_weights(tmp_path / "base", "{{ strftime_now('%Y') }} " + TEMPLATE)
    with served(fake(tmp_path), model) as endpoint:
        assert texts(endpoint, tmp_path / "replies")


def test_what_a_user_has_requests_say_is_said_beside_where_answers_end(tmp_path: Path, model: Path) -> None:
    own = Endpoint(model="theirs", body={"top_p": 0.5})
    with asked(own, fake(tmp_path), model) as endpoint:
        assert endpoint.body == {"top_p": 0.5, "stop_token_ids": [WORDS.index("<end>"), WORDS.index("<eos>")]}
    with asked(own, None, None) as endpoint:
        assert endpoint == own


@contextlib.contextmanager
def job(tmp_path: Path, model: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that serves, and the ids of what it started: the keeper and the server."""
    code = f"""
import time
from pathlib import Path
from msm_hpc.config.serving import Serving
from msm_hpc.serving import handshake, served
with served(Serving(server="vllm", python={fake_python(tmp_path)!r}), Path({str(model)!r})) as endpoint:
    server = handshake.ask(endpoint.base_url.removesuffix("/v1") + "/fake")["pid"]
    print(Path(f"/proc/{{server}}/stat").read_text().split()[3], server, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, [int(each) for each in process.stdout.readline().split()]
        finally:
            process.kill()


def test_nothing_is_left_of_a_killed_job(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with job(tmp_path, model) as (process, pids):
        assert len(pids) == 2
        process.kill()
        assert is_gone(*pids)
    assert not list(tmp_path.glob("msm-servers-*"))


def test_a_server_does_not_outlive_who_looks_after_it(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with job(tmp_path, model) as (_, (keeper, server)):
        os.kill(keeper, signal.SIGTERM)  # as Slurm sends it to all processes of a job
        os.kill(server, 0)
        os.kill(keeper, signal.SIGKILL)
        assert is_gone(server)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"server": "vllm"}, r"serving\.python: missing; vLLM needs an environment of its own"),
        ({"server": "command", "command": "serve {model} {name}"}, r"serving\.command: has no \{port\}"),
        ({"command": "serve"}, "server transformers takes none"),
        ({"arguments": ("--x",)}, "they are vLLM's: remove them"),
    ],
)
def test_settings_that_do_not_fit_the_server_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Serving(**fields)


def test_a_command_without_a_place_for_an_adapter_serves_none(tmp_path: Path, model: Path) -> None:
    config = Serving(server="command", command="serve {model} {port} {name}")
    adapter = adapter_without_weights(tmp_path / "adapter")
    with pytest.raises(UserError, match=r"serving\.command: has no \{adapter\}"), served(config, model, adapter):
        pass
