"""vLLM: its command line, the adapters that it loads while it runs, and whether it prints chats as training does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msm_hpc.base.environment import for_another_interpreter
from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_json, write_text
from msm_hpc.config.serving import Serving
from msm_hpc.model.adapter import PEFT_CONFIG, read_exported
from msm_hpc.serving.device import devices
from msm_hpc.serving.handshake import ask, said, shake_hands
from tokenization.chats.prompts import PromptEncoder
from tokenization.tokenizer import TokenizerFolder

SECONDS_TO_LOAD = 600.0
PROBE = ({"role": "user", "content": "Which day is it?"},)


def command(config: Serving, model: Path, name: str, port: int, adapters: bool, folder: Path) -> list[str]:
    """The command line of a server of ``model`` on all GPUs of this process; its template is written into ``folder``.

    What the model's own generation config says of sampling is left out: a reply is drawn as its request says.

    Raises:
        UserError: the model has no chat template, or one whose day cannot be fixed.
    """
    template = TokenizerFolder(model).template
    if template is None:
        raise UserError(f"{model}: the tokenizer has no chat template; add chat_template.jinja")
    write_text(folder / f"{name}.jinja", template.with_the_day())
    gpus = devices().count(",") + 1
    arguments: dict[str, object] = {
        "model": model,
        "served-model-name": name,
        "host": "127.0.0.1",
        "port": port,
        "seed": 0,
        "tensor-parallel-size": gpus,
        "generation-config": "vllm",
        "chat-template": folder / f"{name}.jinja",
        "chat-template-content-format": "string",
    }
    lora = ["--enable-lora", f"--max-lora-rank={config.max_lora_rank}"] if adapters else []
    given = [f"--{key}={value}" for key, value in arguments.items()]
    python = [config.python, "-m", "vllm.entrypoints.openai.api_server"]
    return [*python, *given, *lora, *config.arguments, *config.tuning]


def environment() -> Mapping[str, str]:
    """What vLLM runs in."""
    return {**for_another_interpreter(), "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_NO_USAGE_STATS": "1"}


def asked_for(model: Path) -> Mapping[str, Any]:
    """What each request says beside its prompt: the tokens that end an answer.

    vLLM knows those of ``generation_config.json`` alone, and a base's file need not name the end of a turn of the
    template that it was tuned with: a reply would run on into the next turn.
    """
    return {"stop_token_ids": sorted(PromptEncoder(model).ends)}


def check_rank(config: Serving, adapter: Path, base: Path) -> None:
    """Check that an adapter is one of ``base``, and that a server has room for it.

    Raises:
        UserError: it is not, or it has not.
    """
    read_exported(adapter, base)
    rank = read_json(adapter / PEFT_CONFIG)["r"]
    if rank > config.max_lora_rank:
        raise UserError(f"{adapter} has rank {rank}: set serving.max_lora_rank={rank} or higher")


def load(url: str, name: str, adapter: Path, parent: str) -> None:
    """Have the server at ``url`` answer for an adapter of its base ``parent``, under ``name``.

    Raises:
        UserError: it does not load it, or as another model's.
        OSError: no answer.
    """
    try:
        ask(f"{url}/load_lora_adapter", {"lora_name": name, "lora_path": str(adapter)}, SECONDS_TO_LOAD)
    except OSError as error:
        raise UserError(f"{adapter}: vLLM does not load it: {said(error)}") from error
    shake_hands(url, name, parent)


def unload(url: str, name: str) -> None:
    """Have the server forget an adapter.

    Raises:
        OSError: no answer.
    """
    ask(f"{url}/unload_lora_adapter", {"lora_name": name})


def check_chats(url: str, name: str, model: Path) -> None:
    """Check that the server prints and encodes a chat as training does.

    Raises:
        UserError: it does not.
        OSError: no answer.
    """
    ours = PromptEncoder(model).encode(PROBE).tolist()
    body = {"model": name, "messages": PROBE, "add_generation_prompt": True, "add_special_tokens": False}
    theirs = ask(f"{url.removesuffix('/v1')}/tokenize", body)["tokens"]
    if theirs != ours:
        raise UserError(
            f"{model}: vLLM encodes a question as {theirs}, and training as {ours}: the model would be asked what it "
            "was never trained on; see that its tokenizer and chat template are those of the export"
        )
