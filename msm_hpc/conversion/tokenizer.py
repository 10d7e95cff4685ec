"""The tokenizer of a given model: checked, and made where a model comes without a ``tokenizer.json``.

A ``tokenizer.json`` that is given is never read by transformers and saved again: transformers builds the tokenizers of
some classes (Qwen's, GPT-2's, Llama's) from the vocabulary and its own idea of how texts are split, and the ids of
another splitting are others than those that the weights were trained with.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msm_hpc.base.errors import UserError
from msm_hpc.model.architecture import Transformer
from tokenization.engines.hard_sample import hard_sample
from tokenization.tokenizer import CONFIG, TOKENIZER, TokenizerFolder, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

FIX = f"give the model with a {CONFIG} that AutoTokenizer opens, as the model's page on the hub has"

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
    source = folder / (gguf_file or "")
    spm = folder / "tokenizer.model"
    from_spm = gguf_file is None and spm.is_file()
    if from_spm and find_spec("sentencepiece") is None:
        raise UserError(
            f"{spm} comes without a {TOKENIZER}; give that too, from the model's page on the hub, or run: pip install "
            "sentencepiece"
        )
    built = open_tokenizer(folder, f"give a folder with {TOKENIZER}, which the model's page on the hub has", gguf_file)
    texts = hard_sample([])
    if gguf_file is not None:
        _split_as_published(source, built)
    elif from_spm:
        _space_as_published(built)
    built.save_pretrained(out)
    log.warning("%s has no %s: transformers built one from what there is", source, TOKENIZER)
    if from_spm:
        _check_ids(out, texts, _sentencepiece(spm, texts), str(spm))
    else:
        expected = [built.encode(text, add_special_tokens=False) for text in texts]
        _check_ids(out, texts, expected, f"{source}, as transformers opens it,")


def check_opens(folder: Path) -> None:
    """Check that transformers opens the tokenizer by the class that it names, or by the plain one.

    Raises:
        UserError: it opens it by neither.
    """
    with suppress(UserError):
        open_tokenizer(folder, FIX)
        return
    open_tokenizer(folder, FIX, plain=True)


def open_tokenizer(
    folder: Path, fix: str, gguf_file: str | None = None, plain: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer as transformers opens it; by the ``plain`` class, or the one that it names.

    Raises:
        UserError: transformers cannot open it; with ``fix``.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast, __version__

    kind: Any = PreTrainedTokenizerFast if plain else AutoTokenizer
    try:
        opened: PreTrainedTokenizerBase = kind.from_pretrained(folder, gguf_file=gguf_file, local_files_only=True)
    except Exception as error:  # broad: damaged files have transformers and tokenizers raise whatever they lead to
        first_line, *_ = str(error).splitlines() or [""]
        raise UserError(
            f"{folder / (gguf_file or '')}: its tokenizer cannot be opened by transformers {__version__} "
            f"({type(error).__name__}: {first_line}); {fix}"
        ) from error
    return opened


def _check_ids(out: Path, texts: Sequence[str], expected: Sequence[Sequence[int]], whose: str) -> None:
    encoded = load_tokenizer(out / TOKENIZER).encode_batch_fast(texts, add_special_tokens=False)
    for text, encoding, ids in zip(texts, encoded, expected, strict=True):
        if encoding.ids != list(ids):
            raise UserError(
                f"{whose} makes other ids of {text[:60]!r} than the {TOKENIZER} that transformers builds from it; give "
                f"the {TOKENIZER} that the model's page on the hub has"
            )


def _sentencepiece(model: Path, texts: Sequence[str]) -> list[list[int]]:
    from sentencepiece import SentencePieceProcessor  # transformers has opened the model with it

    ids: list[list[int]] = SentencePieceProcessor(model_file=str(model)).encode(texts)
    return ids


def _space_as_published(tokenizer: PreTrainedTokenizerBase) -> None:
    """A space before every text, as sentencepiece has it and Llama 2's ``tokenizer.json``.

    Transformers puts none before a text that begins with one.
    """
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.backend_tokenizer.pre_tokenizer = None


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
