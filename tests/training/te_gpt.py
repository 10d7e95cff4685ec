"""``python -m tests.training.te_gpt``: a GPT with Transformer Engine's layers, and the same one emulated.

Both are Megatron's, on one rank. Prints the losses of each over a few steps as JSON, and how missing FP8 is noticed.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import torch

from tests.training import te_python

REFERENCE = (
    "transformer_engine.pytorch.custom_recipes.quantization_current_scaling.current_scaling_ref_quantizer_factory"
)
STEPS, SAMPLES, TOKENS, VOCABULARY = 4, 2, 32, 128


def _config(**fields: Any) -> Any:
    from megatron.core.transformer.transformer_config import TransformerConfig

    return TransformerConfig(
        num_layers=2,
        hidden_size=64,
        ffn_hidden_size=96,
        num_attention_heads=4,
        use_cpu_initialization=True,
        bf16=True,
        params_dtype=torch.bfloat16,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        add_bias_linear=False,
        add_qkv_bias=True,
        normalization="RMSNorm",
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        bias_activation_fusion=False,
        masked_softmax_fusion=False,
        persist_layer_norm=False,
        fp8="hybrid",
        **fields,
    )


def _gpt(config: Any, layers: list[Any]) -> Any:
    from megatron.core.models.gpt import GPTModel
    from megatron.core.transformer.torch_norm import WrappedTorchNorm
    from megatron.core.transformer.transformer_block import TransformerBlockSubmodules

    spec = TransformerBlockSubmodules(layer_specs=layers, layer_norm=WrappedTorchNorm)
    model = GPTModel(config, spec, VOCABULARY, TOKENS, position_embedding_type="rope").bfloat16()
    weights = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "norm" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=weights) * 0.1)
    return model


def _layer() -> Any:
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.torch_norm import WrappedTorchNorm

    layer = get_gpt_layer_local_spec(normalization="RMSNorm")
    layer.submodules.input_layernorm = layer.submodules.pre_mlp_layernorm = WrappedTorchNorm
    return layer


def _te_layer() -> Any:
    from megatron.core.extensions.transformer_engine import TEColumnParallelLinear, TERowParallelLinear

    layer = _layer()
    attention, mlp = layer.submodules.self_attention.submodules, layer.submodules.mlp.submodules
    attention.linear_qkv = mlp.linear_fc1 = TEColumnParallelLinear
    attention.linear_proj = mlp.linear_fc2 = TERowParallelLinear
    return layer


def _losses(model: Any) -> list[float]:
    tokens = torch.randint(0, VOCABULARY, (STEPS, SAMPLES, TOKENS), generator=torch.Generator().manual_seed(1))
    positions = torch.arange(TOKENS).expand(SAMPLES, TOKENS)
    mask = torch.ones(1, 1, TOKENS, TOKENS, dtype=torch.bool).triu(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for step in range(STEPS):
        model.set_is_first_microbatch()
        optimizer.zero_grad()
        loss = model(tokens[step], positions, mask, labels=tokens[step].roll(-1, 1)).float().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _leaving_is_noticed(config: Any, layer: Any) -> str:
    from msm_hpc.training.megatron.te import require_quantised

    model = _gpt(config, [layer] * 2)
    require_quantised(model)
    config.fp8 = None
    try:
        _losses(model)
    except AssertionError as error:
        return str(error)
    return "not noticed"


def main() -> None:
    te_python.install()
    from megatron.core import parallel_state, tensor_parallel
    from torch.distributed import HashStore, init_process_group

    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    parallel_state.initialize_model_parallel()
    from unittest.mock import MagicMock

    tracker = MagicMock()
    tracker.fork = lambda *args: contextlib.nullcontext()
    tensor_parallel.get_cuda_rng_tracker = lambda *args, **kwargs: tracker

    from msm_hpc.training.megatron.fp8 import connect, emulated_layer
    from msm_hpc.training.megatron.te import require_quantised

    te = _config(fp8_recipe="custom", fp8_quantizer_factory=REFERENCE)
    real = _gpt(te, [_te_layer()] * 2)
    require_quantised(real)
    ours = _config(fp8_recipe="tensorwise")
    emulated = _gpt(ours, [emulated_layer(ours, _layer(), number) for number in range(2)])
    connect(emulated)
    plain = _gpt(ours, [_layer()] * 2)
    found = {"real": _losses(real), "emulated": _losses(emulated), "bf16": _losses(plain)}
    noticed = _leaving_is_noticed(te, _te_layer())
    try:
        require_quantised(plain)
        local = "not noticed"
    except AssertionError as error:
        local = str(error)
    print(json.dumps({**found, "left": noticed, "local": local}))


if __name__ == "__main__":
    main()
