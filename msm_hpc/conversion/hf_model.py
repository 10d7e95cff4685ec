"""Opening a Hugging Face model and checking that it can be converted."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from msm_hpc.base.errors import UserError
from msm_hpc.conversion.files import DESCRIPTION, LICENCES, refuse_adapter
from msm_hpc.conversion.mapping import GlobalTensor, global_tensors
from msm_hpc.conversion.weights import StoredWeights, has_safetensors
from msm_hpc.model.architecture import FAMILIES, Transformer, parse_architecture, read_object

_COMPUTED = "rotary_emb.inv_freq"  # stored by old Llamas, and read by nobody
# What transformers and torch raise for files that are missing, cut short or of another format.
_UNREADABLE = (OSError, ValueError, RuntimeError, LookupError, EOFError, pickle.UnpicklingError)


@dataclass(frozen=True)
class HfModel:
    """A Hugging Face model: its ``weights`` by name, on the CPU, all of ``dtype``.

    ``fields`` are those of its ``config.json``; of a GGUF file, which has none, they describe the weights as they are
    read, dequantized. ``architecture`` is what they say.
    """

    folder: Path
    gguf_file: str | None
    fields: Mapping[str, Any]
    architecture: Transformer
    weights: Mapping[str, Tensor]
    dtype: torch.dtype


def download(hub: str, revision: str | None, gguf_file: str | None) -> Path:
    """The files of a model on the hub, in the hub's cache: a folder, or its file ``gguf_file``.

    Raises:
        UserError: it is neither in the cache nor can it be downloaded, or packages for GGUF are missing.
    """
    if gguf_file is not None:
        _check_gguf_packages()
    weights = gguf_file or "*.safetensors"
    try:
        found = snapshot_download(
            hub, revision=revision, allow_patterns=[*DESCRIPTION, *LICENCES, weights], ignore_patterns=["original/*"]
        )
    except GatedRepoError as error:
        raise UserError(
            f"model.hub: {hub} is gated: accept its licence at https://huggingface.co/{hub}, then set HF_TOKEN or run "
            f"`hf auth login` ({error})"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"model.hub: {hub} is neither in the hub's cache nor can it be downloaded; where there is a network, run "
            f"`hf download {hub} --revision {revision}` with HF_HOME on a file system that this node sees "
            f"({error})"
        ) from error
    return Path(found) / (gguf_file or "")


def open_model(path: Path) -> HfModel:
    """Open the model in a folder or in a GGUF file.

    Weights in safetensors are read when asked for, others (GGUF, ``.bin``) now.

    Raises:
        UserError: it cannot be found or read, is of no known family, has a field that is not supported, or holds other
            weights than its ``config.json`` describes.
    """
    folder, gguf_file = _folder_and_file(path)
    if gguf_file is None:
        fields = read_object(folder / "config.json")
        architecture = parse_architecture(f"{folder}/config.json", fields)
        if has_safetensors(folder):
            stored = StoredWeights(folder)
            return HfModel(folder, None, fields, architecture, stored, _check_stored(folder, stored, architecture))
    config = _configuration(folder, gguf_file)
    if gguf_file is not None:
        fields = _gguf_fields(config)
        architecture = parse_architecture(str(path), fields)
    weights, dtype = _load_whole(path, folder, config, gguf_file)
    return HfModel(folder, gguf_file, fields, architecture, weights, dtype)


def _folder_and_file(path: Path) -> tuple[Path, str | None]:
    """The arguments of transformers for ``path``, a folder or a GGUF file."""
    if path.is_dir():
        refuse_adapter(path)
        return path, None
    if not path.is_file():
        raise UserError(f"{path} does not exist; correct model.folder or model.gguf_file")
    _check_gguf_packages()
    return path.parent, path.name


def _check_gguf_packages() -> None:
    if any(find_spec(package) is None for package in ("gguf", "accelerate")):
        raise UserError("model.gguf_file: reading GGUF needs two more packages; run: pip install gguf accelerate")


def _configuration(folder: Path, gguf_file: str | None) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, gguf_file=gguf_file)
    except _UNREADABLE as error:
        raise UserError(f"{folder / (gguf_file or '')} cannot be opened by transformers: {error}") from error
    return config


def _gguf_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """The fields of a ``config.json`` for the weights of a GGUF file, without the quantization that loading undoes."""
    fields: dict[str, Any] = json.loads(config.to_json_string())
    names = [name for name, family in FAMILIES.items() if family.model_type == config.model_type]
    fields |= {"architectures": config.architectures or names}
    return {name: value for name, value in fields.items() if name not in ("quantization_config", "_name_or_path")}


def _check_stored(folder: Path, weights: StoredWeights, model: Transformer) -> torch.dtype:
    """Compare names and shapes with what ``model`` needs; returns the one dtype of all."""
    expected = {name: shape for tensor in global_tensors(model) for name, shape in _all_shapes(tensor).items()}
    found = {name: stored.shape for name, stored in weights.table.items() if not name.endswith(_COMPUTED)}
    if model.shape.tie_word_embeddings and "lm_head.weight" in found:
        if not torch.equal(weights["lm_head.weight"], weights["model.embed_tokens.weight"]):
            raise UserError(
                f"{folder}: config.json ties lm_head.weight to the embeddings, but they differ; set "
                "tie_word_embeddings to false there if the model has both"
            )
        del found["lm_head.weight"]
    mismatched = {name for name in expected.keys() & found.keys() if expected[name] != found[name]}
    _refuse(folder, "lacks weights", expected.keys() - found.keys())
    _refuse(folder, "has weights of another shape than config.json", mismatched)
    _refuse(folder, "has weights that config.json does not provide for", found.keys() - expected.keys())
    dtypes = {weights.table[name].dtype for name in expected}
    if len(dtypes) > 1:
        raise UserError(f"{folder} has weights of several dtypes ({dtypes}); save it again in one")
    return dtypes.pop()


def _all_shapes(tensor: GlobalTensor) -> dict[str, tuple[int, ...]]:
    layers = range(tensor.layers or 1)
    return {name: shape for layer in layers for name, shape in tensor.hf_shapes(layer).items()}


def _load_whole(
    path: Path, folder: Path, config: PreTrainedConfig, gguf_file: str | None
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
    except _UNREADABLE as error:
        raise UserError(f"{path} cannot be loaded by transformers: {error}") from error
    model, loading = loaded
    # Where weights do not match, transformers only warns, and draws random numbers or drops them.
    _refuse(path, "lacks weights", loading["missing_keys"])
    _refuse(path, "has weights of another shape than config.json", {name for name, *_ in loading["mismatched_keys"]})
    _refuse(path, "has weights that config.json does not provide for", loading["unexpected_keys"])
    return model.state_dict(), model.dtype


def _refuse(path: Path, problem: str, names: set[str]) -> None:
    if names:
        raise UserError(f"{path} {problem}: {', '.join(sorted(names))}; copy or download the model again")
