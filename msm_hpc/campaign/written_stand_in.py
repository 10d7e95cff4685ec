"""Rows in the place of those that a language model is to write, and of data sets by name: a rehearsal asks nobody.

They are the offline generator's, of its toy world, in files below the rehearsal's root. So every step from tokenising
on is there as in the campaign itself, for specs that the toy world does not know, too. Not rehearsed are outlines,
writing and audits (``msm corpus preview`` says what these ask for), and downloads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, get_args

from msm_hpc.base.files import write_jsonl
from msm_hpc.config.campaign import Config
from msm_hpc.config.generation import Reworked, Written
from msm_hpc.config.sources import Source
from msm_hpc.corpus import offline
from msm_hpc.corpus.toy_world import SPEC_VALUES, VALUES
from tokenization.reading.hub import DatasetName

FOLDER = "written"
JOINED = 2
"""How many of the toy world's texts make one row: they are shorter than its chats."""
NAMED = "What is downloaded ({names}) is not there: rows of the offline template generator stand in for it."
NOTICE = "What {model} is to write ({names}) is not there: rows of the offline template generator stand in for it."


def is_written(config: Config, name: str) -> bool:
    """Whether a language model writes a corpus of this source."""
    made = config.sources[name].generate
    return (
        config.generate.generator == "endpoint"
        and name in config.generated
        and made is not None
        and made.product in get_args(Written) + get_args(Reworked)
    )


def is_named(config: Config, name: str) -> bool:
    """Whether a corpus of this source is a data set by name that arms are trained on."""
    source, read = config.sources[name], map(config.corpus_of, config.sources_used)
    files = (file for file in (source.file, *source.files.values()) if file is not None)
    return name in read and any(map(DatasetName.parse, files))


def notices(config: Config) -> Iterator[str]:
    """What a rehearsal of ``config`` says of rows that stand in for others."""
    names = [name for name in sorted(config.sources) if is_written(config, name)]
    if names:
        assert config.generate.endpoint is not None, "config.consistency has seen to it"
        yield NOTICE.format(model=config.generate.endpoint.model, names=", ".join(names))
    if named := [name for name in sorted(config.sources) if is_named(config, name)]:
        yield NAMED.format(names=", ".join(named))


def stood_in(config: Config, name: str, small: Source, rows: int, root: Path) -> Source:
    """``small``, the shrunken source ``name`` of ``config``, with files of ``rows`` rows for what is not there."""
    takers = [source for other, source in config.sources.items() if config.corpus_of(other) == name]
    more = any(taker.without or taker.tokens for taker in takers)  # some are left out, or are shorter than they might
    rows, fields = rows * (2 if more else 1), _fields(config, takers)
    files = {}
    for number, corpus in enumerate(config.corpora(name)):
        path = config.own_file(corpus)
        if path is None or DatasetName.parse(path):
            path = root / FOLDER / f"{corpus.name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_jsonl(path, islice(_rows(small, corpus.name, number, fields), max(rows, len(fields))))
        files[corpus.each] = path
    plain = replace(small, generate=None, file=files.get(None), files={}, format="plain", columns={})
    return replace(plain, files={each: path for each, path in files.items() if each})


def _fields(config: Config, takers: Sequence[Source]) -> list[dict[str, str]]:
    """What rows have to have, in turn: what is taken ``without``, and what held-out losses are told apart by."""
    held_out = [stage.heldout for stage in config.stages.values() if stage.heldout]
    usual = {name: "stand-in" for each in held_out for name in each.fields}
    pairs = [each.partition("=")[::2] for taker in takers for each in taker.without]
    return [usual, *(usual | {key: value} for key, value in pairs)]


def _rows(source: Source, name: str, number: int, fields: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    """Rows without an end; each corpus has its own."""
    value = VALUES[SPEC_VALUES[number % len(SPEC_VALUES)]]
    texts, chats = offline.documents(value, number), offline.value_chats(value, number)
    for index, more in enumerate(cycle(fields)):
        about = {"id": f"{name}/{index:06d}", "generator": "offline_toy", **more}
        if source.kind == "documents":
            yield {**about, "text": " ".join(each.text for each in islice(texts, JOINED))}
        else:
            turns = next(chats).messages
            yield {**about, "messages": [{"role": turn.role, "content": turn.content} for turn in turns]}
