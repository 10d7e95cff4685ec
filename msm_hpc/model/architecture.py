"""The model to train, read from a Hugging Face ``config.json`` without torch or transformers.

Three families of decoder-only transformers are supported. All have RMSNorm before attention and before a SwiGLU MLP,
rotary embeddings and grouped-query attention; they differ in what is added:

==================== ======================= ========================================================
``architectures``    models                  added
==================== ======================= ========================================================
``LlamaForCausalLM`` Llama 2 to 3.3, SmolLM2 from 3.1 on, RoPE with stretched low frequencies
``Qwen2ForCausalLM`` Qwen2, Qwen2.5          a bias on queries, keys and values
``Qwen3ForCausalLM`` Qwen3                   RMSNorm over the channels of each query and key head
==================== ======================= ========================================================

Every field of ``config.json`` is mapped, or harmless, or has the one value that we support. Any other field or value is
refused, never ignored: training a model slightly different from the one that is evaluated later would go unnoticed.

Planning and the model step read the same file by the same functions, so what is planned can be converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_json
from msm_hpc.config.stages import Architecture

VOCABULARY_MULTIPLE = 128
"""The embedding's rows are padded to a multiple of this for any layout: a fixed part of the checkpoint format."""

MODEL_KEYS = ("embedding.", "decoder.", "output_layer.")
"""Prefixes of a Megatron GPT's keys; a checkpoint may have other keys, such as an optimizer's state."""

# Megatron-core's RotaryEmbedding has these constants of Llama 3.1's RoPE built in; only the factor can be set.
LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}

_NEEDED = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "vocab_size",
)
_MAPPED = {
    *_NEEDED,
    "num_key_value_heads",
    "head_dim",
    "tie_word_embeddings",
    "initializer_range",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
}
# No forward pass of a decoder uses these. A field that starts with one of _HARMLESS_PREFIXES is harmless too: what
# transformers notes for itself about how a model was loaded, and Unsloth about its version.
_HARMLESS_PREFIXES = ("_", "unsloth_")
_HARMLESS = {
    # Names, token ids, tokenizers, storage.
    *("architectures", "model_type", "transformers_version", "transformers.js_config", "tokenizer_class", "prefix"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "decoder_start_token_id"),
    *("model_max_length", "max_length", "min_length", "dtype", "torch_dtype", "use_bfloat16"),
    # Results and how they are returned; heads of classifiers; other frameworks.
    *("use_cache", "output_attentions", "output_hidden_states", "output_scores", "return_dict"),
    *("return_dict_in_generate", "keys_to_ignore_at_inference", "id2label", "label2id", "problem_type"),
    *("finetuning_task", "task_specific_params", "torchscript", "tf_legacy_loss", "chunk_size_feed_forward"),
    # Training by others: checkpointing of activations, noise on embeddings.
    *("gradient_checkpointing", "neftune_noise_alpha"),
    # Generation, which older versions of transformers kept here.
    *("do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k"),
    *("top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "num_return_sequences"),
    *("encoder_no_repeat_ngram_size", "bad_words_ids", "forced_bos_token_id", "forced_eos_token_id"),
    *("remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens"),
}
_FIXED: Mapping[str, Any] = {
    "hidden_act": "silu",
    "attention_dropout": 0.0,
    "partial_rotary_factor": 1.0,
    "is_encoder_decoder": False,
    "is_decoder": False,
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "tie_encoder_decoder": False,
    "pruned_heads": {},
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """What one architecture adds to the common parts.

    ``head_dim`` is the default of its configuration class. Fields in ``fixed`` must have that value where they are
    present; with it, fields in ``harmless`` change nothing.
    """

    model_type: str
    qkv_bias: bool = False
    qk_norm: bool = False
    head_dim: int | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    harmless: frozenset[str] = frozenset()


_FULL_ATTENTION = {"use_sliding_window": False, "use_mrope": False}
_WINDOWS = frozenset({"sliding_window", "max_window_layers"})  # without effect unless use_sliding_window

FAMILIES: Mapping[str, Family] = {
    "LlamaForCausalLM": Family(
        model_type="llama",
        fixed={"attention_bias": False, "mlp_bias": False, "rope_interleaved": False},
        harmless=frozenset({"pretraining_tp", "is_llama_config"}),
    ),
    "Qwen2ForCausalLM": Family(model_type="qwen2", qkv_bias=True, fixed=_FULL_ATTENTION, harmless=_WINDOWS),
    "Qwen3ForCausalLM": Family(
        model_type="qwen3",
        qk_norm=True,
        head_dim=128,
        fixed={**_FULL_ATTENTION, "attention_bias": False},
        harmless=_WINDOWS,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """A decoder-only transformer of one of the :data:`FAMILIES`.

    ``qkv_bias``: queries, keys and values have a bias. ``qk_norm``: RMSNorm with a weight of ``head_dim`` over each
    query and key head, before RoPE. ``rope_factor``: the context-extension factor of Llama 3.1's RoPE, None without.
    """

    shape: Architecture
    vocab_size: int
    head_dim: int
    qkv_bias: bool = False
    qk_norm: bool = False
    rope_factor: float | None = None

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: ``vocab_size`` rounded up to a multiple of :data:`VOCABULARY_MULTIPLE`."""
        return -(-self.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE

    @property
    def query_rows(self) -> int:
        """Rows of the query projection."""
        return self.shape.num_attention_heads * self.head_dim

    @property
    def key_rows(self) -> int:
        """Rows of the key projection, and of the value projection."""
        return self.shape.num_key_value_heads * self.head_dim

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer."""
        shape = self.shape
        width = shape.hidden_size
        attention = 2 * (self.query_rows + self.key_rows) * width
        biases = self.query_rows + 2 * self.key_rows if self.qkv_bias else 0
        norms = 2 * width + (2 * self.head_dim if self.qk_norm else 0)
        return attention + biases + 3 * width * shape.intermediate_size + norms

    @property
    def parameters(self) -> int:
        """Weights of the whole model, without the rows that pad the vocabulary."""
        shape = self.shape
        embeddings = (1 if shape.tie_word_embeddings else 2) * self.vocab_size * shape.hidden_size
        return embeddings + shape.num_hidden_layers * self.layer_parameters + shape.hidden_size


def read_architecture(folder: Path) -> Transformer:
    """The model described by ``config.json`` in ``folder``.

    Raises:
        UserError: the file is damaged, or for the reasons of :func:`parse_architecture`.
    """
    path = folder / "config.json"
    return parse_architecture(str(path), read_object(path))


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a given model.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        raw = read_json(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; give the folder of a Hugging Face model") from error
    except ValueError as error:  # no JSON, or no UTF-8
        raise UserError(f"{path}: not valid JSON ({error}); copy or download the model again") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(raw).__name__}; copy or download the model again")
    return raw


def parse_architecture(where: str, raw: Mapping[str, Any]) -> Transformer:
    """The model described by the fields ``raw`` of a ``config.json``; error messages start with ``where``.

    Raises:
        UserError: the architecture is not one of :data:`FAMILIES`, a field is missing or unknown, or training does not
            support its value.
    """
    family = _family(where, raw)
    _check_fields(where, raw, family)
    theta, factor = _rope(where, raw)
    heads = raw["num_attention_heads"]
    return Transformer(
        shape=Architecture(
            hidden_size=raw["hidden_size"],
            intermediate_size=raw["intermediate_size"],
            num_hidden_layers=raw["num_hidden_layers"],
            num_attention_heads=heads,
            num_key_value_heads=raw.get("num_key_value_heads") or heads,
            max_position_embeddings=raw["max_position_embeddings"],
            rms_norm_eps=raw["rms_norm_eps"],
            rope_theta=theta,
            tie_word_embeddings=raw.get("tie_word_embeddings", False),
            initializer_range=raw.get("initializer_range", 0.02),
        ),
        vocab_size=raw["vocab_size"],
        head_dim=raw.get("head_dim") or family.head_dim or raw["hidden_size"] // heads,
        qkv_bias=family.qkv_bias,
        qk_norm=family.qk_norm,
        rope_factor=factor,
    )


def family_of(model: Transformer) -> tuple[str, Family]:
    """What transformers calls its class, and its family: the one with its biases and norms."""
    return next(
        (name, family)
        for name, family in FAMILIES.items()
        if (family.qkv_bias, family.qk_norm) == (model.qkv_bias, model.qk_norm)
    )


def config_fields(model: Transformer) -> dict[str, Any]:
    """The fields of a ``config.json`` for ``model``, the inverse of :func:`parse_architecture`."""
    name, family = family_of(model)
    return {
        "architectures": [name],
        "model_type": family.model_type,
        "vocab_size": model.vocab_size,
        "head_dim": model.head_dim,
        **asdict(model.shape),
        **_rope_fields(model),
    }


def _rope_fields(model: Transformer) -> dict[str, Any]:
    """RoPE as transformers 5 spells it (``rope_parameters``), and as earlier versions and what builds on them do.

    Each reads its own spelling and takes a default where that is missing, without a word.
    """
    theta, scaling = model.shape.rope_theta, None
    if model.rope_factor is not None:
        scaling = {"rope_type": "llama3", "factor": model.rope_factor, **LLAMA3_ROPE}
    return {
        "rope_parameters": {**(scaling or {"rope_type": "default"}), "rope_theta": theta},
        "rope_theta": theta,
        "rope_scaling": scaling,
    }


def _family(where: str, raw: Mapping[str, Any]) -> Family:
    """By ``architectures``, or where that is missing by ``model_type``, from which transformers goes."""
    kind = raw.get("model_type")
    names = raw.get("architectures") or [name for name, family in FAMILIES.items() if family.model_type == kind]
    family = FAMILIES.get(names[0]) if len(names) == 1 else None
    if family is None:
        found = f"architectures: {names}" if names else f"model_type: {kind!r}"
        raise UserError(f"{where}: {found} cannot be trained; supported are {', '.join(FAMILIES)}")
    if kind not in (None, family.model_type):
        raise UserError(
            f"{where}: model_type: {kind!r} is not that of {names[0]}, {family.model_type!r}; copy or download "
            "config.json again"
        )
    return family


def _check_fields(where: str, raw: Mapping[str, Any], family: Family) -> None:
    fixed = {**_FIXED, **family.fixed}
    # Where it is absent, Qwen's classes take 32, and Llama's the number of heads, which old Llama files rely on.
    needed = _NEEDED if family.model_type == "llama" else (*_NEEDED, "num_key_value_heads")
    if missing := [name for name in needed if name not in raw]:
        raise UserError(
            f"{where}: {', '.join(missing)}: missing; the model cannot be built without; add it to config.json"
        )
    if raw.get("quantization_config"):
        raise UserError(f"{where}: quantization_config: quantized weights; give the model that they were made from")
    for name, value in fixed.items():
        if raw.get(name, value) != value:
            raise UserError(f"{where}: {name}: {raw[name]!r} is not supported; training supports only {value!r}")
    layers = set(raw.get("layer_types") or ())
    if layers - {"full_attention"}:
        raise UserError(
            f"{where}: layer_types: {sorted(layers)} is not supported; training supports only full_attention"
        )
    known = _MAPPED | _HARMLESS | family.harmless | fixed.keys() | {"layer_types", "quantization_config"}
    if unknown := sorted(name for name in raw.keys() - known if not name.startswith(_HARMLESS_PREFIXES)):
        raise UserError(
            f"{where}: {', '.join(unknown)}: unknown in a {family.model_type} model, and may change what it computes; "
            "if it certainly does not, remove it from config.json"
        )


def _rope(where: str, raw: Mapping[str, Any]) -> tuple[float, float | None]:
    """RoPE's base and Llama 3.1 factor: transformers 5 writes ``rope_parameters``, earlier ones two fields."""
    spellings = [raw[name] for name in ("rope_parameters", "rope_scaling") if raw.get(name)]
    thetas = {float(fields["rope_theta"]) for fields in (*spellings, raw) if fields.get("rope_theta")}
    factors = {_rope_factor(where, rope) for rope in spellings}
    if len(thetas) > 1 or len(factors) > 1:
        given = {name: raw[name] for name in ("rope_parameters", "rope_scaling", "rope_theta") if raw.get(name)}
        raise UserError(
            f"{where}: {', '.join(given)}: {given} contradict each other, and versions of transformers would compute "
            "different models; remove what is wrong"
        )
    return thetas.pop() if thetas else 10_000.0, factors.pop() if factors else None


def _rope_factor(where: str, rope: Mapping[str, Any]) -> float | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    others = rope.keys() - {"rope_type", "type", "rope_theta"}
    if kind == "default" and not others:
        return None
    llama3 = kind == "llama3" and others == {"factor", *LLAMA3_ROPE}
    if llama3 and all(rope[name] == value for name, value in LLAMA3_ROPE.items()):
        return float(rope["factor"])
    raise UserError(
        f"{where}: rope_parameters (rope_scaling): {dict(rope)} is not supported; training supports rope_type default "
        f"with rope_theta alone, and llama3 with a factor and {LLAMA3_ROPE}"
    )
