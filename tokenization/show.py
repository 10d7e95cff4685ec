"""``show``: documents and packed rows as text; what a model is trained on looks different from what it only reads."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import cycle, groupby
from pathlib import Path

import numpy as np

from msm_hpc.base.errors import UserError
from tokenization.documents import read_document, tokenizer_of
from tokenization.packing.plan import Plan
from tokenization.shards import Shard
from tokenization.tokenizer import TokenizerFolder

DIM, RESET = "\033[2m", "\033[0m"
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
COLOURS = ("\033[36m", "\033[33m", "\033[32m", "\033[35m")


def show_document(tokenizer: TokenizerFolder, folder: Path, document: int) -> None:
    """Print one document of a shard folder.

    Raises:
        UserError: there is no such document, or the shard was made with another tokenizer.
    """
    shard = Shard.open(folder)
    _check_tokenizer(tokenizer, tokenizer_of(folder).tokenizer_sha256, folder)
    _check_index("--document", document, len(shard))
    _show(tokenizer, shard, folder, str(folder), document, slice(0, int(shard.lengths[document])), COLOURS[0])


def show_row(tokenizer: TokenizerFolder, folder: Path, row: int, sources: Mapping[str, Path]) -> None:
    """Print one row of a pack folder, document by document; ``sources`` are the folders of its sources.

    Raises:
        UserError: there is no such row, a shard is missing or another one, or the tokenizer is another one.
    """
    plan = Plan(folder)
    _check_tokenizer(tokenizer, plan.tokenizer_sha256, folder)
    _check_index("--row", row, len(plan))
    folders, shards, pieces = plan.folders(sources), plan.open_shards(sources), plan.row(row)
    for piece, colour in zip(pieces, cycle(COLOURS)):
        span = slice(piece.start, piece.start + piece.length)
        shard = shards[piece.shard]
        _show(tokenizer, shard, folders[piece.shard], piece.shard, piece.document, span, colour)
    padding = plan.sequence_length - sum(piece.length for piece in pieces)
    print(f"-- {padding} of {plan.sequence_length} tokens are padding")


def _show(
    tokenizer: TokenizerFolder, shard: Shard, folder: Path, name: str, document: int, span: slice, colour: str
) -> None:
    """A heading with the document's provenance, and its text; what is not trained on is dim, or in [ ]."""
    record = read_document(folder, document)
    fields = "".join(f", {key}={value!r}" for key, value in record.provenance.items())
    tokens_shown = f"tokens {span.start}-{span.stop} of {shard.lengths[document]}"
    print(f"-- {name} document {document}: {record.kind} {_printable(record.id)}, {tokens_shown}{fields}")
    tokens, mask = shard.tokens(document)[span], shard.loss_mask(document)[span]
    on_screen = sys.stdout.isatty()
    for trainable, places in groupby(range(len(mask)), key=lambda place: bool(mask[place])):
        text = _printable(tokenizer.decode(tokens[np.fromiter(places, np.int64)]))
        if on_screen:
            text = f"{colour}{'' if trainable else DIM}{text}{RESET}"
        elif not trainable:
            text = f"[{text}]"
        print(text, end="")
    print()


def _printable(text: str) -> str:
    """Without the characters that would steer a terminal."""
    return text.translate(_ESCAPES)


def _check_tokenizer(tokenizer: TokenizerFolder, expected: str, folder: Path) -> None:
    if tokenizer.facts.tokenizer_sha256 != expected:
        raise UserError(f"{tokenizer.path}: not the tokenizer that {folder} was made with; give that one")


def _check_index(option: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise UserError(f"{option} {index}: there are {count}; give a number from 0 that is less than that")
