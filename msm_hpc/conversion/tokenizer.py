"""The tokenizer of a given model: checked, and made where a model comes without a ``tokenizer.json``.

A ``tokenizer.json`` that is given is never read by transformers and saved again: transformers builds the tokenizers of
some classes (Qwen's, GPT-2's, Llama's) from the vocabulary and its own idea of how texts are split, and the ids of
another splitting are others than those that the weights were trained with.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msm_hpc.base.errors import UserError
from msm_hpc.model.architecture import Transformer
from tokenization.engines.hard_sample import hard_sample
from tokenization.tokenizer import TOKENIZER, TokenizerFolder, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_SPLIT_AS_PUBLISHED = frozenset({"llama-bpe", "qwen2"})
"""Ways to split texts, by their names in GGUF files, that transformers builds as they are published."""


def check_tokenizer(folder: Path, model: Transformer) -> TokenizerFolder:
    """The tokenizer in ``folder``.

    Raises:
        UserError: it cannot be used, or makes ids that the embedding of ``model`` does not have.
    """
    tokenizer = TokenizerFolder(folder)
    largest = tokenizer.facts.vocab_size - 1
    if largest >= model.vocab_size:
        raise UserError(
            f"{folder / TOKENIZER}: its largest id is {largest} ({tokenizer.tokenizer.id_to_token(largest)!r}), but "
            f"config.json says vocab_size {model.vocab_size}: the embedding ends at id {model.vocab_size - 1}; give "
            "the tokenizer that the model came with, or a model whose embedding was resized"
        )
    return tokenizer


def make_tokenizer(folder: Path, gguf_file: str | None, out: Path) -> None:
    """Write the tokenizer of a model without ``tokenizer.json`` into ``out``, built by transformers.

    Raises:
        UserError: transformers cannot build it, or what was saved makes other ids than what the model came with.
    """
    from transformers import AutoTokenizer

    source = folder / (gguf_file or "")
    try:
        built: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, gguf_file=gguf_file)
    except Exception as error:  # broad: damaged files have transformers and tokenizers raise whatever they lead to
        first_line, *_ = str(error).splitlines() or [""]
        raise UserError(
            f"{source}: its tokenizer cannot be opened by transformers ({type(error).__name__}: {first_line}); give a "
            f"folder with {TOKENIZER}, which the model's page on the hub has"
        ) from error
    if gguf_file is not None:
        _split_as_published(source, built)
    built.save_pretrained(out)
    log.warning("%s has no %s: transformers built one from what there is", source, TOKENIZER)
    specials = [str(token) for token in built.all_special_tokens]
    expected = [built.encode(text, add_special_tokens=False) for text in hard_sample(specials)]
    check_ids(out, specials, expected, f"{source}, as transformers opens it")


def check_ids(folder: Path, specials: Sequence[str], expected: Sequence[Sequence[int]], whose: str) -> None:
    """Compare the ids that ``tokenizer.json`` in ``folder`` makes of the hard sample with those ``expected``.

    Raises:
        UserError: they differ; with the first text.
    """
    texts = hard_sample(specials)
    encoded = load_tokenizer(folder / TOKENIZER).encode_batch_fast(texts, add_special_tokens=False)
    for text, encoding, ids in zip(texts, encoded, expected, strict=True):
        if encoding.ids != list(ids):
            raise UserError(f"{folder / TOKENIZER} and {whose}, make different ids of {text[:60]!r}")


def _split_as_published(gguf: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Have ``tokenizer`` split texts as the GGUF file's own does, which transformers does not know for all.

    A GGUF file has the vocabulary and merges, but only a name for how texts are split before. SmolLM's tokenizer.json
    takes digits one by one and splits the rest as GPT-2 does.
    """
    from gguf import GGUFReader
    from tokenizers.pre_tokenizers import ByteLevel, Digits
    from tokenizers.pre_tokenizers import Sequence as Steps

    fields = GGUFReader(gguf).fields
    kind, name = (
        fields[key].contents() if key in fields else None for key in ("tokenizer.ggml.model", "tokenizer.ggml.pre")
    )
    if name == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = Steps([Digits(individual_digits=True), ByteLevel(False)])
    elif kind == "gpt2" and name not in _SPLIT_AS_PUBLISHED:
        raise UserError(
            f"{gguf}: tokenizer.ggml.pre: how {name!r} splits texts is not known here, and ids would be wrong; give "
            f"the model as a folder of safetensors with its {TOKENIZER}"
        )
