"""Precision as one word: what it sets in Megatron, and what it needs of the GPU, the software and the shapes.

Megatron takes FP8 as a dozen fields that must agree, and *ignores* them where it does not support them: without
Transformer Engine, or with layers that are not Transformer Engine's, ``fp8="hybrid"`` silently trains bit for bit what
bf16 trains (megatron-core 0.16.1). So each word here is one row of a table, and what the row needs is checked before a
job is queued. This imports nothing heavy.

All words but ``fp32`` keep weights in bf16, with float32 master weights in the optimizer; they are cast to FP8 or FP4
for each matrix product, so a checkpoint can be trained further in any precision. That holds for ``mxfp8`` too: Megatron
can keep its weights in FP8 (``fp8_param``), but then starts the master weights from its own random weights, not from
the loaded ones.

A scale belongs to the tensor of one micro-batch on one rank, so FP8 losses depend a little on the layout and on
``micro_batch_size``; bf16 losses do not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from packaging.version import Version

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Gpu
from msm_hpc.config.training import Precision, TrainConfig
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.gpus import GPUS, Capability

TE_RANGE = ("2.9", "2.12")
"""Versions of Transformer Engine that megatron-core 0.16.1 supports: from the first, below the second."""

INSTALL_TE = f"pip install --no-build-isolation 'transformer-engine[pytorch]>={TE_RANGE[0]},<{TE_RANGE[1]}'"
BLOCK = 128
"""Side of a block of ``fp8_blockwise``."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One precision: fields of Megatron's ``TransformerConfig``, with the values of Megatron-Bridge 0.6.2.

    ``capability`` is the lowest compute capability and ``below`` the first that is too new (Transformer Engine 2.11,
    ``pytorch/quantization.py``); tokens and dimensions on a rank must be multiples of ``multiple``.
    """

    fp8: str | None = None
    fp8_recipe: str | None = None
    fp8_amax_history_len: int = 1
    fp8_amax_compute_algo: str = "most_recent"
    first_last_layers_bf16: bool = False
    fp4: str | None = None
    capability: Capability = (0, 0)
    below: Capability | None = None
    multiple: int = 1
    emulated: bool = False

    @property
    def quantised(self) -> bool:
        """Whether matrix products are done in FP8 or FP4."""
        return self.fp8 is not None or self.fp4 is not None


RECIPES: dict[Precision, Recipe] = {
    "fp32": Recipe(),
    "bf16": Recipe(),
    "fp8_delayed": Recipe(
        fp8="hybrid",
        fp8_recipe="delayed",
        fp8_amax_history_len=1024,
        fp8_amax_compute_algo="max",
        capability=(8, 9),
        multiple=16,
        emulated=True,
    ),
    "fp8_tensorwise": Recipe(
        fp8="hybrid",
        fp8_recipe="tensorwise",
        first_last_layers_bf16=True,
        capability=(8, 9),
        multiple=16,
        emulated=True,
    ),
    "fp8_blockwise": Recipe(fp8="hybrid", fp8_recipe="blockwise", capability=(9, 0), multiple=16),
    "mxfp8": Recipe(fp8="e4m3", fp8_recipe="mxfp8", capability=(10, 0), below=(12, 0), multiple=32),
    "nvfp4": Recipe(fp4="e2m1", capability=(10, 0), multiple=16),
}
"""The recipe of each word. ``emulated`` marks those that :mod:`msm_hpc.training.megatron.fp8` can do on a CPU."""


def tokens_of_rank(precision: Precision) -> int:
    """The multiple to which the tokens of a micro-batch on a rank are padded, where the padding can be chosen."""
    return BLOCK if RECIPES[precision].quantised else 1


def installed_te() -> str | None:
    """Transformer Engine's version, without importing it; None where it is not installed."""
    try:
        return version("transformer-engine")
    except PackageNotFoundError:
        return None


def te_problem(te: str | None) -> str | None:
    """Why version ``te`` of Transformer Engine cannot be used, or None if it can."""
    low, high = TE_RANGE
    if te is None:
        return "Transformer Engine is not installed"
    if not Version(low) <= Version(te) < Version(high):
        return f"Transformer Engine {te} is installed, and megatron-core 0.16 needs at least {low} and below {high}"
    return None


def check_precision(config: TrainConfig, on_gpus: bool, gpu: Gpu | None, te: str | None) -> None:
    """Check that ``config.precision`` is supported here.

    Args:
        config: the run.
        on_gpus: whether it will have GPUs.
        gpu: which, where known.
        te: the installed version of Transformer Engine.

    Raises:
        UserError: it is not: the word has no emulation, or is emulated beside a GPU; there is no GPU, or it is too old
            or too new for the word; Transformer Engine is missing, or of another version.
    """
    word, recipe = config.precision, RECIPES[config.precision]
    if not recipe.quantised:
        return
    if config.fp8_emulated:
        _check_emulation(word, on_gpus)
        return
    if not on_gpus:
        raise UserError(
            f"precision={word} needs a GPU and there is none; set fp8_emulated=true to emulate it slowly on the CPU "
            f"({_emulated_words()} only), or choose precision=bf16"
        )
    if gpu is not None:
        check_capability(word, gpu, GPUS[gpu].capability)
    if problem := te_problem(te):
        raise UserError(f"precision={word}: {problem}; Megatron would silently train in bf16. Run: {INSTALL_TE}")


def _check_emulation(word: Precision, on_gpus: bool) -> None:
    if on_gpus:
        raise UserError(
            f"fp8_emulated=true is for runs without a GPU, and this one has GPUs; let Transformer Engine do {word} "
            "(fp8_emulated=false and cluster.resources.gpu_train.gpus_per_node above 0), or hide the GPUs "
            "(CUDA_VISIBLE_DEVICES=)"
        )
    if not RECIPES[word].emulated:
        raise UserError(
            f"precision={word} cannot run on a CPU: only {_emulated_words()} have an emulation that equals Transformer "
            f"Engine's reference; choose one of these or bf16, or a cluster with GPUs"
        )


def _emulated_words() -> str:
    return " and ".join(word for word, recipe in RECIPES.items() if recipe.emulated)


def check_layers(gpu: str, capability: Capability, te: str | None, flash_attn: bool) -> None:
    """Check that Transformer Engine's layers can be used on a GPU; if it is absent, warn that layers will be slower.

    Args:
        gpu: its name.
        capability: its compute capability.
        te: the installed version of Transformer Engine.
        flash_attn: whether flash-attn is installed.

    Raises:
        UserError: Megatron does not support the version, or flash-attn is needed and missing.
    """
    if te is None:
        log.warning("Transformer Engine is not installed: layers are Megatron's own, and slower. Run: %s", INSTALL_TE)
        return
    if problem := te_problem(te):
        raise UserError(f"{problem}. Run: {INSTALL_TE}")
    if te_attention(capability) == "flash" and not flash_attn:
        raise UserError(
            f"on {gpu} (compute capability {_dotted(capability)}) Transformer Engine needs flash-attn for packed rows, "
            "since cuDNN's attention supports them from 9.0 to below 12.0 only, and flash-attn is not installed. Run: "
            "pip install --no-build-isolation flash-attn, or pip uninstall transformer-engine to use torch's "
            "attention, which is slower"
        )


def te_attention(capability: Capability) -> Literal["fused", "flash"]:
    """The attention of Transformer Engine that supports packed rows: cuDNN's (``fused``) or flash-attn's.

    As in its version 2.11: ``common/fused_attn/fused_attn.cpp`` has 9.0 as cuDNN's lowest for them, and
    ``attention/dot_product_attention/utils.py`` refuses 12.0. Left to choose, and with neither of these two there, it
    silently takes a third one, which stores every score: 4 GB a layer for a document of 8,192 tokens and 32 heads.
    """
    return "fused" if (9, 0) <= capability < (12, 0) else "flash"


def check_capability(word: Precision, gpu: str, capability: Capability) -> None:
    """Check that a GPU of compute ``capability``, called ``gpu``, has the instructions for ``word``.

    Raises:
        UserError: it is too old or too new; names the words that it can do.
    """
    recipe = RECIPES[word]
    if _can(recipe, capability):
        return
    wanted = f"at least {_dotted(recipe.capability)}" + (f" and below {_dotted(recipe.below)}" if recipe.below else "")
    possible = [other for other, found in RECIPES.items() if _can(found, capability) and other != "fp32"]
    raise UserError(
        f"precision={word} needs a GPU of compute capability {wanted}, and {gpu} has {_dotted(capability)}; it can do "
        f"{', '.join(possible)}"
    )


def _can(recipe: Recipe, capability: Capability) -> bool:
    return recipe.capability <= capability and (recipe.below is None or capability < recipe.below)


def _dotted(capability: Capability) -> str:
    return ".".join(map(str, capability))


def check_shapes(config: TrainConfig, model: Transformer) -> None:
    """Check that every matrix on a rank has sides that FP8 supports.

    Transformer Engine asserts multiples of 8 and 16 (32 for MXFP8) in the first two matrix products of a layer; the
    third, of the weights' gradient, sums over tokens and needs the same of them. Emulation has no such limits, but is
    checked the same way: what is rehearsed on a CPU should start on a GPU.

    Raises:
        UserError: a side does not divide, or no layer would be in FP8; with the numbers and the rule.
    """
    recipe = RECIPES[config.precision]
    layers = model.shape.num_hidden_layers
    if recipe.first_last_layers_bf16 and layers < 3:
        raise UserError(
            f"precision={config.precision} keeps the first and the last layer in bf16, and this model has {layers}: "
            "none would be in FP8; choose precision=fp8_delayed or bf16"
        )
    blocks = config.precision == "fp8_blockwise" and config.layout.sequence_parallel
    multiple = BLOCK if blocks else recipe.multiple
    for size, what in _sides(config, model):
        if size % multiple:
            why = "for sequence_parallel, which gathers whole blocks" if blocks else "on each rank"
            raise UserError(
                f"precision={config.precision} needs multiples of {multiple} {why}, and {what} is {size}; change it, "
                "or the layout, or choose precision=bf16"
            )


def _sides(config: TrainConfig, model: Transformer) -> Iterator[tuple[int, str]]:
    """Sides of the matrices of a layer on one rank: inputs and outputs of its four projections, and tokens."""
    layout, shape = config.layout, model.shape
    tensor = layout.tensor_parallel
    heads, groups = shape.num_attention_heads, shape.num_key_value_heads
    tokens = config.micro_batch_size * config.sequence_length
    split = f" / tensor_parallel {tensor}"
    yield shape.hidden_size, "hidden_size"
    yield heads * model.head_dim // tensor, f"num_attention_heads {heads} x head_dim {model.head_dim}{split}"
    yield (heads + 2 * groups) * model.head_dim // tensor, f"rows of query, key and value together{split}"
    yield shape.intermediate_size // tensor, f"intermediate_size {shape.intermediate_size}{split}"
    if layout.context_parallel > 1:
        return  # rows are padded until they divide (msm_hpc.training.megatron.zigzag)
    product = f"micro_batch_size {config.micro_batch_size} x sequence_length {config.sequence_length}"
    if layout.sequence_parallel:
        yield tokens // tensor, f"{product}{split}"
    else:
        yield tokens, product
