"""Everything that can be known to be wrong before a job is queued."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.external_inputs import ExternalInputs
from msm_hpc.campaign.needs import least_rows, model_of
from msm_hpc.campaign.preflight.amounts import amount_notes, amounts
from msm_hpc.campaign.preflight.limits import limit_problems
from msm_hpc.campaign.preflight.own_data import OwnData, read_own_data
from msm_hpc.campaign.preflight.serving import serving_problems
from msm_hpc.campaign.preflight.site import look_at_site
from msm_hpc.campaign.preflight.tokenized import tokenize_sample
from msm_hpc.campaign.preflight.written import endpoint_problems, written_problems
from msm_hpc.campaign.starting_model import check_starting_tokenizer, starting_model
from msm_hpc.config.campaign import Config
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.root import root_problems
from msm_hpc.config.sources import Corpus
from msm_hpc.config.training import TrainConfig
from msm_hpc.corpus.offline import distinct_pairs
from msm_hpc.corpus.spec import read_spec, value_of
from msm_hpc.corpus.toy_world import SPEC_VALUES
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.layout import check_layout
from msm_hpc.model.precision import check_precision, check_shapes, installed_te
from msm_hpc.planner.choose import check_memory
from msm_hpc.training.record.tensorboard import check_wandb
from tokenization.download import DownloadConfig
from tokenization.packing.pack import PackConfig


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        problems: a line for each thing that is wrong.
        notes: a line for each thing that stops nothing, but should be known.
        packed: the rows forecast of what is packed (of seed 0) for a model, of files that are about to be read.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    packed: Mapping[tuple[str, PackConfig], int]


def refuse(problems: Iterable[str]) -> None:
    """Refuse to go on where anything is wrong.

    Raises:
        UserError: there are ``problems``; the message has a line for each.
    """
    if lines := dict.fromkeys(problems):
        raise UserError("\n".join(lines))


def check(
    configs: Sequence[Config], graph: Graph, external: ExternalInputs, needed: Sequence[Step], runs: bool = True
) -> Found:
    """Check sizes, layouts, files and the rows of the user's own corpora against each other.

    Args:
        configs: of each model.
        graph: the campaign's.
        external: the files from outside, as the graph found them.
        needed: the steps that are about to run; files that only others read are not asked for.
        runs: whether they do; a plan is made without endpoints that cannot be asked and servers that are not here, and
            notes them.
    """
    files = external.read_by(needed)
    problems, notes = [*_settings(configs, graph, needed)], list[str]()
    problems += [problem for path, problem in external.problems.items() if path in files]
    notes += [*_downloads(needed)]
    not_here = [*endpoint_problems(needed), *serving_problems(needed, configs[0].cluster)]
    (problems if runs else notes).extend(not_here)
    problems += [*_cluster(configs[0].cluster), *_root(configs[0])]
    for_site = look_at_site(needed, configs[0].cluster)
    problems += for_site.problems
    notes += for_site.notes
    kinds = {step.kind for step in needed}
    before, packed = list[tuple[Config, OwnData]](), dict[tuple[str, PackConfig], int]()
    for config in configs:
        same = (data for other, data in before if other.sources == config.sources)  # read once
        own = next(same, None) or read_own_data(config, files)
        before.append((config, own))
        tokens = tokenize_sample(config, own, kinds)
        found = amounts(config, own, tokens)
        packed |= {(config.model.name, asked): rows for asked, rows in found.packed.items()}
        problems += [*own.problems, *tokens.problems, *found.problems]
        notes += amount_notes(config, own, tokens)
    return Found(tuple(dict.fromkeys(problems)), tuple(dict.fromkeys(notes)), packed)


def _settings(configs: Sequence[Config], graph: Graph, needed: Sequence[Step]) -> Iterator[str]:
    """What can be said without reading the user's rows."""
    generated = {step.label for step in needed if step.kind == "generate"}
    for config in configs:
        yield from _generated(config, generated)
    yield from written_problems(needed)
    yield from _trainings(graph, needed, configs[0].cluster)


def _downloads(needed: Sequence[Step]) -> Iterator[str]:
    """Data sets that are known by name alone until a job has them."""
    found = [f"hf:{step.config.name}" for step in needed if isinstance(step.config, DownloadConfig)]
    if names := ", ".join(dict.fromkeys(found)):
        yield f"{names}: downloaded by jobs, which need network there; rows are checked only when they are tokenised"


def _generated(config: Config, generated: Set[str]) -> Iterator[str]:
    """What the generator cannot make: too few rows, or corpora of values that it does not know."""
    for name in (name for name in config.sources if name in config.sources_used):
        owner = config.owner(name)
        if owner.generate is None or all(config.own_file(corpus) for corpus in config.corpora(name)):
            continue
        if owner.generate.rows is not None:
            yield from _too_few(config, name, owner.generate.rows)
        if owner.for_each == "spec" and config.generate.generator == "offline_toy":
            yield from _unknown_specs(config, config.corpus_of(name), generated)
    yield from _pairs(config, generated)


def _too_few(config: Config, name: str, there: int) -> Iterator[str]:
    source, owner = config.sources[name], config.corpus_of(name)
    if source.most_rows is not None and source.most_rows > there:
        yield (
            f"sources.{name}.{'ladder' if source.ladder else 'rows'} asks for {source.most_rows} rows, but "
            f"sources.{owner}.generate.rows is {there}; raise it or ask for fewer"
        )


def _unknown_specs(config: Config, source: str, generated: Set[str]) -> Iterator[str]:
    for spec in config.campaign.specs:
        assert spec.file is not None
        if Corpus(source, spec.name).name not in generated or not spec.file.is_file():
            continue
        value = value_of(read_spec(spec.file))
        if value not in SPEC_VALUES:
            fix = f"give its documents: sources.{source}.files.{spec.name}=FILE.jsonl"
            yield f"{spec.file}: value: {_unknown(value)}; {fix}"


def _pairs(config: Config, generated: Set[str]) -> Iterator[str]:
    for value, corpus in config.pairs.items():
        source = config.sources[corpus.source]
        if corpus.name not in generated or source.generate is None:
            continue
        if value not in SPEC_VALUES:
            yield f"campaign.values: {_unknown(value)}; give its pairs: {corpus.key}=FILE.jsonl"
        elif (source.generate.rows or 0) > (most := distinct_pairs(source.generate.product)):
            where = f"sources.{corpus.source}.generate.rows"
            yield f"{where} is {source.generate.rows}, but only {most} are distinct; ask for fewer"


def _unknown(value: str) -> str:
    return f"the offline_toy generator knows {', '.join(SPEC_VALUES)}, not {value!r}"


def _trainings(graph: Graph, needed: Sequence[Step], cluster: Cluster) -> Iterator[str]:
    """What is wrong with trainings; those of one model and stage differ in their data, and are checked as one."""
    models: dict[str, Transformer | None] = {}
    reached = {model_of(step) for step in needed}
    starts = [step for step in graph.steps if step.kind == "model" and step.identity in reached]
    for step in starts:
        try:
            models[step.identity] = starting_model(step.config)
            check_starting_tokenizer(step.config)
        except UserError as error:
            yield str(error)
    trainings = [step for step in needed if step.kind == "train" and model_of(step) in models]
    for (model, _), step in {(model_of(step), step.stage): step for step in trainings}.items():
        try:
            _check_training(step, cluster, models[model])
        except UserError as error:
            yield str(error) if len(starts) == 1 else f"{step.name}: {error}"
    for step in {step.inputs["plan"]: step for step in trainings}.values():
        yield from _held_out(step)
    yield from limit_problems(needed, cluster, {name: model for name, model in models.items() if model})


def _check_training(step: Step, cluster: Cluster, model: Transformer | None) -> None:
    training: TrainConfig = step.config
    for problem in launcher_of(cluster).shape_problems(f"stages.{step.stage}", step.ranks, step.nodes):
        raise UserError(problem)
    check_precision(training, cluster.trains_on_gpus, cluster.gpu, installed_te())
    check_wandb(training.wandb)
    if model is None:
        return
    try:
        check_layout(training.layout, model, training.sequence_length)
        check_shapes(training, model)
    except UserError as error:
        raise UserError(f"{step.stage}: {error}") from error
    check_memory(f"stages.{step.stage}", training, model, cluster, step.work)


def _held_out(step: Step) -> Iterator[str]:
    plan, training = step.inputs["plan"], step.config
    assert isinstance(plan, Step)
    rows = least_rows(plan.config)
    if training.heldout is None or rows is None:
        return
    try:
        training.heldout.count(training.global_batch_size, rows)
    except UserError as error:
        yield f"{step.stage}: {error}"


def _cluster(cluster: Cluster) -> Iterator[str]:
    yield from launcher_of(cluster).profile_problems()
    if cluster.gpu and not cluster.trains_on_gpus:
        yield (
            f"cluster.gpu is {cluster.gpu}, but cluster.resources.gpu_train.gpus_per_node is 0; set how many a node "
            "has, or gpu=null"
        )


def _root(config: Config) -> Iterator[str]:
    root, container = config.root, config.cluster.container
    yield from root_problems(root.resolve())
    if container and not container.holds(root.resolve()):
        yield f"root={root} is not in the container: add {root.resolve()}:{root.resolve()} to cluster.container.mounts"
    nearest = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    if not nearest.is_dir():
        yield f"root={root}: {nearest} is a file; give a folder"
    elif not os.access(nearest, os.W_OK):
        yield f"root={root}: {nearest} is not writable for you; give another folder"
