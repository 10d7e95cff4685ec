"""``python -m tokenization``: the tokeniser alone, without a campaign."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np

from tokenization import packing, tokenize
from tokenization.errors import BadInput
from tokenization.manifest import verify
from tokenization.packing import PackConfig, Plan
from tokenization.selection import shard_keys
from tokenization.shards import Shard
from tokenization.tokenize import TokenizeConfig
from tokenization.tokenizer import DocumentTokenizer

EXAMPLE = """\
A corpus is a file of one JSON object a line: a document {"id": "d1", "text": "..."}, or a chat
{"id": "c1", "messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}.
In a document every token is trained on, in a chat the assistant's.

  python -m tokenization run    --corpus data.jsonl --tokenizer DIR --out shards/0
  python -m tokenization pack   --shard chats/0=shards/0 --sequence-length 4096 --samples chats=5000 --out plan
  python -m tokenization verify plan
  python -m tokenization show   shards/0 --tokenizer DIR --document 3
  python -m tokenization show   plan --shard chats/0=shards/0 --tokenizer DIR --row 0

As a Slurm array of 16 tasks, each on its own share of the corpus:

  python -m tokenization run --corpus data.jsonl --tokenizer DIR --task $SLURM_ARRAY_TASK_ID --tasks 16 \\
      --out shards/$SLURM_ARRAY_TASK_ID
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 for input that cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tokenization",
        description="Text and chats to packed Megatron shards.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="{run,pack,verify,show}")

    command = commands.add_parser("run", help="tokenise a corpus, or one array task's share of it, to a shard folder")
    command.add_argument("--corpus", type=Path, required=True, help="data.jsonl, or the folder that holds it")
    command.add_argument("--tokenizer", type=Path, required=True, help="Hugging Face folder with tokenizer.json")
    command.add_argument("--out", type=Path, required=True, help="new folder; it appears when it is complete")
    command.add_argument("--task", type=int, default=0, help="which share, counted from 0")
    command.add_argument("--tasks", type=int, default=1, help="how many shares, far fewer than the corpus has lines")
    command.set_defaults(command=_run)

    command = commands.add_parser("pack", help="plan which documents share a training row")
    _add_shards(command, required=True)
    command.add_argument("--sequence-length", type=int, required=True, help="most tokens in a row")
    command.add_argument("--samples", action="append", default=[], metavar="SOURCE=COUNT", help="default: all")
    command.add_argument("--seed", type=int, default=0, help="chooses the samples and the order of rows")
    command.add_argument("--out", type=Path, required=True, help="new folder; it appears when it is complete")
    command.set_defaults(command=_pack)

    command = commands.add_parser("verify", help="hash the files of a folder again and compare with its manifest")
    command.add_argument("folder", type=Path)
    command.set_defaults(command=_verify)

    command = commands.add_parser("show", help="print one document or row; what is not trained on is dim or in [ ]")
    command.add_argument("folder", type=Path, help="a shard folder with --document, a pack folder with --row")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--document", type=int)
    which.add_argument("--row", type=int)
    _add_shards(command, required=False)
    command.add_argument("--tokenizer", type=Path, required=True)
    command.set_defaults(command=_show)
    return parser


def _add_shards(command: argparse.ArgumentParser, required: bool) -> None:
    command.add_argument(
        "--shard", action="append", default=[], required=required, metavar="SOURCE/INDEX=FOLDER", help="repeat for each"
    )


def _run(options: argparse.Namespace) -> None:
    inputs = {"corpus": options.corpus, "tokenizer": options.tokenizer}
    with _appearing(options.out) as folder:
        tokenize.run(TokenizeConfig(task=options.task, tasks=options.tasks), inputs, folder)


def _pack(options: argparse.Namespace) -> None:
    inputs = _shards(options)
    samples: dict[str, int | None] = dict.fromkeys(shard_keys(inputs))
    for source, count in map(_assignment, options.samples):
        if not count.isdecimal():
            raise BadInput(f"--samples {source}={count}: expected a number; give how many documents, in digits")
        samples[source] = int(count)
    config = PackConfig(
        sequence_length=options.sequence_length, seed=options.seed, samples=tuple(sorted(samples.items()))
    )
    with _appearing(options.out) as folder:
        packing.run(config, inputs, folder)


def _verify(options: argparse.Namespace) -> None:
    print(f"{options.folder}: {verify(options.folder)} files as in the manifest")


def _show(options: argparse.Namespace) -> None:
    tokenizer = DocumentTokenizer(options.tokenizer)
    if options.document is not None:
        shard = Shard(options.folder)
        _check_index("--document", options.document, len(shard))
        _show_span(tokenizer, shard, options.document, slice(None))
        return
    plan, folders = Plan(options.folder), _shards(options)
    _check_index("--row", options.row, len(plan))
    for piece in plan.row(options.row):
        if piece.shard not in folders:
            raise BadInput(f"row {options.row} holds documents of {piece.shard}; give --shard {piece.shard}=FOLDER")
        print(f"-- {piece.shard} document {piece.document}, tokens {piece.start} to {piece.start + piece.length}")
        span = slice(piece.start, piece.start + piece.length)
        _show_span(tokenizer, Shard(folders[piece.shard]), piece.document, span)


def _show_span(tokenizer: DocumentTokenizer, shard: Shard, document: int, span: slice) -> None:
    tokens, mask = shard.tokens(document)[span], shard.loss_mask(document)[span]
    before, after = ("\033[2m", "\033[0m") if sys.stdout.isatty() else ("[", "]")
    for trainable, places in groupby(range(len(mask)), key=lambda place: bool(mask[place])):
        text = tokenizer.decode(tokens[np.fromiter(places, np.int64)])
        print(text if trainable else f"{before}{text}{after}", end="")
    print()


def _shards(options: argparse.Namespace) -> dict[str, Path]:
    return {key: Path(folder) for key, folder in map(_assignment, options.shard)}


def _assignment(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign and value):
        raise BadInput(f"{text!r}: expected NAME=VALUE; put a name before the = and its value after")
    return key, value


def _check_index(option: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise BadInput(f"{option} {index}: there are {count}; give a number from 0 that is less than that")


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that is renamed to it at the end, or removed after an exception."""
    if folder.exists():
        raise BadInput(f"{folder}: exists already; remove it or give another --out")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be made ({error.strerror}); give another --out") from error
    try:
        yield partial
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
