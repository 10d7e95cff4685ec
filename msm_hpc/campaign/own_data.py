"""Corpora of the user's own (``data.*``), read to their end before anything is queued.

A row that cannot be used would stop its tokenise task, an hour later and in another window: every file is read here
once, as that task will read it, and all that is wrong is told with file, line and field.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path

from msm_hpc.config.campaign import Config
from msm_hpc.errors import UserError
from msm_hpc.evals.pairs import read_pairs
from tokenization.errors import BadInput
from tokenization.reading.corpus import Corpus
from tokenization.reading.rows import BadRow, Chat

MOST_TOLD = 5
"""Bad rows of one file that are told one by one."""


def check_own_data(config: Config) -> None:
    """Read every file of ``config.data``.

    Raises:
        UserError: a row cannot be used, is of another kind than its source holds, or there are fewer than are asked
            for; a line for each.
    """
    corpora = config.data.corpora.items()
    problems = [*chain.from_iterable(_corpus(source, file, config) for source, file in corpora)]
    problems += chain.from_iterable(_pairs(value, file) for value, file in config.data.pairs.items())
    if problems:
        raise UserError("\n".join(problems))


def _corpus(source: str, file: Path, config: Config) -> Iterator[str]:
    rows, bad = 0, []
    chats = source in ("chats", "instruction")
    try:
        for row in chain.from_iterable(Corpus.open(file).share(0, 1).batches()):
            rows += 1
            if isinstance(row, BadRow):
                bad.append(str(row))
            elif chats and not isinstance(row, Chat):
                bad.append(f"{row.place}: text: data.{source} holds chats; give the row messages in its place")
    except BadInput as error:
        yield str(error)
        return
    key, count = asked(source.partition("-")[0], config)
    if rows < count:
        yield f"data: {source}: {file} has {rows} rows, but {key} asks for {count}; lower it to {rows} or less"
    if config.tokenize.on_bad == "stop":
        yield from islice(bad, MOST_TOLD)
        if len(bad) > MOST_TOLD:
            yield f"{file}: {len(bad) - MOST_TOLD} more rows cannot be used; mend them, or set tokenize.on_bad=skip"


def asked(corpus: str, config: Config) -> tuple[str, int]:
    """The setting that says how many rows of a corpus the campaign trains on, and how many that are."""
    if corpus == "instruction":
        return "aft.instruction", config.aft.instruction
    if corpus == "chats":
        return "aft.samples", max(config.aft.samples)
    if corpus == "documents":
        by_tokens = config.midtrain.tokens is not None
        return ("midtrain.tokens", 1) if by_tokens else ("midtrain.documents", config.midtrain.documents)
    assert corpus == "pretraining"
    base = config.generate.pretraining if config.pretrain else 0
    return max(("midtrain.replay", config.midtrain.replay), ("generate.pretraining", base), key=itemgetter(1))


def _pairs(value: str, file: Path) -> Iterator[str]:
    try:
        for number, pair in enumerate(read_pairs(file), start=1):
            if pair.value != value:
                yield f"{file}:{number}: value: is {pair.value!r}, in the pairs of {value!r}; make the two agree"
    except UserError as error:
        yield str(error)
