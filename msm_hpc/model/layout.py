"""Whether a layout can hold a model: known before a job is queued, so this imports nothing heavy.

Tensor parallelism cuts the attention heads, the key-value heads, the MLP and the vocabulary; pipeline parallelism cuts
the layers. Each must come out even: with 6 layers, ``pipeline_parallel=4`` is refused here and not after an hour in a
queue.
"""

from __future__ import annotations

import os

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import Layout
from msm_hpc.model.architecture import Transformer


def check_layout(layout: Layout, model: Transformer, sequence_length: int) -> None:
    """Check that ``layout`` divides ``model`` and rows of ``sequence_length`` tokens evenly.

    Raises:
        UserError: it does not; names the field, both numbers and the largest value below that works.
    """
    shape = model.shape
    tensor = layout.tensor_parallel
    _divides("tensor_parallel", tensor, shape.num_attention_heads, "attention heads")
    _divides("tensor_parallel", tensor, shape.num_key_value_heads, "key-value heads")
    _divides("tensor_parallel", tensor, shape.intermediate_size, "columns of the MLP (intermediate_size)")
    _divides("tensor_parallel", tensor, model.padded_vocab_size, "rows of the padded vocabulary")
    _divides("pipeline_parallel", layout.pipeline_parallel, shape.num_hidden_layers, "layers")
    of_a_stage = shape.num_hidden_layers // layout.pipeline_parallel
    _divides("virtual_pipeline", layout.virtual_pipeline, of_a_stage, "layers of each of the pipeline stages")
    if layout.sequence_parallel and layout.context_parallel == 1:  # with it, rows are padded to fit
        _divides("tensor_parallel", tensor, sequence_length, "tokens a row (sequence_length), for sequence_parallel")
    if sequence_length > shape.max_position_embeddings:
        raise UserError(
            f"sequence_length {sequence_length} is longer than the model's max_position_embeddings "
            f"{shape.max_position_embeddings}; lower it to {shape.max_position_embeddings}"
        )


def check_world_size(layout: Layout) -> None:
    """Check that this job was started with as many ranks (``WORLD_SIZE``; unset is 1) as ``layout`` needs.

    Raises:
        UserError: it was not.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != layout.world_size:
        raise UserError(
            f"this job has {started} ranks (WORLD_SIZE), but layout needs {layout.world_size}: tensor_parallel "
            f"{layout.tensor_parallel} x pipeline_parallel {layout.pipeline_parallel} x context_parallel "
            f"{layout.context_parallel} x data_parallel {layout.data_parallel}; start as many ranks, or change layout"
        )


def _divides(field: str, parts: int, whole: int, what: str) -> None:
    if whole % parts:
        best = max(n for n in range(1, parts + 1) if whole % n == 0)
        raise UserError(f"layout.{field}={parts} does not divide {whole} {what}; choose {best}")
