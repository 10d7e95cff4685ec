"""``python -m tokenization``: the tokeniser alone, without a campaign."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

from msm_hpc.base.errors import UserError
from tokenization.appearing import appearing
from tokenization.documents import TurnsTrained
from tokenization.manifest import check_files, read_manifest
from tokenization.reading.formats import Format
from tokenization.reading.rejects import REJECTED

Number = TypeVar("Number", int, float)

# Each command imports its own: those that encode nothing do without the tokenizer's libraries.

EXAMPLE = """\
A corpus is JSON lines (also .gz, .zst), a .json list or Parquet, a folder or a
quoted glob of them, a folder that `datasets` saved, or
hf:NAME[@REVISION][:[SUBSET/]SPLIT]. A row is a document, of which every token
is trained on, or a chat, of which the assistant's turns are:

  {"id": "d1", "text": "..."}
  {"id": "c1", "messages": [{"role": "user", "content": "..."},
                            {"role": "assistant", "content": "..."}]}

"id" names the row; any other fields are kept as its provenance. ShareGPT,
Alpaca, and prompts with completions are read with --format, fields of other
names with --column.

  alias tok='python -m tokenization'
  tok run    --corpus data.jsonl --tokenizer DIR --out shards/0
  tok pack   --shards chats=shards --sequence-length 4096 --tokenizer DIR \\
             --out plan
  tok verify shards/0 plan
  tok show   shards/0 --tokenizer DIR --document 3
  tok show   plan --shards chats=shards --tokenizer DIR --row 0

As a Slurm array of 16 tasks, each on its own share of the corpus:

  tok run --corpus data.jsonl --tokenizer DIR --tasks 16 \\
      --task $SLURM_ARRAY_TASK_ID --out shards/$SLURM_ARRAY_TASK_ID

Parts of sources: 5,000 chats; 8 million tokens of documents; or 20 million
tokens shared 9 to 1:

  tok pack ... --samples chats=5000
  tok pack ... --tokens documents=8000000
  tok pack ... --weight documents=9 --weight replay=1 --total-tokens 20000000
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for input that cannot be used, or 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python would flush at its end
    except OSError as error:
        print(f"error: {error}; look at space and permissions, then run it again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was left behind", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tokenization",
        description="Text and chats to packed Megatron shards.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="{run,pack,verify,show,export-bridge}")
    _add_run(commands.add_parser("run", help="tokenise a corpus, or one array task's share of it, to a shard folder"))
    _add_pack(commands.add_parser("pack", help="plan which documents share a training row"))
    _add_show(commands.add_parser("show", help="print one document or row; what is not trained on is dim or in [ ]"))

    command = commands.add_parser("verify", help="check files against their manifests, and what they hold")
    command.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="shard folders, pack folders")
    command.set_defaults(command=_verify)

    command = commands.add_parser("export-bridge", help="write a plan's rows as Megatron-Bridge's packed Parquet")
    command.add_argument("plan", type=Path, help="pack folder")
    _add_shards(command, required=True)
    command.add_argument("--out", type=Path, required=True, help="new folder; it appears when it is complete")
    command.set_defaults(command=_export_bridge)
    return parser


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("--corpus", type=Path, required=True, help="file, folder, 'glob' or hf:NAME")
    command.add_argument(
        "--tokenizer", type=Path, required=True, metavar="DIR", help="Hugging Face folder with tokenizer.json"
    )
    command.add_argument("--out", type=Path, required=True, help="new folder; it appears when it is complete")
    command.add_argument(
        "--format",
        choices=get_args(Format),
        default="plain",
        metavar="NAME",
        help=f"how rows are written: {', '.join(get_args(Format))}; default: plain, as above",
    )
    command.add_argument(
        "--column", action="append", default=[], metavar="FIELD=NAME", help="a field of the format by another name"
    )
    command.add_argument("--task", type=int, default=0, metavar="K", help="which share, counted from 0")
    command.add_argument("--tasks", type=int, default=1, metavar="N", help="how many shares")
    command.add_argument("--cot", choices=("train", "mask"), default="train", help="<think> blocks; default: train")
    command.add_argument(
        "--turns",
        choices=get_args(TurnsTrained),
        default="as_printed",
        help="each_by_its_prefix makes each turn of the assistant the last one of a chat of its own, for templates "
        "that print earlier turns in another way (Qwen3); default: as_printed",
    )
    command.add_argument(
        "--special-text", action="store_true", help="text such as <|im_end|> in a document becomes the special token"
    )
    command.add_argument(
        "--on-bad", choices=("stop", "skip"), default="stop", help="a row that cannot be used; default: stop"
    )
    command.add_argument(
        "--max-bad",
        type=float,
        default=0.001,
        metavar="SHARE",
        help="with skip: share of rows past which to stop, one is always allowed; default: 0.001",
    )
    command.set_defaults(command=_run)


def _add_pack(command: argparse.ArgumentParser) -> None:
    _add_shards(command, required=True)
    command.add_argument("--sequence-length", type=int, required=True, metavar="N", help="most tokens in a row")
    command.add_argument(
        "--tokenizer", type=Path, metavar="DIR", help="to cut texts longer than a row where a sentence ends"
    )
    for option, what, help_ in (
        ("--samples", "COUNT", "so many documents of a source; default: all"),
        ("--tokens", "COUNT", "so many tokens of a source"),
        ("--weight", "SHARE", "its share of --total-tokens"),
    ):
        command.add_argument(option, action="append", default=[], metavar=f"SOURCE={what}", help=help_)
    command.add_argument("--total-tokens", type=int, metavar="N", help="what the sources with --weight share")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the samples and the order of rows")
    command.add_argument("--out", type=Path, required=True, help="new folder; it appears when it is complete")
    command.set_defaults(command=_pack)


def _add_show(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, help="a shard folder with --document, a pack folder with --row")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--document", type=int, metavar="I")
    which.add_argument("--row", type=int, metavar="I")
    _add_shards(command, required=False)
    command.add_argument("--tokenizer", type=Path, required=True, metavar="DIR", help="what the shards were made with")
    command.set_defaults(command=_show)


def _add_shards(command: argparse.ArgumentParser, required: bool) -> None:
    command.add_argument(
        "--shards",
        action="append",
        default=[],
        required=required,
        metavar="SOURCE=FOLDER",
        help="SOURCE is your name for a corpus, FOLDER its shard or the folder of its tasks' shards 0, 1, ...; "
        "repeat for each source",
    )


def _run(options: argparse.Namespace) -> None:
    from tokenization import tokenize
    from tokenization.tokenize import TokenizeConfig, TokenizeInputs

    config = TokenizeConfig(
        task=options.task,
        tasks=options.tasks,
        format=options.format,
        columns=_assignments("--column", options.column),
        cot=options.cot,
        turns=options.turns,
        special_text=options.special_text,
        on_bad=options.on_bad,
        max_bad=options.max_bad,
    )
    inputs = TokenizeInputs(corpus=options.corpus, tokenizer=options.tokenizer)
    with appearing(options.out) as folder, _progress_bar() as progress:
        tokenize.run(config, inputs, folder, progress)
    _summarise(options.out, read_manifest(options.out), options.tokenizer)


def _summarise(out: Path, made: Mapping[str, Any], tokenizer: Path) -> None:
    if made["unknown_tokens"]:
        print(
            f"warning: {made['unknown_tokens']:,} of {made['tokens']:,} tokens are words unknown to {tokenizer}, "
            "and lost",
            file=sys.stderr,
        )
    turns, trained, rejected = made["assistant_turns"], made["trained_turns"], sum(made["rejected"].values())
    if trained < turns:
        print(
            f"warning: {turns - trained:,} of {turns:,} turns of the assistant are not trained on: the chat template "
            "prints them in another way once later turns follow; --turns each_by_its_prefix trains each",
            file=sys.stderr,
        )
    chats = "turns of chats" if made["turns"] == "each_by_its_prefix" else "chats"
    counted = f"{made['documents']:,} documents and {made['chats']:,} {chats}"
    print(f"{out}: {counted} of {made['rows']:,} rows by {made['engine']['name']}")
    print(f"  {made['tokens']:,} tokens, {made['trainable_tokens']:,} of them trained on")
    if turns:
        print(f"  {trained:,} of {turns:,} turns of the assistant are trained on")
    if rejected:
        print(f"  {rejected:,} rows were skipped; {out / REJECTED} lists them")


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None] | None]:
    """On a terminal, how much of the share is done; in a log, nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("tokenising", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _pack(options: argparse.Namespace) -> None:
    from tokenization.packing import pack
    from tokenization.packing.pack import PackConfig, PackInputs
    from tokenization.packing.selection import Take
    from tokenization.shards import shards_by_key

    shards = _shards(options)
    samples, tokens = _numbers("--samples", options.samples, int), _numbers("--tokens", options.tokens, int)
    weights = _numbers("--weight", options.weight, float)
    sources = sorted({*shards, *samples, *tokens, *weights})
    takes = (Take(source=s, samples=samples.get(s), tokens=tokens.get(s), weight=weights.get(s)) for s in sources)
    config = PackConfig(
        sequence_length=options.sequence_length, seed=options.seed, sources=tuple(takes), tokens=options.total_tokens
    )
    _check_hashes(shards_by_key(shards).values())
    with appearing(options.out) as folder:
        pack.run(config, PackInputs(shards=shards, tokenizer=options.tokenizer), folder)
    made = read_manifest(options.out)
    split = sum(source["split"] for source in made["sources"].values())
    dropped = sum(source["dropped"]["documents"] for source in made["sources"].values())
    print(
        f"{options.out}: {made['rows']:,} rows of {made['sequence_length']:,}, {made['tokens']:,} tokens, "
        f"{made['waste']:.3%} padding\n  {split:,} long texts split, {dropped:,} long chats dropped"
    )


def _numbers(option: str, texts: Sequence[str], kind: Callable[[str], Number]) -> dict[str, Number]:
    numbers: dict[str, Number] = {}
    for source, number in _assignments(option, texts).items():
        try:
            numbers[source] = kind(number)
        except ValueError as error:
            raise UserError(f"{option} {source}={number}: expected a number; write it in digits") from error
    return numbers


def _verify(options: argparse.Namespace) -> None:
    from tokenization.verify import verify

    found = verify(options.folders)
    print(f"{found.files} files as in their manifests")
    for corpus in found.corpora:
        counts = f"{corpus.documents:,} documents, {corpus.tokens:,} tokens, {corpus.trainable_tokens:,} trained on"
        tasks = ", ".join(map(str, corpus.missing))
        print(f"{corpus.corpus}: {counts}")
        print(f"  not all of it: tasks {tasks} are missing" if tasks else f"  content sha256 {corpus.sha256}")
    if short := [corpus.corpus for corpus in found.corpora if corpus.missing]:
        raise UserError(f"{', '.join(short)}: tasks are missing; give the shards of all tasks, or make those again")


def _show(options: argparse.Namespace) -> None:
    from tokenization.show import show_document, show_row
    from tokenization.tokenizer import TokenizerFolder

    tokenizer = TokenizerFolder(options.tokenizer)
    if options.document is not None:
        show_document(tokenizer, options.folder, options.document)
    else:
        show_row(tokenizer, options.folder, options.row, _shards(options))


def _export_bridge(options: argparse.Namespace) -> None:
    from tokenization import bridge
    from tokenization.shards import shards_by_key

    shards = _shards(options)
    _check_hashes([options.plan, *shards_by_key(shards).values()])
    with appearing(options.out) as folder:
        bridge.export(options.plan, shards, folder)
    print(f"{options.out}: written")


def _shards(options: argparse.Namespace) -> dict[str, Path]:
    return {source: Path(folder) for source, folder in _assignments("--shards", options.shards).items()}


_EXAMPLES = {
    "--column": "text=body",
    "--shards": "docs=shards",
    "--samples": "docs=5000",
    "--tokens": "docs=8000000",
    "--weight": "docs=9",
}


def _assignments(option: str, texts: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not (key and sign and value):
            raise UserError(f"{option} {text}: expected NAME=VALUE, such as {_EXAMPLES[option]}")
        if key in given:
            raise UserError(f"{option} {key}: given twice; give it once")
        given[key] = value
    return given


def _check_hashes(folders: Iterable[Path]) -> None:
    """In a campaign this is done for every step by who runs it."""
    for folder in folders:
        check_files(folder)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # else a thread a core, which spins; no matrix is multiplied
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Slurm's; then we clean up as after Ctrl-C
    sys.exit(main())
