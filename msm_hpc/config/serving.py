"""How a trained model is asked: by which server, and with what for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, PositiveInt

from msm_hpc.base.errors import UserError
from msm_hpc.config.schema import Rate, Strict, placement


def _absolute(program: str) -> str:
    """A path as it is from here: jobs may start elsewhere. A link stays one: an environment is known by its own."""
    return os.path.abspath(program) if os.sep in program else program


Program = Annotated[str, AfterValidator(_absolute)]
"""An interpreter, by path or by name."""


@dataclass(frozen=True, kw_only=True)
class Serving(Strict):
    """A server with OpenAI's API for one model, on the machine of the job that asks it.

    Servers round and draw differently, so that which one it is shapes the replies; where it is and how fast is not.

    Attributes:
        server: ``transformers`` in the process that asks (any model, on CPU too), ``vllm`` as a process of its own, or
            any other by its ``command``.
        arguments: further arguments of vLLM that shape replies, such as ``--max-model-len=16384``.
        command: a shell line without pipes, in which {model}, {adapter}, {port} and {name} are replaced; the server
            listens on 127.0.0.1 and calls its model {name}.
        tuning: further arguments of vLLM that do not, such as ``--gpu-memory-utilization=0.85``.
        python: the interpreter of vLLM's own environment.
        max_lora_rank: the highest rank of adapters that vLLM makes room for.
        batch: sequences that ``transformers`` generates at a time.
        in_flight: requests at a time.
        timeout_s: how long one reply may take.
        ready_s: how long the server may take until it answers.
    """

    server: Literal["transformers", "vllm", "command"] = "transformers"
    arguments: tuple[str, ...] = ()
    command: str = ""
    tuning: tuple[str, ...] = placement(())
    python: Program = placement("")
    max_lora_rank: PositiveInt = placement(64)
    batch: PositiveInt = placement(32)
    in_flight: PositiveInt = placement(128)
    timeout_s: Rate = placement(1800.0)
    ready_s: Rate = placement(1200.0)

    def __post_init__(self) -> None:
        if self.server == "vllm" and not self.python:
            raise UserError(
                "serving.python: missing; vLLM needs an environment of its own (docs/serving.md): give its interpreter"
            )
        if self.server == "command":
            for place in ("{model}", "{port}", "{name}"):
                if place not in self.command:
                    raise UserError(f"serving.command: has no {place}; write it where the server is given that")
        elif self.command:
            raise UserError(
                f"serving.command: server {self.server} takes none; set serving.server=command or remove it"
            )
        if self.server != "vllm" and (self.arguments or self.tuning):
            raise UserError(
                f"serving.arguments, serving.tuning: server {self.server} takes none; they are vLLM's: remove them"
            )
