"""Forecast of the time in which a trained model writes replies, or its answers to pairs are scored.

A prompt is read at once, which takes operations; a reply is written token by token, and for each the GPU reads all
weights and the keys and values of everything before it. What reads them once for many replies is faster, as far as the
memory holds their keys and values::

    Qwen2.5-32B on an H200, one prompt of 1,700 tokens, replies of 2,000 and at most 4,000: 65 GB of weights
        64 replies at a time, 1 GB for each at most: 65 + 64 x 0.7 GB a step at half of 4.8 TB/s are 46 ms
        which are 1,400 tokens a second

Nothing of this was measured here. With vLLM on an H100, Llama-3.1-8B reaches 74% of the bandwidth at one request and
43% at 16 (the sweep of InferenceBench's documentation), on an A100 77% at one (J. Musgrave's sweep): half is assumed.
``transformers`` launches every operation of a step from Python: 39 tokens a second of Llama-2-7B, one at a time
(gpt-fast, issue 59), are 0.8 ms for each of 32 layers; and it writes a batch until its longest reply has ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from msm_hpc.config.cluster import Gpu
from msm_hpc.config.serving import Serving
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.flops import step_flops
from msm_hpc.model.gpus import GPUS
from msm_hpc.planner.forecast import ASSUMED_MFU
from msm_hpc.planner.loading import SPEED

ASSUMED_BANDWIDTH = 0.5
"""Share of the memory's bandwidth that writing replies reaches."""
ASSUMED_LENGTH = 0.5
"""Length of a reply, of the most tokens that it may have: so the truth is at most twice as much."""
SECONDS_A_LAYER = 0.0008
"""What a step takes at least for each layer where nothing captures it, as in ``transformers``."""
USABLE = 0.9
"""Share of a GPU's memory that a server fills, vLLM's default."""


@dataclass(frozen=True)
class Requests:
    """So many requests, each a prompt of ``prompt`` tokens and a reply of at most ``most``, on the average.

    Of their prompts ``distinct`` differ: a server that keeps prefixes reads, and holds, the others once.
    """

    count: int
    prompt: float
    most: float
    distinct: int

    def read_by(self, serving: Serving) -> float:
        """The share of all prompts that a server reads: of vLLM, which keeps prefixes, the distinct ones."""
        return self.distinct / max(self.count, 1) if serving.server == "vllm" else 1.0

    @property
    def reply(self) -> float:
        """Tokens of a reply, as assumed."""
        return ASSUMED_LENGTH * self.most


@dataclass(frozen=True)
class Placed:
    """A model of ``size`` bytes a weight, and the GPUs that it is spread over."""

    model: Transformer
    size: int
    gpu: Gpu
    gpus: int = 1

    @property
    def weights(self) -> int:
        """Bytes."""
        return self.size * self.model.parameters

    @property
    def loading(self) -> float:
        """Seconds."""
        return self.weights / SPEED

    def reading(self, tokens: float, pairs: float) -> float:
        """Seconds to read ``tokens``, of which attention compares ``pairs``: a third of a training's operations."""
        flops = step_flops(self.model, round(tokens), round(pairs), lora=None) / 3
        return flops / (ASSUMED_MFU * GPUS[self.gpu].peak * self.gpus)

    def writing(self, asked: Requests, serving: Serving) -> float | None:
        """Seconds to write replies; None where the weights leave no memory for one."""
        shape, gpu = self.model.shape, GPUS[self.gpu]
        a_token = 2 * self.size * shape.num_hidden_layers * self.model.key_rows
        room = USABLE * gpu.memory * self.gpus - self.weights
        read = asked.read_by(serving)
        fitting = int((room / a_token - (1 - read) * asked.prompt) // (read * asked.prompt + asked.most))
        if fitting < 1:
            return None
        in_process = serving.server == "transformers"
        limit = min(serving.batch, serving.in_flight) if in_process else serving.in_flight
        at_once = max(min(limit, fitting, asked.count), 1)
        moved = self.weights + at_once * a_token * (asked.prompt + asked.reply / 2)
        computed = step_flops(self.model, at_once, 0, lora=None) / 3 / gpu.peak
        step = max(moved / gpu.bandwidth, computed) / ASSUMED_BANDWIDTH / self.gpus
        if in_process:
            return asked.count * asked.most / at_once * max(step, SECONDS_A_LAYER * shape.num_hidden_layers)
        return asked.count * asked.reply / at_once * step

    def asking(self, asked: Requests, serving: Serving) -> float | None:
        """Seconds to load the model and to ask it all this; None as above."""
        writing = self.writing(asked, serving)
        if writing is None:
            return None
        prompts = asked.count * asked.read_by(serving)
        return self.loading + self.reading(prompts * asked.prompt, prompts * asked.prompt**2) + writing

    def scoring(self, tokens: float, length: float, at_once: int) -> float:
        """Seconds to load the model and to score ``tokens`` in texts of ``length`` each, ``at_once`` in a batch."""
        batches = tokens / at_once
        bandwidth = ASSUMED_BANDWIDTH * GPUS[self.gpu].bandwidth
        floor = max(self.weights / bandwidth, SECONDS_A_LAYER * self.model.shape.num_hidden_layers)
        return self.loading + max(self.reading(tokens, tokens * length), batches * floor)
