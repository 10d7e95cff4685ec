"""A rehearsal: a campaign's whole graph and its true layouts, on this machine, on a shrunken model.

What is cut is only how much: of the model, of the rows, of a row. What decides which steps there are, how they hang
together and how each training is spread over its ranks stays. For what a language model is to write, other rows stand
in (:mod:`msm_hpc.campaign.written_stand_in`). A campaign that trains Qwen3-32B with tensor_parallel=4
and pipeline_parallel=2 on 80,000 chats becomes

======================= ============ ===========
\\                       true         rehearsed
======================= ============ ===========
family                  Qwen3        Qwen3
ranks of a training     4 x 2        4 x 2, processes on this machine
attention, KV heads     64, 8        8, 4
layers                  64           2
tokens in a row         8,192        256
chats                   80,000       what fills a few optimizer steps
======================= ============ ===========

and takes minutes, with the code that the true one will run. The results lie below ``ROOT/rehearsal``, never among real
ones. What a rehearsal cannot show: a GPU's kernels, memory and numbers, the network, and anything about the model.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from msm_hpc.base.errors import UserError
from msm_hpc.base.typed_json import adapter
from msm_hpc.campaign.external_inputs import rows_of
from msm_hpc.campaign.stand_in import StandIn, drawn, shrunken
from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.campaign.views.why import flatten
from msm_hpc.campaign.written_stand_in import is_named, is_written, notices, stood_in
from msm_hpc.config.campaign import Campaign, Config
from msm_hpc.config.sources import Generate, Source
from msm_hpc.config.stages import ModelConfig
from msm_hpc.config.training import Layout, Precision, TrainConfig
from msm_hpc.launch.local import this_machine
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.layout import check_layout
from msm_hpc.model.precision import RECIPES
from tokenization.reading.hub import DatasetName

Section = TypeVar("Section", bound=TrainConfig)

MOST_RANKS = 8
SEQUENCE_LENGTH = 256
OWN_SEQUENCE_LENGTH = 1024
"""With corpora of the user's own: most chats fit, and one that does not fit in a row is left out."""
STEPS = 4
SAVE_EVERY = 2
MICRO_BATCH_SIZE = 2
TOKENS_A_SAMPLE = 16
"""About what a sample of the toy world has; longer samples make more steps."""
PAIRS = 8
CANNOT_SHOW = (
    "A rehearsal cannot show what GPUs do (kernels, memory, speed, the last digits), the network between nodes, "
    "or anything about the model itself: its weights are random and small."
)


@dataclass(frozen=True)
class Cut:
    """One value of the campaign that is another one in its rehearsal; ``key`` is dotted, as in an override."""

    key: str
    true: str
    rehearsed: str


@dataclass(frozen=True)
class Rehearsal:
    """The config to run here instead of the true one, and in what the two differ."""

    config: Config
    cuts: tuple[Cut, ...]


def rehearse_all(configs: Sequence[Config], most_ranks: int = MOST_RANKS) -> tuple[Rehearsal, ...]:
    """What to run here in the place of ``configs``, the models of one campaign; see :func:`rehearse`."""
    found = [rehearse(config, most_ranks) for config in configs]
    slots = max(each.config.cluster.slots for each in found)
    one = replace(found[0].config.cluster, slots=slots)
    return tuple(replace(each, config=replace(each.config, cluster=one)) for each in found)


def rehearse(config: Config, most_ranks: int = MOST_RANKS) -> Rehearsal:
    """What to run on this machine in the place of ``config``; draws the weights of a model that has some.

    Raises:
        UserError: a training has more than ``most_ranks`` ranks, a layout does not divide the true model, or the
            model's shape is not known here.
    """
    if most_ranks < 1:
        raise UserError(f"--max-ranks {most_ranks} leaves no process to train in; give at least 1")
    true = _true_model(config.model)
    trainings = _trainings(config)
    for name, training in trainings.items():
        _check_ranks(name, training.layout, most_ranks)
        _check_divides(name, training, true)
    small = shrunken(true, list(trainings.values()))
    root = config.root / "rehearsal"
    if config.model.architecture is not None:
        made = StandIn(replace(config.model, architecture=small.shape), small, own_tokenizer=True)
    else:
        made = drawn(config.model, small, root)
    rehearsed = shrunken_config(config, made.config, root, _notice(made, true))
    models = _cuts(_shown(true), _shown(made.model))
    return Rehearsal(rehearsed, (*models, *_cuts(_settings(config), _settings(rehearsed))))


def shrunken_config(config: Config, model: ModelConfig, root: Path, notice: str) -> Config:
    """``config`` for ``model`` on this machine: the same graph and layouts, fewer and shorter rows."""
    own = any(source.file or source.files for source in config.sources.values())
    length = OWN_SEQUENCE_LENGTH if own else SEQUENCE_LENGTH
    stages = {name: shrunken_training(stage, length) for name, stage in config.stages.items()}
    slots = max([os.cpu_count() or 1, *(training.layout.world_size for training in _trainings(config).values())])
    small = replace(config, stages=stages)
    return replace(
        small,
        root=root,
        campaign=_without_evals(config.campaign),
        model=model,
        cluster=this_machine(slots),
        precision=_here(config.precision),
        sources={name: _rehearsed_source(name, small, root) for name in config.sources},
        notices=(notice, *notices(config), *config.notices),
    )


def _without_evals(campaign: Campaign) -> Campaign:
    """A rehearsal asks neither trained models nor a judge: both cost more than it may."""
    contrast = tuple(arm for arm in campaign.contrast if arm not in campaign.prompted)
    return replace(campaign, evals=(), prompted=(), contrast=contrast)


def _rehearsed_source(name: str, config: Config, root: Path) -> Source:
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


def shrunken_training(section: Section, length: int = SEQUENCE_LENGTH) -> Section:
    """``section`` with rows of at most ``length`` tokens and small batches, on the same ranks of one machine.

    Of a step's micro-batches as many are kept as fill the pipeline twice, so that its whole schedule is run. Nothing
    is reported to Weights & Biases: a rehearsal is no run of the user's project.
    """
    layout, micro = section.layout, min(section.micro_batch_size, MICRO_BATCH_SIZE)
    micro_batches = section.global_batch_size // (section.micro_batch_size * layout.data_parallel)
    return replace(
        section,
        sequence_length=min(section.sequence_length, length),
        micro_batch_size=micro,
        global_batch_size=micro * layout.data_parallel * min(micro_batches, 2 * layout.pipeline_parallel),
        epochs=1,
        precision=_here(section.precision),
        layout=replace(layout, nodes=1),
        save_every=min(section.save_every, SAVE_EVERY),
        log_every=1,
        heldout=section.heldout and replace(section.heldout, batches=1, every=SAVE_EVERY),
        wandb=None,
    )


def layouts_in_words(config: Config) -> Iterator[str]:
    """A line for each training: its ranks, and how they are arranged."""
    for name, training in _trainings(config).items():
        yield f"{name} on {training.layout}, as processes of this machine"


def _samples(training: TrainConfig) -> int:
    """Samples that fill :data:`STEPS` optimizer steps, where they are as short as those of the toy world."""
    return STEPS * training.global_batch_size * min(training.sequence_length, SEQUENCE_LENGTH) // TOKENS_A_SAMPLE


def _ladder(samples: Sequence[int], rung: int) -> tuple[int, ...]:
    """``samples`` in their order, in even rungs; still all different, and none is more than the true one."""
    ranks = {count: number for number, count in enumerate(sorted(samples), start=1)}
    return tuple(min(count, ranks[count] * rung) for count in samples)


def _here(precision: Precision) -> Precision:
    """The precision as a CPU can have it: what has no emulation is rehearsed in bf16."""
    recipe = RECIPES[precision]
    return precision if recipe.emulated or not recipe.quantised else "bf16"


def _trainings(config: Config) -> Mapping[str, TrainConfig]:
    """The stages of the campaign's arms."""
    return {name: config.stages[name] for name in config.stages_used}


def _check_ranks(name: str, layout: Layout, most: int) -> None:
    if layout.world_size > most:
        raise UserError(
            f"stages.{name}.layout has {layout}, and a rehearsal starts a process for each, at most {most}: "
            f"raise that with --max-ranks {layout.world_size} (about 1 GiB of memory each), or rehearse less, such as "
            f"stages.{name}.layout.data_parallel=1"
        )


def _check_divides(name: str, training: TrainConfig, true: Transformer) -> None:
    """The shrunken model divides by any layout: whether the true one does is to be asked of itself."""
    try:
        check_layout(training.layout, true, training.sequence_length)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _true_model(model: ModelConfig) -> Transformer:
    found = starting_model(model)
    if found is None:
        raise UserError(
            f"model {model.name}: its shape is not known here, so it cannot be shrunk; download its config.json first: "
            f"hf download {model.hub} config.json --revision {model.revision}"
        )
    return found


def _notice(made: StandIn, true: Transformer) -> str:
    other = " The model's own tokenizer is not on this machine; a small one of bytes stands in for it."
    tokenizer = "" if made.own_tokenizer else other
    return (
        f"A rehearsal on a shrunken model with random weights ({_size(made.model)} in the place of {_size(true)}), "
        f"with short rows and little data: no figure here is a result.{tokenizer}"
    )


def _size(model: Transformer) -> str:
    return f"{model.shape.num_hidden_layers} layers of width {model.shape.hidden_size}"


def _shown(model: Transformer) -> dict[str, Any]:
    return {key.removeprefix("shape."): value for key, value in flatten(asdict(model)).items()}


def _settings(config: Config) -> dict[str, Any]:
    """Every setting by its dotted key, but for those of the cluster, the model and notices."""
    values = flatten(adapter(Config).dump_python(config, mode="json"))
    return {key: value for key, value in values.items() if not key.startswith(("cluster.", "model.", "notices"))}


def _cuts(true: Mapping[str, Any], rehearsed: Mapping[str, Any]) -> Iterator[Cut]:
    for key, value in true.items():
        if key in rehearsed and rehearsed[key] != value:
            yield Cut(key, str(value), str(rehearsed[key]))
