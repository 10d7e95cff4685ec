"""What can be known of the model that a campaign starts from before its step is made, without reading weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.external_inputs import weights_folder
from msm_hpc.config.campaign import Config
from msm_hpc.config.stages import ModelConfig
from msm_hpc.conversion.tokenizer import check_tokenizer
from msm_hpc.model.architecture import Transformer, parse_architecture, read_architecture, read_object
from tokenization.tokenizer import TOKENIZER


def starting_model(model: ModelConfig) -> Transformer | None:
    """The model by its ``config.json``, or before that can be read by ``model.shape``; None where neither is there.

    Raises:
        UserError: it is of no family that can be trained, has a field that is not supported, or ``config.json`` and
            ``model.shape`` differ.
    """
    if model.architecture is not None:
        shape = model.architecture
        # The vocabulary comes from a tokenizer still to be made; its size is padded, and so divides by any layout.
        return Transformer(shape=shape, vocab_size=128, head_dim=shape.hidden_size // shape.num_attention_heads)
    published = None if model.shape is None else parse_architecture("model.shape", model.shape)
    folder = given_folder(model)
    if folder is None or not (folder / "config.json").is_file():
        return published
    try:
        found = read_architecture(folder)
    except UserError as error:
        raise UserError(f"model {model.name}: {error}") from error
    if published is not None and published != found:
        differs = "; ".join(_differences(published, found))
        raise UserError(
            f"{folder}/config.json is not the model of model.shape ({model.name}): {differs}. Correct model.shape, or "
            "give model.shape=null to go by config.json"
        )
    return found


def stored_weight_size(model: ModelConfig) -> int:
    """Bytes of each weight that the model step keeps: as many as are stored; of GGUF, which transformers reads, 4.

    Before the weights are here it is by the ``dtype`` of ``config.json`` or ``model.shape``; most on the hub have 2.
    """
    if model.gguf_file is not None:
        return 4
    folder, fields = given_folder(model), model.shape or {}
    if folder is not None and (stored := _stored_dtype(folder)) is not None:
        return 4 if stored == "F32" else 2
    if folder is not None and (folder / "config.json").is_file():
        fields = read_object(folder / "config.json")
    return 4 if "float32" in (fields.get("dtype"), fields.get("torch_dtype")) else 2


def _stored_dtype(folder: Path) -> str | None:
    """The dtype of the first weight in the safetensors files, all being of one; None where there are none to read."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="np") as opened:
                names = (name for name in opened.keys() if not name.endswith("inv_freq"))  # noqa: SIM118 (no mapping)
                if (name := next(names, None)) is not None:
                    return str(opened.get_slice(name).get_dtype())
        except (OSError, SafetensorError):  # the model step says what is wrong with it
            continue
    return None


def check_starting_tokenizer(model: ModelConfig) -> None:
    """Check the tokenizer in the folder that was given, where that is on this machine and has one.

    Raises:
        UserError: it cannot be used, or makes ids that the model does not have.
    """
    folder = given_folder(model)
    if folder is not None and (folder / TOKENIZER).is_file() and (folder / "config.json").is_file():
        check_tokenizer(folder, read_architecture(folder))


def given_folder(model: ModelConfig) -> Path | None:
    """The Hugging Face folder that was given, or that the hub's cache has; None for GGUF, and where there is none.

    That a folder is gone is for its step to say, if that is still to be made (``external_inputs.py``).
    """
    if model.architecture is not None or model.gguf_file is not None:
        return None
    try:
        return _folder(model)
    except UserError:
        return None


def what_is_missing(models: Iterable[ModelConfig]) -> str | None:
    """What has to be downloaded when model steps are made, and how to do it before."""
    missing = [model for model in models if model.hub is not None and _folder(model) is None]
    if not missing:
        return None
    names = ", ".join(str(model.hub) for model in missing)
    commands = (f"\n  `hf download {model.hub} --revision {model.revision}`" for model in missing)
    return (
        f"{names}: not in this machine's Hugging Face cache, so that each model step downloads its own where it runs. "
        f"Where nodes have no network, download first, into a cache that they see (HF_HOME):{''.join(commands)}"
    )


def recipe_note(config: Config) -> str | None:
    """What to say where weights are trained by a recipe for a toy model."""
    if not config.campaign.toy_recipe or config.model.architecture is not None:
        return None
    stages = {name: config.stages[name] for name in config.stages_used}
    shown = ", ".join(
        f"{name}: learning rate {stage.learning_rate:g}, {stage.global_batch_size} x {stage.sequence_length} tokens"
        for name, stage in stages.items()
    )
    return (
        f"campaign={config.campaign.name} has a recipe for its toy model ({shown}), and the model is "
        f"{config.model.name}; campaign=own has the paper's"
    )


def _differences(published: Any, found: Any) -> Iterator[str]:
    """``field: published, found`` for each field, at any depth, in which two equal dataclasses differ."""
    for item in fields(published):
        ours, theirs = getattr(published, item.name), getattr(found, item.name)
        if is_dataclass(ours):
            yield from _differences(ours, theirs)
        elif ours != theirs:
            yield f"{item.name} is {ours} in model.shape and {theirs} in config.json"


def _folder(model: ModelConfig) -> Path | None:
    """Where the model's files lie; None if it is on the hub and not in the cache."""
    if model.hub is None:
        return weights_folder(model)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.hub, "config.json", revision=model.revision)
    return Path(found).parent if isinstance(found, str) else None
