"""What goes with a model's weights: its configuration, its tokenizer, how it generates, its licence.

The model step copies these as they were given, byte for byte, and makes only what a source lacks. An export has the
same files, but for two that it writes so that transformers 4, and what is built on it, reads the model that
transformers 5 reads: ``config.json``, and where it must ``tokenizer_config.json``.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from msm_hpc.base.files import write_json
from msm_hpc.conversion.files import HUB, copy_description
from msm_hpc.conversion.hf_model import HfModel
from msm_hpc.conversion.tokenizer import check_opens, check_tokenizer, make_tokenizer
from msm_hpc.model.architecture import Transformer, config_fields, read_object
from tokenization.chats.template import TemplateRefuses
from tokenization.tokenizer import CONFIG, TOKENIZER, TokenizerFolder

LOGITS = "logits.json"
"""In a model step's output: what the given folder computes (:mod:`msm_hpc.conversion.gate`)."""
GENERATION = "generation_config.json"
FAST_CLASS = "PreTrainedTokenizerFast"
"""The class, by a name that transformers 4 and 5 know, whose tokenizer is ``tokenizer.json`` as it is."""
_CLASSES_OF_5 = frozenset({"TokenizersBackend", "PythonBackend", "SentencePieceBackend"})
_ANSWER = "The answer is here"

log = logging.getLogger(__name__)


def describe(model: HfModel, out: Path) -> None:
    """Write all of ``model`` but its weights into ``out``.

    Raises:
        UserError: its tokenizer cannot be used with it.
    """
    if model.gguf_file is not None:
        write_json(out / "config.json", {**model.fields, "dtype": _name(model.dtype)})
    else:
        copy_description(model.folder, out)
    given = model.folder
    if not (out / TOKENIZER).is_file():
        make_tokenizer(model.folder, model.gguf_file, out)
        given = out
    tokenizer = check_tokenizer(given, model.architecture)
    check_opens(given)
    if not (out / GENERATION).is_file():
        _write_generation(model.fields, tokenizer, out)


def describe_export(model: Path, architecture: Transformer, dtype: torch.dtype, out: Path) -> None:
    """Write what goes with weights of ``dtype`` into ``out``, from the output ``model`` of a model step."""
    shutil.copytree(model, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("checkpoint", LOGITS, HUB))
    names = {"dtype": _name(dtype), "torch_dtype": _name(dtype)}
    # Every field that training used is written, in every spelling: versions differ in their defaults.
    write_json(out / "config.json", {**read_object(model / "config.json"), **config_fields(architecture), **names})
    given = read_object(model / CONFIG)
    fields = dict(given)
    if fields.get("tokenizer_class") in _CLASSES_OF_5:
        fields["tokenizer_class"] = FAST_CLASS
    if isinstance(fields.get("extra_special_tokens"), list):  # transformers 4 fails on a list under this name
        fields["additional_special_tokens"] = fields.pop("extra_special_tokens")
    if fields != given:
        write_json(out / CONFIG, fields)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _write_generation(fields: Mapping[str, Any], tokenizer: TokenizerFolder, out: Path) -> None:
    """Name the end of a turn where ``config.json`` does not: generation would run past it."""
    end_of_turn = _end_of_turn(tokenizer)
    ends = fields.get("eos_token_id")
    known = ends if isinstance(ends, list) else [] if ends is None else [ends]
    if end_of_turn is None or end_of_turn in known:
        return
    others = {name: fields[name] for name in ("bos_token_id", "pad_token_id") if fields.get(name) is not None}
    write_json(out / GENERATION, {**others, "eos_token_id": [*known, end_of_turn]})
    log.warning(
        "the model has no %s, and config.json's eos_token_id, %s, does not name the chat template's end of turn, %d: "
        "one that names both is written",
        GENERATION,
        ends,
        end_of_turn,
    )


def _end_of_turn(tokenizer: TokenizerFolder) -> int | None:
    """The special token that the chat template prints first after an answer; None where it prints none."""
    if tokenizer.template is None:
        return None
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": _ANSWER}]
    try:
        _, _, after = tokenizer.template.print(chat, tools=None).rpartition(_ANSWER)
    except TemplateRefuses:
        return None  # it may take other chats
    ids = tokenizer.tokenizer.encode(after, add_special_tokens=False).ids
    return next((token for token in ids if token in tokenizer.special.values()), None)
