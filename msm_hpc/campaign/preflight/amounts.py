"""How much of the user's own corpora is trained on, and whether that fills batches; by the tokens of a sample.

The rows that they pack into are also what ``msm plan`` forecasts a training's steps and hours from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.preflight.own_data import OwnData, OwnTraining, own_trainings
from msm_hpc.campaign.preflight.tokenized import DOUBT_OF_SAMPLE, Sampled, Tokenized
from msm_hpc.config.arms import Stage
from msm_hpc.config.campaign import Config
from msm_hpc.config.sources import Corpus
from msm_hpc.graph.trainings import packing
from tokenization.packing.forecast import row_count
from tokenization.packing.pack import PackConfig


@dataclass(frozen=True)
class _Taken:
    """Tokens of the sequences that are taken of one corpus, and the factor by which they may be wrong."""

    lengths: NDArray[np.int32]
    doubt: float


@dataclass(frozen=True)
class Amounts:
    """Of the trainings whose sources are all known here.

    ``packed`` has the rows that each packs into, by what is packed, of seed 0; ``problems`` a line for each whose rows
    are too few for what is asked of them.
    """

    packed: Mapping[PackConfig, int]
    problems: tuple[str, ...]


def amounts(config: Config, own: OwnData, tokens: Tokenized) -> Amounts:
    """Forecast the packed rows of each training, and look whether they fill a batch."""
    packed, problems = dict[PackConfig, int](), list[str]()
    for training in own_trainings(config):
        stage, parts = config.stages[training.stage], dict(zip(training.sources, training.corpora, strict=True))
        known = all(corpus in tokens.corpora for corpus in training.corpora)
        for size in _sizes(config, training):
            asked = packing(config, training.stage, parts, size, seed=0)
            if not known:
                expected = [_expected(config, name, size) for name in parts]
                if None not in expected:
                    packed[asked] = -(-sum(filter(None, expected)) // stage.sequence_length)
                continue
            try:
                taken = [_take(config, name, corpus, size, own, tokens, stage) for name, corpus in parts.items()]
            except UserError as error:
                problems.append(str(error))
                continue
            packed[asked] = row_count(np.concatenate([part.lengths for part in taken]), stage.sequence_length)
            files = ", ".join(str(own.corpora[corpus].file) for corpus in training.corpora)
            problems += _fills(training, stage, packed[asked], max(part.doubt for part in taken), size, files)
    return Amounts(packed, tuple(problems))


def _expected(config: Config, name: str, size: int | None) -> int | None:
    """The tokens that a source is said to give, before its rows are here; None where nothing says so."""
    source, owner = config.sources[name], config.owner(name)
    a_row, made = source.tokens_a_row or owner.tokens_a_row, owner.generate
    rows = size if source.ladder else source.rows
    if source.tokens is None and rows is None and made is not None:
        return made.tokens or (made.rows * a_row if made.rows and a_row else None)
    return source.tokens or (rows * a_row if rows and a_row else None)


def amount_notes(config: Config, own: OwnData, tokens: Tokenized) -> Iterator[str]:
    """A line for each part of the user's rows that is not trained on."""
    for training in own_trainings(config):
        for name, corpus in zip(training.sources, training.corpora, strict=True):
            if corpus in own.corpora:
                yield from _left_out(config, name, corpus, own)
            if (sampled := tokens.corpora.get(corpus)) is not None:
                yield from _not_learned(config, training, corpus, sampled, own)


def _left_out(config: Config, name: str, corpus: Corpus, own: OwnData) -> Iterator[str]:
    source, reading = config.sources[name], own.corpora[corpus]
    there = reading.usable - reading.left_out[source.without]
    if source.without:
        left = f"{there:,} of the {reading.usable:,} {reading.unit} of {reading.file}"
        yield f"sources.{name}: {left} are without {', '.join(source.without)}"
    if source.tokens is not None:
        yield f"sources.{name}: {source.tokens:,} tokens are taken of {reading.file} (sources.{name}.tokens)"
    elif source.most_rows is not None and source.most_rows < there:
        sizes = ", ".join(f"{size:,}" for size in source.ladder or (source.most_rows,))
        key = f"sources.{name}.{'ladder' if source.ladder else 'rows'}"
        of = f"{there:,} {reading.unit} {'in' if reading.by_turn else 'of'} {reading.file}"
        yield f"sources.{name}: {sizes} of the {of} are taken ({key}; null takes all)"
    if reading.bad:
        yield f"{corpus.key}: {len(reading.bad):,} rows of {reading.file} are skipped (tokenize.on_bad=skip)"


def _not_learned(
    config: Config, training: OwnTraining, corpus: Corpus, sampled: Sampled, own: OwnData
) -> Iterator[str]:
    """Chats that are too long for a row, and turns that the template does not print as they are prompted."""
    length, reading = config.stages[training.stage].sequence_length, own.corpora[corpus]
    if config.sources[corpus.source].kind == "chats" and (long := int(sampled.too_long(length).sum())):
        what = "turns of the assistant, each with the chat before it," if reading.by_turn else "chats"
        yield (
            f"{'' if sampled.whole else 'of a sample, '}{long} of {len(sampled.lengths)} {what} of {reading.file} are "
            f"longer than stages.{training.stage}.sequence_length={length} and are left out; raise it to train on them"
        )
    if sampled.trained < sampled.turns:
        where = "" if sampled.whole else "of a sample, "
        yield (
            f"{reading.file}: {where}{sampled.turns - sampled.trained} of {sampled.turns} turns of the assistant are "
            f"not trained on: the chat template of model {config.model.name} prints them differently once later turns "
            "follow; tokenize.turns=each_by_its_prefix trains each"
        )


def _sizes(config: Config, training: OwnTraining) -> Sequence[int | None]:
    ladders = [config.sources[name].ladder for name in training.sources]
    return next((ladder for ladder in ladders if ladder), (None,))


def _take(
    config: Config, name: str, corpus: Corpus, size: int | None, own: OwnData, tokens: Tokenized, stage: Stage
) -> _Taken:
    """The tokens of what is taken of a source, by repeating its sample.

    Raises:
        UserError: there is not so much.
    """
    source, sampled, reading = config.sources[name], tokens.corpora[corpus], own.corpora[corpus]
    lengths = sampled.lengths
    if config.sources[corpus.source].kind == "chats":
        lengths = np.minimum(lengths[~sampled.too_long(stage.sequence_length)], stage.sequence_length)
    left = reading.usable - reading.left_out[source.without]
    packable = round(left * len(lengths) / len(sampled.lengths))
    if not left:
        raise UserError(f"sources.{name}.without leaves out all {reading.unit} of {reading.file}; name fewer")
    if not packable:
        raise UserError(
            f"sources.{name}: all chats of {reading.file} are longer than sequence_length "
            f"{stage.sequence_length}, and would be left out; raise it"
        )
    all_of_it = np.resize(lengths, packable)
    if source.tokens is not None:
        return _budget(name, source.tokens, all_of_it, sampled.doubt, reading.file)
    wanted = size if source.ladder else source.rows
    if wanted is not None and wanted > packable * sampled.doubt:
        about = "" if sampled.whole else "about "
        raise UserError(
            f"sources.{name}.{'ladder' if source.ladder else 'rows'} asks for {wanted} {reading.unit}, and {about}"
            f"{packable} of {reading.file} fit into sequence_length {stage.sequence_length}; raise it, or ask for fewer"
        )
    exact = sampled.whole and wanted in (None, packable) and not source.without
    return _Taken(all_of_it[:wanted], 1.0 if exact else max(sampled.doubt, DOUBT_OF_SAMPLE))


def _budget(name: str, budget: int, lengths: NDArray[np.int32], doubt: float, file: Path) -> _Taken:
    total = int(lengths.sum(dtype=np.int64))
    if budget > total * doubt:
        about = "" if doubt == 1.0 else "about "
        raise UserError(f"sources.{name}.tokens asks for {budget} tokens, and {file} has {about}{total}; ask for fewer")
    taken = lengths[: int(np.searchsorted(np.cumsum(lengths, dtype=np.int64), budget)) + 1]
    return _Taken(taken, max(doubt, DOUBT_OF_SAMPLE))


def _fills(training: OwnTraining, stage: Stage, rows: int, doubt: float, size: int | None, files: str) -> Iterator[str]:
    """Whether the packed rows of a training fill a batch, after those that are held out."""
    held = stage.heldout.batches * stage.global_batch_size if stage.heldout else 0
    if (int(rows * doubt) - held) * stage.epochs >= stage.global_batch_size:
        return
    key, at_once = f"stages.{training.stage}", stage.micro_batch_size * stage.layout.data_parallel
    most = max(rows - held, 0) * stage.epochs // at_once * at_once
    of = f"{size} rows of its ladder, of {files}, pack" if size else f"what it reads of {files} packs"
    less = f", of which heldout.batches={stage.heldout.batches} takes {held}" if stage.heldout else ""
    yield (
        f"{key}: {of} into {'' if doubt == 1.0 else 'about '}{rows} rows of sequence_length {stage.sequence_length}"
        f"{less}; over {stage.epochs} epochs they do not fill one batch of global_batch_size "
        f"{stage.global_batch_size}; lower {key}.global_batch_size{f' to {most}' if most else ''} or "
        f"{key}.sequence_length, or give more data or epochs"
    )
