"""Checks that a layout divides a model, before a job is queued; so this imports nothing heavy.

Tensor parallelism cuts the attention heads, the key-value heads, the MLP and the vocabulary; pipeline parallelism cuts
the layers. Each must divide evenly: with 6 layers, ``pipeline_parallel=4`` is refused here, not after an hour in a
queue.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import Layout
from msm_hpc.model.architecture import Transformer


def check_layout(layout: Layout, model: Transformer, sequence_length: int) -> None:
    """Check that ``layout`` divides ``model`` and rows of ``sequence_length`` tokens evenly.

    Raises:
        UserError: it does not; with the first of :func:`problems`.
    """
    if found := problems(layout, model, sequence_length):
        raise UserError(found[0])


def problems(layout: Layout, model: Transformer, sequence_length: int) -> list[str]:
    """Why ``layout`` does not fit ``model`` and rows of ``sequence_length`` tokens; empty where it does.

    Each names the field, both numbers and the largest value below that works.
    """
    return list(_problems(layout, model, sequence_length))


def _problems(layout: Layout, model: Transformer, sequence_length: int) -> Iterator[str]:
    shape = model.shape
    tensor, pipeline = layout.tensor_parallel, layout.pipeline_parallel
    yield from _remainder("tensor_parallel", tensor, shape.num_attention_heads, "attention heads")
    yield from _remainder("tensor_parallel", tensor, shape.num_key_value_heads, "key-value heads")
    yield from _remainder("tensor_parallel", tensor, shape.intermediate_size, "columns of the MLP (intermediate_size)")
    yield from _remainder("tensor_parallel", tensor, model.padded_vocab_size, "rows of the padded vocabulary")
    yield from _remainder("pipeline_parallel", pipeline, shape.num_hidden_layers, "layers")
    if shape.num_hidden_layers % pipeline == 0:
        of_a_stage = shape.num_hidden_layers // pipeline
        chunks = layout.virtual_pipeline
        yield from _remainder("virtual_pipeline", chunks, of_a_stage, "layers of each of the pipeline stages")
    if layout.sequence_parallel and layout.context_parallel == 1:  # with it, rows are padded to fit
        tokens = "tokens a row (sequence_length), for sequence_parallel"
        yield from _remainder("tensor_parallel", tensor, sequence_length, tokens)
    if sequence_length > shape.max_position_embeddings:
        yield (
            f"sequence_length {sequence_length} is longer than the model's max_position_embeddings "
            f"{shape.max_position_embeddings}; lower it to {shape.max_position_embeddings}, or choose another model "
            "(model=NAME)"
        )


def check_world_size(layout: Layout) -> None:
    """Check that this job has as many ranks (``WORLD_SIZE``; unset is 1) as ``layout`` needs.

    Raises:
        UserError: it has more or fewer.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != layout.world_size:
        raise UserError(
            f"this job has {started} ranks (WORLD_SIZE), but layout needs {layout.world_size}: tensor_parallel "
            f"{layout.tensor_parallel} x pipeline_parallel {layout.pipeline_parallel} x context_parallel "
            f"{layout.context_parallel} x data_parallel {layout.data_parallel}; start as many ranks, or change layout"
        )


def _remainder(field: str, parts: int, whole: int, what: str) -> Iterator[str]:
    if whole % parts:
        best = max(n for n in range(1, parts + 1) if whole % n == 0)
        yield f"layout.{field}={parts} does not divide {whole} {what}; choose {best}"
