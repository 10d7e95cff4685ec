"""The model, built by Megatron-core from the Hugging Face description.

Transformer Engine's layers where there are a GPU, Transformer Engine and bf16 weights (its attention over packed rows
has no float32 kernel); Megatron's own ("local") layers with :mod:`~msm_hpc.training.megatron.attention` (or, under
context parallelism, :mod:`~msm_hpc.training.megatron.context`) elsewhere, their matrix products emulated where the
precision is FP8. Both write the same checkpoint keys. The GPU path, Transformer Engine's own context parallelism
included, is written from the sources: the tests build its modules with Transformer Engine's Python layer, and no GPU
has run them yet.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec, get_gpt_layer_local_spec
from megatron.core.transformer.enums import AttnBackend
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules, get_num_layers_to_build
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.transformer.transformer_layer import get_transformer_layer_offset
from torch import Tensor

from msm_hpc.config.training import Layout, Precision
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.precision import RECIPES, installed_te, te_attention
from msm_hpc.training.megatron import fp8
from msm_hpc.training.megatron.attention import PackedAttention
from msm_hpc.training.megatron.context import ContextParallelAttention
from msm_hpc.training.megatron.private import change_output
from msm_hpc.training.megatron.swiglu import SwiGLU


class RMSNorm(torch.nn.RMSNorm):
    """Torch's RMSNorm, which Megatron's wrapper of it refuses under sequence parallelism.

    There each tensor-parallel rank sees a part of the tokens; the mark on the weight makes Megatron sum its gradient.
    Norms of queries and keys are replicated and see a rank's own heads only, with or without sequence parallelism:
    ``megatron.core.distributed.finalize_model_grads`` sums their gradients over tensor-parallel ranks by their name.
    """

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(hidden_size, eps=eps, dtype=config.params_dtype)
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]


def transformer_config(model: Transformer, layout: Layout, precision: Precision) -> TransformerConfig:
    """Megatron's configuration of ``model``, field by field."""
    return TransformerConfig(
        **_architecture(model),
        **_kernels(bf16=precision != "fp32"),
        **_parallelism(layout),
        **_precision(precision),
        **_recompute(layout),
        # Weights are drawn or read once the model is built; Megatron's own drawing takes longer than to read them.
        init_method=_leave_as_it_is,
        output_layer_init_method=_leave_as_it_is,
        calculate_per_token_loss=True,
    )


def _leave_as_it_is(weight: Tensor) -> Tensor:
    return weight


def _architecture(model: Transformer) -> dict[str, Any]:
    shape = model.shape
    return {
        "num_layers": shape.num_hidden_layers,
        "hidden_size": shape.hidden_size,
        "ffn_hidden_size": shape.intermediate_size,
        "num_attention_heads": shape.num_attention_heads,
        "num_query_groups": shape.num_key_value_heads,
        "kv_channels": model.head_dim,
        "normalization": "RMSNorm",
        "layernorm_epsilon": shape.rms_norm_eps,
        "activation_func": F.silu,
        "gated_linear_unit": True,
        "add_bias_linear": False,
        "add_qkv_bias": model.qkv_bias,
        "qk_layernorm": model.qk_norm,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "init_method_std": shape.initializer_range,
    }


def _kernels(bf16: bool) -> dict[str, Any]:
    """Which function computes what."""
    gpu = torch.cuda.is_available()
    return {
        "attention_backend": _attention_backend(),
        # One kernel for SwiGLU (there is no bias), which keeps its input alone; torch.compile makes it.
        "bias_activation_fusion": gpu,
        # Megatron's name for an activation that the layer spec provides, here msm_hpc.training.megatron.swiglu.
        "use_te_activation_func": not gpu,
        # Fewer passes over the logits, by torch.compile; Megatron's kernel gives a bf16 gradient whatever they are.
        "cross_entropy_loss_fusion": gpu and bf16,
        # Megatron's own RoPE for packed rows reads the boundaries on the host: it waits for the GPU in each layer.
        "apply_rope_fusion": _transformer_engine(bf16),
    }


def _parallelism(layout: Layout) -> dict[str, Any]:
    interleaved = layout.virtual_pipeline > 1
    return {
        "tensor_model_parallel_size": layout.tensor_parallel,
        "pipeline_model_parallel_size": layout.pipeline_parallel,
        "virtual_pipeline_model_parallel_size": layout.virtual_pipeline if interleaved else None,
        "context_parallel_size": layout.context_parallel,
        "sequence_parallel": layout.sequence_parallel,
        # Batched, gloo trains an interleaved pipeline of two stages wrongly, without an error.
        "overlap_p2p_comm": interleaved,
        "batch_p2p_comm": not interleaved,
        # Corrupts activations sent by gloo.
        "deallocate_pipeline_outputs": torch.cuda.is_available(),
    }


def _precision(precision: Precision) -> dict[str, Any]:
    recipe = RECIPES[precision]
    bf16 = precision != "fp32"
    dtype = torch.bfloat16 if bf16 else torch.float32
    return {
        "bf16": bf16,
        "params_dtype": dtype,
        "pipeline_dtype": dtype,
        "autocast_dtype": dtype,
        "fp8": recipe.fp8,
        "fp8_recipe": recipe.fp8_recipe,
        "fp8_amax_history_len": recipe.fp8_amax_history_len,
        "fp8_amax_compute_algo": recipe.fp8_amax_compute_algo,
        "first_last_layers_bf16": recipe.first_last_layers_bf16,
        "fp4": recipe.fp4,
    }


def _recompute(layout: Layout) -> dict[str, Any]:
    """The fields of activation recomputation (Korthikanti et al., arXiv 2205.05198, sections 4 and 5).

    Their selective recomputation is of the attention scores, which our attention never stores; of what is left the MLP
    keeps most. Full recomputation keeps the input of each layer.
    """
    if layout.recompute == "full":
        return {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
    return {"recompute_granularity": "selective", "recompute_modules": ["mlp"]} if layout.recompute != "none" else {}


def _transformer_engine(bf16: bool) -> bool:
    return torch.cuda.is_available() and bf16 and installed_te() is not None


def _attention_backend() -> AttnBackend:
    """The attention that Transformer Engine is to use; Megatron's own layers have their own."""
    if not torch.cuda.is_available():
        return AttnBackend.auto
    return AttnBackend[te_attention(torch.cuda.get_device_capability())]


def build_model(model: Transformer, config: TransformerConfig) -> tuple[GPTModel, ...]:
    """This rank's part of ``model``, on its device, with weights not yet set: one chunk for each virtual stage.

    Needs the process groups of :func:`msm_hpc.training.megatron.groups.process_groups`.
    """
    chunks = config.virtual_pipeline_model_parallel_size
    stages = [None] if chunks is None else range(chunks)
    return tuple(_build_chunk(model, config, stage) for stage in stages)


def _build_chunk(model: Transformer, config: TransformerConfig, stage: int | None) -> GPTModel:
    """``stage`` is the number of the virtual stage; None where stages are not interleaved."""
    shape = model.shape
    built = GPTModel(
        config=config,
        transformer_layer_spec=_layers(config, stage),
        vocab_size=model.padded_vocab_size,
        max_sequence_length=shape.max_position_embeddings,
        pre_process=parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=stage),
        post_process=parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=stage),
        position_embedding_type="rope",
        rotary_base=shape.rope_theta,
        rope_scaling=model.rope_factor is not None,
        rope_scaling_factor=model.rope_factor or 1.0,
        share_embeddings_and_output_weights=shape.tie_word_embeddings,
        parallel_output=True,
        vp_stage=stage,
    )
    if built.post_process:
        _leave_padding_out(built, model.vocab_size)
    if config.fp8 or config.fp4:
        _prepare_quantisation(built)
    return built.cuda(torch.cuda.current_device())


def _leave_padding_out(model: GPTModel, vocab_size: int) -> None:
    """Set the logits of the rows that pad the vocabulary to -inf, which leaves them out of the softmax.

    Rows of zeros would take part as logits of 0, and the loss would not be the Hugging Face model's.
    """
    rows = model.output_layer.output_size_per_partition
    first = max(vocab_size - parallel_state.get_tensor_model_parallel_rank() * rows, 0)

    def mask(hidden: Tensor, logits: Tensor) -> Tensor:
        logits.detach()[..., first:] = -math.inf  # the softmax there is 0, and so is the gradient that comes back
        return logits

    if first < rows:
        change_output(model.output_layer, mask)


def _prepare_quantisation(model: GPTModel) -> None:
    if _transformer_engine(model.config.bf16):
        from msm_hpc.training.megatron.te import require_quantised

        require_quantised(model)
    else:
        fp8.connect(model)


def _layers(config: TransformerConfig, stage: int | None) -> TransformerBlockSubmodules:
    if _transformer_engine(config.bf16):
        return get_gpt_decoder_block_spec(config, use_transformer_engine=True, vp_stage=stage)
    layer = get_gpt_layer_local_spec(normalization="RMSNorm")
    layer.submodules.input_layernorm = layer.submodules.pre_mlp_layernorm = RMSNorm
    layer.submodules.mlp.submodules.activation_func = SwiGLU
    attention = layer.submodules.self_attention.submodules
    attention.core_attention = ContextParallelAttention if config.context_parallel_size > 1 else PackedAttention
    if config.qk_layernorm:
        attention.q_layernorm = attention.k_layernorm = RMSNorm
    layers = [layer] * get_num_layers_to_build(config, stage)
    if config.fp8 or config.fp4:
        first = get_transformer_layer_offset(config, stage)
        layers = [fp8.emulated_layer(config, layer, number) for number, layer in enumerate(layers, first)]
    return TransformerBlockSubmodules(layer_specs=layers, layer_norm=RMSNorm)
