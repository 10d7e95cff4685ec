"""Of each source only as much as fills a few optimizer steps of a rehearsal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from msm_hpc.campaign.external_inputs import rows_of
from msm_hpc.campaign.written_stand_in import is_named, is_written, stood_in
from msm_hpc.config.campaign import Config
from msm_hpc.config.sources import Generate, Source
from msm_hpc.config.training import TrainConfig
from tokenization.reading.hub import DatasetName

STEPS = 2
PAIRS = 8
TOKENS_A_SAMPLE = 16
"""About what a sample of the toy world has; longer samples make more steps."""
FULL_ROW = 256
"""The tokens of a row that samples as short are to fill."""


def reads_own(config: Config) -> bool:
    """Whether any arm is trained on rows of the user's own, which are here and may be long."""
    files = (config.own_file(corpus) for name in config.sources_used for corpus in config.corpora(name))
    return any(file is not None and DatasetName.parse(file) is None for file in files)


def rehearsed_source(name: str, config: Config, root: Path) -> Source:
    """A source in a rehearsal, whose shrunken stages ``config`` has; rows that are not here are written to ``root``."""
    source = _shrunken_source(name, config)
    if not is_written(config, name) and not is_named(config, name):
        return source
    return stood_in(config, name, source, _rows_of(name, config), root)


def _shrunken_source(name: str, config: Config) -> Source:
    """A source of which only so much is made and taken as fills a few optimizer steps of the stages that read it."""
    source, fill = config.sources[name], _fill(name, config)
    if source.kind == "pairs":
        return replace(source, generate=_fewer(source.generate, PAIRS))
    generate = _fewer(source.generate, _rows_of(name, config))
    if source.ladder:
        return replace(source, generate=generate, ladder=_ladder(source.ladder, max(fill // 2, 1)))
    if source.tokens:
        return replace(source, generate=generate, tokens=min(source.tokens, fill * TOKENS_A_SAMPLE))
    rows = source.rows if source.rows is not None else _rows_there(config.owner(name))
    return replace(source, generate=generate, rows=rows if rows is None else min(rows, fill))


def _rows_of(name: str, config: Config) -> int:
    """The rows of a source's corpora that a rehearsal takes in all."""
    takers = [taker for taker in config.sources if config.corpus_of(taker) == name]
    return max([1, *(_rows(taker, config) for taker in takers)])


def _rows(name: str, config: Config) -> int:
    """The rows that a rehearsal takes of a source, or enough for the tokens that it takes."""
    source, fill = config.sources[name], _fill(name, config)
    if source.ladder:
        return max(_ladder(source.ladder, max(fill // 2, 1)))
    return fill if source.rows is None else min(source.rows, fill)


def _fill(name: str, config: Config) -> int:
    """The rows of a source that fill its share of a few optimizer steps, in each stage that reads it."""
    links = {link for arm in config.campaign.arms for link in config.chain(arm)}
    shares = [_samples(config.stages[link.stage]) // len(link.sources) for link in links if name in link.sources]
    return min(shares, default=0)


def _rows_there(owner: Source) -> int | None:
    """The fewest rows of a source's corpora where any is the user's own; None where all are generated."""
    files = [file for file in (owner.file, *owner.files.values()) if file and not DatasetName.parse(file)]
    counts = [rows for file in files if (rows := rows_of(file)) is not None]
    return (
        min([*counts, *([owner.generate.rows] if owner.generate and owner.generate.rows else [])], default=None)
        if files
        else None
    )


def _fewer(generate: Generate | None, rows: int) -> Generate | None:
    return generate and replace(generate, rows=min(generate.rows or rows, rows), tokens=None, of=None)


def _samples(training: TrainConfig) -> int:
    """Samples that fill :data:`STEPS` optimizer steps, where they are as short as those of the toy world."""
    return STEPS * training.global_batch_size * min(training.sequence_length, FULL_ROW) // TOKENS_A_SAMPLE


def _ladder(samples: Sequence[int], rung: int) -> tuple[int, ...]:
    """The first and the last of ``samples`` in their order, as even rungs; none is more than the true one."""
    least, most = min(samples), max(samples)
    rungs = {least: min(least, rung), most: min(most, 2 * rung)}
    return tuple(rungs[count] for count in samples if count in rungs)
