"""A rehearsal: a campaign's whole graph and its true layouts, on this machine, on a shrunken model.

What is cut is only how much: of the model, of the rows, of a row; of seeds, of which one is run, and of a ladder,
whose first and last rung are. Every arm, spec, model and kind of step is there. For what a language model is to write,
other rows stand in (:mod:`msm_hpc.campaign.written_stand_in`), and for a judge what answers at random
(:mod:`msm_hpc.campaign.stand_in_judge`). A campaign that trains Qwen3-32B with tensor_parallel=4 and
pipeline_parallel=2 on 80,000 chats becomes

======================= ============ ===========
\\                       true         rehearsed
======================= ============ ===========
family                  Qwen3        Qwen3
ranks of a training     4 x 2        4 x 2, processes on this machine
attention, KV heads     64, 8        8, 4
layers                  64           2
tokens in a row         8,192        256
chats                   80,000       what fills a few optimizer steps
seeds                   0, 1, 2, 3   0
replies to an item      300          1, of at most 8 tokens, by transformers
======================= ============ ===========

and takes minutes, with the code that the true one will run. A layout is run in one training of each kind; the others
of that kind would show nothing new of it, and have one rank (:func:`each_layout_once`). The results lie below
``ROOT/rehearsal``, never among real ones. What a rehearsal cannot show: a GPU's kernels, memory and numbers, the
network, and anything about the model.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from msm_hpc.base.errors import UserError
from msm_hpc.base.typed_json import adapter
from msm_hpc.campaign.shrunken_sources import PAIRS, reads_own, rehearsed_source
from msm_hpc.campaign.stand_in import StandIn, drawn, shrunken
from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.campaign.views.why import flatten
from msm_hpc.campaign.written_stand_in import notices
from msm_hpc.config.campaign import Config
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.evals import JUDGED, USED_BY, Eval
from msm_hpc.config.serving import Serving
from msm_hpc.config.stages import ModelConfig
from msm_hpc.config.training import ONE_RANK, Layout, Precision, TrainConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Origin, Step, by_role
from msm_hpc.launch.local import this_machine
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.layout import check_layout
from msm_hpc.model.precision import RECIPES
from msm_hpc.store.campaigns import REHEARSAL

Section = TypeVar("Section", bound=TrainConfig)

MOST_RANKS = 8
SEQUENCE_LENGTH = 256
OWN_SEQUENCE_LENGTH = 1024
"""With corpora of the user's own: most chats fit, and one that does not fit in a row is left out."""
SAVE_EVERY = 1
MICRO_BATCH_SIZE = 2
TASKS = 2
"""Tasks that share the work of one step."""
ITEMS = 4
REPLY_TOKENS = 8
CODED = 8
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


def rehearse_all(configs: Sequence[Config], judge: Endpoint, most_ranks: int = MOST_RANKS) -> tuple[Rehearsal, ...]:
    """What to run here in the place of ``configs``, the models of one campaign; see :func:`rehearse`."""
    found = [rehearse(config, judge, most_ranks) for config in configs]
    slots = max(each.config.cluster.slots for each in found)
    one = replace(found[0].config.cluster, slots=slots)
    return tuple(replace(each, config=replace(each.config, cluster=one)) for each in found)


def rehearse(config: Config, judge: Endpoint, most_ranks: int = MOST_RANKS) -> Rehearsal:
    """What to run on this machine in the place of ``config``; draws the weights of a model that has some.

    Args:
        config: the true one.
        judge: what answers in the place of its judge.
        most_ranks: of a training.

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
    root = config.root / REHEARSAL
    if config.model.architecture is not None:
        made = StandIn(replace(config.model, architecture=small.shape), small, own_tokenizer=True)
    else:
        specs = [spec.file for spec in config.campaign.specs if spec.file is not None and spec.file.is_file()]
        made = drawn(config.model, small, root, specs)
    rehearsed = shrunken_config(config, made.config, root, judge, _notice(made, true))
    models = _cuts(_shown(true), _shown(made.model))
    return Rehearsal(rehearsed, (*models, *_cuts(_settings(config), _settings(rehearsed))))


def shrunken_config(config: Config, model: ModelConfig, root: Path, judge: Endpoint, notice: str) -> Config:
    """``config`` for ``model`` on this machine: the same graph and layouts, fewer and shorter rows."""
    length = OWN_SEQUENCE_LENGTH if reads_own(config) else SEQUENCE_LENGTH
    stages = {name: shrunken_training(stage, length) for name, stage in config.stages.items()}
    slots = max([os.cpu_count() or 1, *(training.layout.world_size for training in _trainings(config).values())])
    small = replace(config, stages=stages)
    items = max(ITEMS, 2 * len(config.campaign.values))  # some of each value
    return replace(
        small,
        root=root,
        campaign=replace(config.campaign, seeds=config.campaign.seeds[:1]),
        model=model,
        cluster=this_machine(slots),
        precision=_here(config.precision),
        sources={name: rehearsed_source(name, small, root) for name in config.sources},
        tokenize=replace(config.tokenize, tasks=min(config.tokenize.tasks, TASKS)),
        eval=replace(config.eval, items=PAIRS),
        evals={name: _shrunken_eval(asked, items) for name, asked in config.evals.items()},
        judge=config.judge and judge,
        serving=Serving(batch=1),  # a batch with a long spec in each of its prompts takes gigabytes
        notices=(notice, *notices(config), *_evals_notices(config), *config.notices),
    )


def _shrunken_eval(asked: Eval, items: int) -> Eval:
    """One short reply to a few of the items."""
    fewer: dict[str, Any] = {
        "samples": 1,
        "items": min(asked.items or items, items),
        "max_tokens": min(asked.max_tokens, REPLY_TOKENS),
        "shares": min(asked.shares, TASKS),
        "coded": min(asked.coded, CODED),
    }
    return replace(asked, **{name: value for name, value in fewer.items() if asked.task in USED_BY[name]})


def _evals_notices(config: Config) -> Iterator[str]:
    tasks = {config.evals[name].task for name in config.campaign.evals}
    if config.judge and tasks & {*JUDGED, "choice"}:
        yield f"No reply is judged: in the place of {config.judge.model} answers what answers at random."
    if config.serving.server != "transformers" and tasks & USED_BY["samples"]:
        yield f"Replies of a few tokens are by transformers, in the place of serving.server={config.serving.server}."


def each_layout_once(graph: Graph) -> Graph:
    """``graph`` with every layout in one training of each kind: of a model's shape, and a stage with its inputs.

    Where a training runs is no part of what it is: each has the identity that it had.
    """
    seen, made = set[Hashable](), dict[str, Step]()

    def now(origin: Origin) -> Origin:
        return made[origin.identity] if isinstance(origin, Step) else origin

    for step in graph.steps:
        config = step.config
        if isinstance(config, TrainConfig):
            kind = (step.start.config.folder, step.stage, replace(config, seed=0), tuple(step.inputs))
            config = replace(config, layout=ONE_RANK) if kind in seen else config
            seen.add(kind)
        shares, after = (tuple(made[each.identity] for each in steps) for steps in (step.shares, step.after))
        inputs = by_role(step.inputs, now)
        made[step.identity] = replace(step, config=config, inputs=inputs, shares=shares, after=after)
    return Graph(
        tuple(made[target.identity] for target in graph.targets),
        tuple((cell, made[step.identity]) for cell, step in graph.cells),
        tuple((cell, made[step.identity]) for cell, step in graph.evals),
        graph.report and made[graph.report.identity],
    )


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
        once = "" if training.layout == ONE_RANK else ", in one training of each kind; others like it on one"
        yield f"{name} on {training.layout}, as processes of this machine{once}"


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
    """Every setting that is used by its dotted key, but for those of the cluster, the model and notices."""
    values = adapter(Config).dump_python(config, mode="json")
    corpora = {corpus.source for name in config.sources_used for corpus in config.corpora(name)}
    used = {
        "sources": config.sources_used | corpora | {corpus.source for corpus in config.pairs.values()},
        "stages": {*config.stages_used},
        "evals": {*config.campaign.evals},
    }
    for section, names in used.items():
        values[section] = {name: each for name, each in values[section].items() if name in names}
    flat = flatten(_joined(values))
    return {key: value for key, value in flat.items() if not key.startswith(("cluster.", "model.", "notices"))}


def _joined(value: Any) -> Any:
    """JSON with lists of words and numbers as one text each, so that a shorter one differs."""
    if isinstance(value, dict):
        return {name: _joined(each) for name, each in value.items()}
    if isinstance(value, list) and not any(isinstance(each, dict | list) for each in value):
        return ", ".join(map(str, value))
    return value


def _cuts(true: Mapping[str, Any], rehearsed: Mapping[str, Any]) -> Iterator[Cut]:
    for key, value in true.items():
        if key in rehearsed and rehearsed[key] != value:
            yield Cut(key, str(value), str(rehearsed[key]))
