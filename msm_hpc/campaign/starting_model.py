"""What can be known of the model that a campaign starts from before its step is made, without reading weights."""

from __future__ import annotations

from pathlib import Path

from msm_hpc.architecture import Transformer, read_architecture
from msm_hpc.campaign.graph import weights_folder
from msm_hpc.config import ModelConfig


def starting_model(model: ModelConfig) -> Transformer | None:
    """The model by its ``config.json``; None where that cannot be read yet: on the hub only, or in a GGUF file.

    Raises:
        UserError: it is of no family that can be trained, or has a field that is not supported.
    """
    if model.architecture is not None:
        shape = model.architecture
        # The vocabulary comes from a tokenizer still to be made; its size is padded, and so divides by any layout.
        return Transformer(shape=shape, vocab_size=128, head_dim=shape.hidden_size // shape.num_attention_heads)
    folder = None if model.gguf_file else _folder(model)
    return read_architecture(folder) if folder and (folder / "config.json").is_file() else None


def what_is_missing(model: ModelConfig) -> str | None:
    """What has to be downloaded when the model step is made, and how to do it before."""
    if not model.from_hub or _folder(model) is not None:
        return None
    return (
        f"model.hf={model.hf} is not in this machine's Hugging Face cache: the model step downloads it where it runs, "
        "and until then no layout can be checked. Where nodes have no network, download it first, into a cache that "
        f"they see (HF_HOME): hf download {model.hf} --revision {model.revision}"
    )


def _folder(model: ModelConfig) -> Path | None:
    """Where the model's files lie; None if it is on the hub and not in the cache."""
    if not model.from_hub:
        return weights_folder(model)
    from huggingface_hub import try_to_load_from_cache

    assert model.hf is not None
    found = try_to_load_from_cache(model.hf, "config.json", revision=model.revision)
    return Path(found).parent if isinstance(found, str) else None
