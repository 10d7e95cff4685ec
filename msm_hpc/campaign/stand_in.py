"""The small model that stands in for a large one in a rehearsal: of its family, with random weights and a tokenizer.

It is as small as its layouts let it be: ``tensor_parallel=4`` needs four key-value heads, and two pipeline stages of
two chunks each need four layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_jsonl
from msm_hpc.campaign.external_inputs import weights_folder
from msm_hpc.config.stages import ModelConfig
from msm_hpc.config.training import TrainConfig
from msm_hpc.corpus.offline import vocabulary
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.precision import RECIPES
from tokenization import train

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VOCABULARY = 4096
"""Tokens of the tokenizer that stands in for one that is not here."""
OFTEN = 20
"""The words of the toy world are counted so often, so that each has a code."""
HEAD_DIM = 16
"""Of each head; a multiple of what FP8 needs (``model/precision.py``), so that every matrix's sides are."""


@dataclass(frozen=True)
class StandIn:
    """``own_tokenizer``: whether its tokenizer is the true model's, which may not be on this machine."""

    config: ModelConfig
    model: Transformer
    own_tokenizer: bool


def shrunken(model: Transformer, trainings: Sequence[TrainConfig]) -> Transformer:
    """The least model of the same family that the layouts of all ``trainings`` divide.

    Heads share keys and values where the true ones do, and the width is that of all heads where the true one is.
    """
    layouts = [training.layout for training in trainings]
    tensor = math.lcm(*(layout.tensor_parallel for layout in layouts))
    chunks = math.lcm(*(layout.pipeline_parallel * layout.virtual_pipeline for layout in layouts))
    least = 3 if any(RECIPES[each.precision].first_last_layers_bf16 for each in trainings) else 2
    shape = model.shape
    groups = max(tensor, 2)
    heads = groups * (2 if shape.num_attention_heads > shape.num_key_value_heads else 1)
    square = shape.hidden_size == shape.num_attention_heads * model.head_dim
    width = heads * HEAD_DIM
    small = replace(
        shape,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=chunks * -(-least // chunks),
        num_attention_heads=heads,
        num_key_value_heads=groups,
    )
    return replace(model, shape=small, head_dim=HEAD_DIM if square else 2 * HEAD_DIM)


def drawn(config: ModelConfig, small: Transformer, root: Path, texts: Sequence[Path]) -> StandIn:
    """Weights for ``small``, drawn below ``root``, with the tokenizer of the true model ``config`` where that is here.

    One that stands in for it has short codes for what is in ``texts``, so that they fit into a model's context.

    Raises:
        UserError: the true model's folder has no tokenizer that can be opened.
    """
    from msm_hpc.conversion.random_model import random_model

    own = _own_tokenizer(config)
    tokenizer = own or _of_bytes(root / "tokenizer", texts)
    if own is None:
        small = replace(small, vocab_size=len(tokenizer))
    folder = random_model(small, tokenizer, root.resolve() / "models")
    return StandIn(ModelConfig(name=f"{config.name}_rehearsal", folder=folder), small, own is not None)


def _own_tokenizer(model: ModelConfig) -> PreTrainedTokenizerBase | None:
    """The true model's tokenizer; None where that is on a hub and was not downloaded."""
    from transformers import AutoTokenizer

    place = model.hub or weights_folder(model)
    try:
        return AutoTokenizer.from_pretrained(
            place, revision=model.revision, gguf_file=model.gguf_file, local_files_only=True
        )
    except Exception as error:  # broad: damaged files have transformers and tokenizers raise whatever they lead to
        if model.hub is not None and isinstance(error, OSError):
            return None
        first_line, *_ = str(error).splitlines() or [""]
        cause = f"{type(error).__name__}: {first_line}"
        raise UserError(
            f"model {model.name}: its tokenizer cannot be opened ({cause}): a file of it (tokenizer.json, "
            f"tokenizer_config.json) in {place} is missing or damaged; copy or download it again"
        ) from error


def _of_bytes(folder: Path, texts: Sequence[Path]) -> PreTrainedTokenizerBase:
    """A tokenizer that knows every text, with short codes for ``texts`` and the toy world's words, in ``folder``."""
    from transformers import AutoTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    words = folder / "words.jsonl"
    toy = [" ".join(vocabulary())] * OFTEN
    write_jsonl(words, [{"text": text} for text in (*toy, *(file.read_text() for file in texts))])
    train.run(train.TokenizerConfig(vocabulary=VOCABULARY), train.TokenizerInputs(corpora={"words": words}), folder)
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
