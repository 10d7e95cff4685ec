"""The ``model`` stage (Hugging Face to Megatron) and the ``export`` stage (Megatron to Hugging Face).

``run_model`` writes ``config.json``, the tokenizer and, where weights exist, ``checkpoint/`` (Megatron's) and
``logits.json``. ``run_export`` writes a folder that ``transformers`` opens: the description and tokenizer of the model,
and the weights of the checkpoint. It is checked (:mod:`msm_hpc.conversion.gate`) before the step is done. Of an adapter
it writes a folder that ``peft`` opens.

Both convert the model layer by layer: at most three tensors of the size of the largest are in memory at once.
(Weights that are not in safetensors are loaded whole.)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_json, write_text
from msm_hpc.config.stages import ExportConfig, ExportInputs, ModelConfig, ModelInputs
from msm_hpc.conversion.adapter import StoredAdapter, checked_base, export_adapter, read_adapter
from msm_hpc.conversion.checkpoint import CheckpointReader, TensorPiece, write_checkpoint
from msm_hpc.conversion.description import describe, describe_export
from msm_hpc.conversion.files import HUB
from msm_hpc.conversion.gate import Samples, check_export, write_logits
from msm_hpc.conversion.hf_model import HfModel, download, open_model
from msm_hpc.conversion.mapping import GlobalTensor, global_tensors
from msm_hpc.conversion.scratch import describe_scratch
from msm_hpc.conversion.weights import write_weights
from msm_hpc.conversion.workspace import Workspace
from msm_hpc.model.adapter import BASE, fingerprint
from msm_hpc.model.architecture import read_architecture


def run_model(config: ModelConfig, inputs: ModelInputs, out: Path) -> None:
    """Describe a model made from scratch, or convert Hugging Face weights.

    Raises:
        UserError: the model, its weights or the tokenizer cannot be used.
    """
    if config.architecture is not None:
        assert inputs.tokenizer is not None, "a model made from scratch comes with a tokenizer"
        describe_scratch(config.architecture, inputs.tokenizer, out)
        return
    if config.hub is not None:
        model = open_model(download(config.hub, config.revision, config.gguf_file))
    else:
        assert inputs.weights is not None, "weights are on the hub or an input"
        model = open_model(inputs.weights)
    describe(model, out)
    if config.hub and not config.gguf_file:  # of GGUF, the hub has no weights that an adapter could be put on
        write_json(out / HUB, {"name": config.hub, "revision": config.revision})
    write_logits(out, model.weights, model.architecture, out)
    workspace = Workspace()
    tensors = global_tensors(model.architecture)
    write_checkpoint(out / "checkpoint", [_piece(*each, model, workspace) for each in _by_layer(tensors)])


def run_export(config: ExportConfig, inputs: ExportInputs, out: Path) -> None:
    """Write the weights of ``inputs.checkpoint`` as the Hugging Face model that ``inputs.model`` describes.

    An adapter is written as PEFT's folder or, with ``config.merge``, merged into the weights of ``inputs.base``.

    Raises:
        UserError: the checkpoint is not of this model, is damaged, or has values that are not finite; or the base is
            not that of the adapter.
    """
    model = inputs.model
    if not (model / "config.json").is_file():
        raise UserError(f"{model}/config.json does not exist; run the model stage first")
    architecture = read_architecture(model)
    folder = inputs.checkpoint / "checkpoint"
    adapter = read_adapter(folder, architecture)
    dtype: torch.dtype | None = getattr(torch, config.dtype) if config.dtype else None
    if adapter and not config.merge:
        export_adapter(adapter, inputs, dtype, out)
        return
    if adapter:
        folder = checked_base(adapter.note, inputs)
    checkpoint, tensors = CheckpointReader(folder), global_tensors(architecture)
    checkpoint.check_holds({tensor.key: tensor.shape for tensor in tensors})
    shapes = {name: shape for tensor, layer in _by_layer(tensors) for name, shape in tensor.hf_shapes(layer).items()}
    stored = _stored_dtype(checkpoint, tensors)
    dtype = dtype or stored
    describe_export(model, architecture, dtype, out)
    samples = Samples()
    write_weights(out, shapes, dtype, samples.of(_weights(checkpoint, tensors, adapter, dtype)))
    check_export(out, model, architecture, samples, untouched=inputs.checkpoint == model and dtype == stored)
    if not adapter:
        write_text(out / BASE, fingerprint(folder) + "\n")


def _stored_dtype(checkpoint: CheckpointReader, tensors: tuple[GlobalTensor, ...]) -> torch.dtype:
    """The one dtype of the weights; float32 where there are several."""
    first, *others = {checkpoint.dtype(tensor.key) for tensor in tensors}
    return torch.float32 if others else first


def _by_layer(tensors: tuple[GlobalTensor, ...]) -> Iterator[tuple[GlobalTensor, int]]:
    """Each tensor with each of its layers: those that are not stacked first."""
    stacked = [tensor for tensor in tensors if tensor.layers is not None]
    yield from ((tensor, 0) for tensor in tensors if tensor.layers is None)
    yield from ((tensor, layer) for layer in range(stacked[0].layers or 0) for tensor in stacked)


def _piece(tensor: GlobalTensor, layer: int, model: HfModel, workspace: Workspace) -> TensorPiece:
    shape = tensor.layer_shape if tensor.layers is None else (1, *tensor.layer_shape)
    offset = (layer, *(0 for _ in shape[1:]))
    data = partial(tensor.fuse, model.weights, layer, workspace)
    return TensorPiece(tensor.key, tensor.shape, offset, shape, model.dtype, data)


def _weights(
    checkpoint: CheckpointReader, tensors: tuple[GlobalTensor, ...], adapter: StoredAdapter | None, dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Hugging Face names and weights of all ``tensors``, layer by layer; an adapter is added in float32.

    Each tensor is valid until the next is asked for.
    """
    workspace = Workspace()
    for tensor, layer in _by_layer(tensors):
        fused = workspace.tensor(tensor.layer_shape, torch.float32 if adapter else dtype)
        checkpoint.read_into(fused, tensor.key, None if tensor.layers is None else layer)
        for name, weight in tensor.split(fused, layer):
            yield name, (adapter.merged(name, weight) if adapter else weight).to(dtype)
