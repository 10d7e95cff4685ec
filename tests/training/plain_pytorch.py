"""The same training in plain PyTorch: documents on their own, padded, through a small Llama and torch's AdamW.

Nothing here comes from Megatron or from ``msm_hpc.training``: that a run agrees with it says what the run computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from msm_hpc.config.training import TrainConfig
from msm_hpc.model.architecture import Transformer


@dataclass(frozen=True)
class Document:
    """(length,) token ids, and for each 1 where it is a training target, else 0."""

    tokens: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Step:
    """What an optimizer step found: loss, norm of the gradient before it is clipped; and its learning rate."""

    loss: float
    grad_norm: float
    learning_rate: float


class Llama:
    """A Llama without biases, by its Hugging Face ``weights``, which become parameters."""

    def __init__(self, model: Transformer, weights: Mapping[str, Tensor]) -> None:
        self.weights = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
        self.shape, self.head_dim = model.shape, model.head_dim

    def logits(self, tokens: Tensor) -> Tensor:
        """``[documents, width, vocabulary]`` of ``[documents, width]``; no token sees what is to its right."""
        hidden = self.weights["model.embed_tokens.weight"][tokens]
        for number in range(self.shape.num_hidden_layers):
            layer = f"model.layers.{number}"
            hidden = hidden + self._attention(f"{layer}.self_attn", self._norm(f"{layer}.input_layernorm", hidden))
            hidden = hidden + self._mlp(f"{layer}.mlp", self._norm(f"{layer}.post_attention_layernorm", hidden))
        return self._linear("lm_head", self._norm("model.norm", hidden))

    def _linear(self, name: str, hidden: Tensor) -> Tensor:
        return hidden @ self.weights[f"{name}.weight"].T

    def _norm(self, name: str, hidden: Tensor) -> Tensor:
        scale = torch.rsqrt(hidden.square().mean(-1, keepdim=True) + self.shape.rms_norm_eps)
        return hidden * scale * self.weights[f"{name}.weight"]

    def _mlp(self, name: str, hidden: Tensor) -> Tensor:
        gate, up = (self._linear(f"{name}.{part}_proj", hidden) for part in ("gate", "up"))
        return self._linear(f"{name}.down_proj", gate * torch.sigmoid(gate) * up)

    def _attention(self, name: str, hidden: Tensor) -> Tensor:
        query, key, value = (
            self._linear(f"{name}.{part}_proj", hidden).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for part in ("q", "k", "v")
        )
        scores = self._rotated(query) @ self._rotated(key).transpose(-1, -2) / math.sqrt(self.head_dim)
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        seen = scores.masked_fill(future, -math.inf).softmax(-1) @ value
        return self._linear(f"{name}.o_proj", seen.transpose(1, 2).flatten(2))

    def _rotated(self, heads: Tensor) -> Tensor:
        """RoPE (Su et al., arXiv 2104.09864): channel ``i`` turns with channel ``i + head_dim / 2``."""
        frequencies = self.shape.rope_theta ** (-torch.arange(0, self.head_dim, 2) / self.head_dim)
        angles = torch.arange(heads.shape[-2])[:, None] * frequencies
        first, second = heads.chunk(2, -1)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def is_decayed(name: str) -> bool:
    """Whether the weight has weight decay: all have, embeddings too, but for the norms."""
    return "norm" not in name


def train(
    model: Llama,
    batches: Sequence[Sequence[Document]],
    config: TrainConfig,
    decayed: Callable[[str], bool] = is_decayed,
) -> Iterator[Step]:
    """Clipped AdamW, one step a batch."""
    weights = list(model.weights.values())
    groups = [
        {
            "params": [weight for name, weight in model.weights.items() if decayed(name) == decay],
            "weight_decay": config.weight_decay * decay,
        }
        for decay in (True, False)
    ]
    betas = (config.adam_beta1, config.adam_beta2)
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, eps=config.adam_eps)
    for step, documents in enumerate(batches, 1):
        rate = learning_rate(config, step, len(batches))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = mean_loss(model, documents)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, config.clip_grad)
        optimizer.step()
        yield Step(loss.item(), norm.item(), rate)


def mean_loss(model: Llama, documents: Sequence[Document]) -> Tensor:
    """Cross-entropy of the targets of all ``documents``; nothing predicts the first token of one."""
    tokens, targets = (
        torch.nn.utils.rnn.pad_sequence([getattr(document, name) for document in documents], batch_first=True)
        for name in ("tokens", "targets")
    )
    losses = F.cross_entropy(model.logits(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    weights = targets[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Of step ``step``, from 1: linear warm-up from 0, then a cosine that would be 0 at step ``steps + 1``."""
    warmup = int(config.warmup_fraction * steps)
    if step <= warmup:
        return config.learning_rate * step / warmup
    return config.learning_rate * (0.5 + 0.5 * math.cos(math.pi * (step - warmup) / (steps + 1 - warmup)))
