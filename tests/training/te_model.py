"""``python -m tests.training.te_model``: our model with Transformer Engine's layers, built on a CPU.

Prints, as JSON by family and precision, the attention that Transformer Engine is asked for, the types of a layer's
projections, and the shape and dtype of every tensor of a checkpoint. Nothing is computed: there is no GPU.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from msm_hpc.config.stages import Architecture
from msm_hpc.config.training import Layout, Lora, Precision
from msm_hpc.model.architecture import Transformer
from msm_hpc.training.megatron import cpu
from tests.training import te_python

SHAPE = Architecture(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
LLAMA = Transformer(shape=SHAPE, vocab_size=200, head_dim=16, rope_factor=8.0)
FAMILIES = {"llama": LLAMA, "qwen2": replace(LLAMA, qkv_bias=True), "qwen3": replace(LLAMA, qk_norm=True)}
PRECISIONS: tuple[Precision, ...] = ("bf16", "fp8_delayed", "fp8_tensorwise", "fp8_blockwise", "mxfp8", "nvfp4")


def built(model: Transformer, precision: Precision) -> dict[str, Any]:
    """``model`` with an adapter, on one rank."""
    from msm_hpc.training.checkpoints.initial import initialise, local_tensors
    from msm_hpc.training.megatron.lora import adapt
    from msm_hpc.training.megatron.model import build_model, transformer_config

    chunks = build_model(model, transformer_config(model, Layout(), precision))
    adapt(chunks, model, Lora(rank=4))
    initialise(chunks, seed=0)
    layer = chunks[0].decoder.layers[1]
    linears = (layer.self_attention.linear_qkv, layer.self_attention.linear_proj, layer.mlp.linear_fc1)
    return {
        "attention": chunks[0].config.attention_backend.name,
        "linears": [type(linear).__name__ for linear in linears],
        "tensors": {each.key: [*each.global_shape, str(each.dtype)] for each in local_tensors(chunks)},
    }


def main() -> None:
    te_python.install()
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed
    from torch.distributed import HashStore, init_process_group  # type: ignore[attr-defined]
    from transformer_engine.pytorch import cpp_extensions

    cpp_extensions.get_cudnn_version = lambda: 91_200
    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    with ExitStack() as patches:
        cpu._redirect_random(patches)
        model_parallel_cuda_manual_seed(0)
        found = {name: {word: built(model, word) for word in PRECISIONS} for name, model in FAMILIES.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
