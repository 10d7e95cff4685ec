"""What Megatron's GPTModel computes, loaded by Megatron from a checkpoint.

Each of some folders holds ``model/`` (``config.json``, ``checkpoint/``) and ``tokens.pt`` (token ids ``[tokens]``), and
gets ``outputs.pt`` (logits ``[tokens, padded vocabulary]`` and training losses ``[tokens]``) and
``trained/checkpoint/`` (the loaded weights, saved again).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from msm_hpc.config.training import Layout
from msm_hpc.model.architecture import read_architecture
from msm_hpc.training.data.batch import MicroBatch
from msm_hpc.training.megatron.groups import process_groups

FOUR = Layout(tensor_parallel=2, pipeline_parallel=2, virtual_pipeline=2)


def compute_on_four(root: str) -> None:
    """As one rank of :data:`FOUR`, for the folders in ``root``."""
    compute(FOUR, sorted(Path(root).iterdir()))


def compute(layout: Layout, folders: Sequence[Path]) -> None:
    with process_groups(layout):
        from msm_hpc.training.checkpoints.weights import load_weights, save_weights
        from msm_hpc.training.megatron.model import build_model, transformer_config

        for folder in folders:
            architecture = read_architecture(folder / "model")
            chunks = build_model(architecture, transformer_config(architecture, layout, "fp32"))
            load_weights(chunks, folder / "model" / "checkpoint")
            save_weights(chunks, folder / "trained" / "checkpoint")
            batch = one_document(torch.load(folder / "tokens.pt"))
            logits, losses = forward(chunks, batch, labels=False), forward(chunks, batch, labels=True)
            if distributed.get_rank() == distributed.get_world_size() - 1:
                assert logits is not None and losses is not None
                torch.save((logits[0], losses[0]), folder / "outputs.pt")


def one_document(tokens: Tensor) -> MicroBatch:
    """Each token of ``tokens``, which are all the batch, predicts the next; the last one predicts the first."""
    count = len(tokens)
    boundaries = torch.tensor([0, count], dtype=torch.int32)
    return MicroBatch(tokens[None], tokens.roll(-1)[None], torch.ones(1, count), boundaries, count, count, count**2)


def forward(chunks: Sequence[torch.nn.Module], batch: MicroBatch, labels: bool) -> Tensor | None:
    """Through all pipeline stages: on the last, losses ``[1, tokens]`` or, without labels, logits of all ranks."""
    from megatron.core import parallel_state
    from megatron.core.pipeline_parallel import get_forward_backward_func
    from megatron.core.tensor_parallel import gather_from_tensor_model_parallel_region

    from msm_hpc.training.step import token_losses

    def step(batches: Iterator[MicroBatch], stage: torch.nn.Module) -> tuple[Tensor, Any]:
        one = next(batches)
        output = token_losses(stage, one if labels else replace(one, labels=None))
        return output, lambda found: (found.sum(), torch.tensor(1), found.detach().clone())

    micro_batches = parallel_state.get_pipeline_model_parallel_world_size()  # as interleaved stages need
    outputs = get_forward_backward_func()(
        forward_step_func=step,
        data_iterator=[iter([batch] * micro_batches) for _ in chunks],
        model=list(chunks),
        num_microbatches=micro_batches,
        seq_length=batch.tokens.shape[1],
        micro_batch_size=1,
        forward_only=True,
    )
    if not parallel_state.is_pipeline_last_stage():
        return None
    output: Tensor = outputs[0]
    return output if labels else gather_from_tensor_model_parallel_region(output)
