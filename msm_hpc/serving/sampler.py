"""Replies of an opened model: many rows at once, each drawn by a generator of its own.

``transformers`` draws all rows of a batch from one generator, so that a reply would depend on its neighbours, and one
temperature is that of all. Here a row's token is drawn before ``generate`` sees its logits: what it is given has the
drawn token alone, which is then the most likely one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from msm_hpc.base.errors import DivergedError
from msm_hpc.serving.names import check_is_model
from msm_hpc.serving.opened import open_model
from tokenization.chats.prompts import PromptEncoder


@dataclass(frozen=True)
class Row:
    """What is asked: a prompt's (tokens,) ids, and how its reply is drawn; at temperature 0 the likeliest token is."""

    ids: NDArray[np.int32]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True)
class Drawn:
    """A reply; ``tokens`` counts the one that ended it."""

    text: str
    finish: Literal["stop", "length"]
    tokens: int


class Sampler:
    """A model and its chats.

    Attributes:
        context: the most tokens of a prompt and its reply, where the model has a limit.
        stopping: set to end what is being generated.
    """

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        """Open the model of a Hugging Face folder.

        Raises:
            UserError: the folder does not hold a whole model and a tokenizer with a chat template, or is not what the
                adapter was trained on.
        """
        check_is_model(folder)
        self.prompts = PromptEncoder(folder)
        self._folder = adapter or folder
        self._model = open_model(folder, adapter)
        self.context: int | None = getattr(self._model.config, "max_position_embeddings", None)
        own = self._model.generation_config.eos_token_id
        self._ends = self.prompts.ends | set([own] if isinstance(own, int) else own or ())
        # What else it has, such as a repetition penalty, is not asked for; a reply is drawn as its request says.
        drawing = {"eos_token_id": sorted(self._ends), "pad_token_id": min(self._ends)}
        self._model.generation_config = GenerationConfig.from_dict(drawing)
        self.stopping = threading.Event()

    @torch.inference_mode()
    def draw(self, rows: Sequence[Row]) -> list[Drawn]:
        """The replies to ``rows``, generated in one batch.

        Raises:
            DivergedError: logits are not finite.
        """
        width, device = max(len(row.ids) for row in rows), self._model.device
        ids = torch.full((len(rows), width), min(self._ends))
        attended = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, width - len(row.ids) :] = torch.tensor(row.ids)
            attended[index, width - len(row.ids) :] = 1
        sequences: Tensor = self._model.generate(
            ids.to(device),
            attention_mask=attended.to(device),
            max_new_tokens=max(row.max_tokens for row in rows),
            do_sample=False,
            logits_processor=LogitsProcessorList([_Draw(rows, device, self._folder)]),
            stopping_criteria=StoppingCriteriaList([_Limits(rows, width, device, self.stopping.is_set)]),
        )
        return [self._reply(row, each) for row, each in zip(rows, sequences[:, width:].tolist(), strict=True)]

    def _reply(self, row: Row, ids: list[int]) -> Drawn:
        end = next((index for index, number in enumerate(ids) if number in self._ends), len(ids))
        if end < min(row.max_tokens, len(ids)):
            return Drawn(self.prompts.decode(ids[:end]), "stop", end + 1)
        return Drawn(self.prompts.decode(ids[: row.max_tokens]), "length", row.max_tokens)


class _Draw(LogitsProcessor):
    """Leaves each row one token, drawn by the row's generator: the first in the vocabulary's order at which the
    cumulated probability exceeds a uniform number. So rounding changes a token only where that number is at an edge."""

    def __init__(self, rows: Sequence[Row], device: torch.device, model: Path) -> None:
        self._generators = [torch.Generator().manual_seed(row.seed) for row in rows]
        temperatures = torch.tensor([row.temperature for row in rows], dtype=torch.float64, device=device)
        self._greedy = temperatures == 0
        self._temperatures = temperatures.masked_fill(self._greedy, 1.0).unsqueeze(-1)
        self._top_p = torch.tensor([row.top_p for row in rows], dtype=torch.float64, device=device).unsqueeze(-1)
        self._cuts = min(row.top_p for row in rows) < 1
        self._model = model

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not bool(torch.isfinite(scores).all()):
            raise DivergedError(f"{self._model}: logits are not finite: the training diverged")
        probabilities = (scores.double() / self._temperatures).softmax(dim=-1)
        if self._cuts:
            probabilities = self._nucleus(probabilities)
        cumulated = probabilities.cumsum(dim=-1)
        uniform = torch.cat([torch.rand(1, 1, generator=each, dtype=torch.float64) for each in self._generators])
        drawn = torch.searchsorted(cumulated, uniform.to(scores.device) * cumulated[:, -1:], right=True)
        tokens = torch.where(self._greedy.unsqueeze(-1), scores.argmax(dim=-1, keepdim=True), drawn)
        return torch.full_like(scores, -torch.inf).scatter(-1, tokens.clamp(max=scores.shape[-1] - 1), 0.0)

    def _nucleus(self, probabilities: Tensor) -> Tensor:
        """The likeliest tokens that make up ``top_p`` together; the others have no probability."""
        ordered, order = probabilities.sort(dim=-1, descending=True)
        kept = ordered.cumsum(dim=-1) - ordered < self._top_p
        return torch.zeros_like(probabilities).scatter(-1, order, ordered * kept)


class _Limits(StoppingCriteria):
    """Ends each row at its own limit, and all of them when the server stops."""

    def __init__(self, rows: Sequence[Row], width: int, device: torch.device, stopping: Callable[[], bool]) -> None:
        self._limits = width + torch.tensor([row.max_tokens for row in rows], device=device)
        self._stopping = stopping

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return (self._limits <= input_ids.shape[1]) | self._stopping()
