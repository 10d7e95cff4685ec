"""Run under ``torch.distributed.run``: what Megatron's GPTModel computes, loaded by Megatron from a checkpoint.

Arguments: the model folder (``config.json``, ``checkpoint/``), tensor-parallel and pipeline-parallel sizes, a file with
token ids ``[tokens]`` to read, a file to write logits ``[tokens, padded vocabulary]`` and training losses ``[tokens]``
to (under one pipeline stage), and a folder in which to save the loaded weights again.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, distributed

from msm_hpc.config import Layout
from msm_hpc.training.architecture import read_architecture
from msm_hpc.training.data import MicroBatch
from msm_hpc.training.groups import process_groups


def main(folder: Path, layout: Layout, tokens_file: Path, outputs_file: Path, saved: Path) -> None:
    architecture = read_architecture(folder)
    with process_groups(layout):
        from msm_hpc.training.checkpoint import load_weights, save_weights
        from msm_hpc.training.loop import token_losses
        from msm_hpc.training.model import build_model, transformer_config

        model = build_model(architecture, transformer_config(architecture, layout, "fp32"))
        load_weights(model, folder / "checkpoint")
        save_weights(model, saved)
        if layout.pipeline_parallel == 1:
            batch = one_document(torch.load(tokens_file))
            outputs = logits(model, batch), token_losses(model, batch).detach()[0]
            if distributed.get_rank() == 0:
                torch.save(outputs, outputs_file)


def one_document(tokens: Tensor) -> MicroBatch:
    """Each token of ``tokens``, which are all the batch, predicts the next; the last one predicts the first."""
    count = len(tokens)
    boundaries = torch.tensor([0, count], dtype=torch.int32)
    return MicroBatch(tokens[None], tokens.roll(-1)[None], torch.ones(1, count), boundaries, count, count)


@torch.no_grad()
def logits(model: torch.nn.Module, batch: MicroBatch) -> Tensor:
    """``[tokens, padded vocabulary]``, gathered over the tensor-parallel ranks."""
    from megatron.core.packed_seq_params import PackedSeqParams

    packed = PackedSeqParams(
        qkv_format="thd",
        cu_seqlens_q=batch.boundaries,
        cu_seqlens_kv=batch.boundaries,
        max_seqlen_q=batch.longest,
        max_seqlen_kv=batch.longest,
    )
    part = model(batch.tokens, None, None, packed_seq_params=packed)
    parts = [torch.empty_like(part) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, part.contiguous())
    return torch.cat(parts, dim=-1)[0]


if __name__ == "__main__":
    folder, tensor, pipeline, *files = sys.argv[1:]
    layout = Layout(tensor_parallel=int(tensor), pipeline_parallel=int(pipeline))
    main(Path(folder), layout, *map(Path, files))
