"""The ``model`` stage, where a campaign's models start, and the ``export`` stage, where a trained one leaves.

``run_model`` writes ``config.json``, the tokenizer and, where weights exist, ``checkpoint/`` (Megatron's).
``run_export`` writes a folder that ``transformers`` opens: the description and tokenizer of the model, the weights of
the checkpoint.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from msm_hpc.config import ExportConfig, ModelConfig
from msm_hpc.conversion import scratch, source
from msm_hpc.conversion.checkpoint import Checkpoint, Chunk, write_checkpoint
from msm_hpc.conversion.llama import GlobalTensor, global_tensors
from msm_hpc.errors import UserError
from msm_hpc.files import read_json, write_json

# What a Megatron GPT's keys begin with; a checkpoint may hold more, such as an optimizer's state.
_MODEL_KEYS = ("embedding.", "decoder.", "output_layer.")


def run_model(config: ModelConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """Describe a model made from scratch (with ``inputs["tokenizer"]``), or convert Hugging Face weights.

    Raises:
        UserError: the model, its weights or the tokenizer cannot be used.
    """
    if config.architecture is not None:
        scratch.describe(config.architecture, inputs["tokenizer"], out)
        return
    assert config.hf is not None
    loaded = source.load(config.hf, config.gguf_file, config.revision)
    loaded.config.save_pretrained(out)
    loaded.tokenizer.save_pretrained(out)
    tensors = global_tensors(loaded.config)
    write_checkpoint(out / "checkpoint", [chunk for tensor in tensors for chunk in _chunks(tensor, loaded.weights)])


def run_export(config: ExportConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """Write the weights in ``inputs["checkpoint"]`` as the Hugging Face model that ``inputs["model"]`` describes.

    Raises:
        UserError: the checkpoint is not of this model, is damaged, or holds values that are not finite.
    """
    model = inputs["model"]
    if not (model / "config.json").is_file():
        raise UserError(f"{model}/config.json does not exist: the description of the model comes from the model stage")
    description = LlamaConfig.from_pretrained(model)
    dtype = getattr(torch, config.dtype)
    weights = dict(_weights(inputs["checkpoint"] / "checkpoint", global_tensors(description), dtype))
    _check_complete(description, weights)
    shutil.copytree(model, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("checkpoint"))
    write_json(out / "config.json", {**read_json(model / "config.json"), "dtype": config.dtype})
    save_torch_state_dict(weights, out)
    for file in out.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors makes files that only their owner can read; campaigns are shared


def _chunks(tensor: GlobalTensor, weights: Mapping[str, Tensor]) -> Iterator[Chunk]:
    """One chunk a layer."""
    dtype = weights[tensor.names(0)[0]].dtype
    layers = 1 if tensor.layers is None else tensor.layers
    for layer in range(layers):
        shape = tensor.shape if tensor.layers is None else (1, *tensor.shape[1:])
        offset = (layer, *(0 for _ in shape[1:]))
        yield Chunk(tensor.key, tensor.shape, offset, shape, dtype, partial(_chunk, tensor, weights, layer))


def _chunk(tensor: GlobalTensor, weights: Mapping[str, Tensor], layer: int) -> Tensor:
    fused = tensor.fuse(weights, layer)
    return fused if tensor.layers is None else fused.unsqueeze(0)


def _weights(folder: Path, tensors: tuple[GlobalTensor, ...], dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Hugging Face names and weights of all ``tensors``."""
    checkpoint = Checkpoint(folder)
    _check_same_model(folder, checkpoint.shapes, tensors)
    for tensor in tensors:
        whole = checkpoint.read(tensor.key, dtype)
        if not whole.isfinite().all():
            raise UserError(f"{folder}: {tensor.key} has values that are not finite: the training run has diverged")
        for layer, fused in enumerate(whole.unsqueeze(0) if tensor.layers is None else whole):
            yield from tensor.split(fused, layer)


def _check_same_model(folder: Path, found: Mapping[str, tuple[int, ...]], tensors: tuple[GlobalTensor, ...]) -> None:
    expected = {tensor.key: tensor.shape for tensor in tensors}
    if missing := expected.keys() - found.keys():
        raise UserError(f"{folder} lacks {', '.join(sorted(missing))}: it is no checkpoint of this model")
    if extra := {key for key in found if key.startswith(_MODEL_KEYS)} - expected.keys():
        raise UserError(f"{folder} has {', '.join(sorted(extra))}, which this model lacks: it is of another model")
    for key, shape in expected.items():
        if found[key] != shape:
            raise UserError(f"{folder}: {key} has shape {list(found[key])}, but this model's is {list(shape)}")


def _check_complete(description: LlamaConfig, weights: Mapping[str, Tensor]) -> None:
    """Our mapping against transformers' own list of parameters."""
    with torch.device("meta"):
        reference = {name: parameter.shape for name, parameter in LlamaForCausalLM(description).named_parameters()}
    assert {name: weight.shape for name, weight in weights.items()} == reference
