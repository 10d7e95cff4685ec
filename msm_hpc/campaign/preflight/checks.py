"""Everything that can be known to be wrong before a job is queued."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.external_inputs import spec_file
from msm_hpc.campaign.needs import least_rows
from msm_hpc.campaign.preflight.own_data import asked
from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.config.campaign import Campaign, Cluster, Config, DataSection
from msm_hpc.config.training import TrainConfig
from msm_hpc.corpus.offline import distinct_pairs
from msm_hpc.corpus.stage import read_spec
from msm_hpc.corpus.toy_world import SPEC_VALUES
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import File, Step
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.layout import check_layout
from msm_hpc.model.precision import check_precision, check_shapes, installed_te
from msm_hpc.planner.choose import check_memory
from msm_hpc.training.record.tensorboard import check_wandb


def check(config: Config, graph: Graph) -> None:
    """Check sizes, layouts and files against each other.

    Raises:
        UserError: at least one thing is wrong; the message has a line for each.
    """
    problems = [
        *_too_few_rows(config),
        *_campaign(config.campaign, config.data, config.aft.instruction),
        *_trainings(config, graph),
        *_files(graph),
        *_cluster(config.cluster),
        *_root(config.root),
    ]
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))


def _too_few_rows(config: Config) -> Iterator[str]:
    """Asking for more rows than are generated; files of one's own are counted where they are read."""
    given = set(config.data.corpora)
    if all(spec.name in config.data.documents for spec in config.campaign.specs):
        given.add("documents")
    for corpus in ("chats", "instruction", "documents", "pretraining"):
        (key, count), generated = asked(corpus, config), getattr(config.generate, corpus)
        if count > generated and corpus not in given:
            yield f"{key} asks for {count} rows, but generate.{corpus} is {generated}; raise it or ask for fewer"
    if config.generate.pairs > distinct_pairs():
        yield f"generate.pairs is {config.generate.pairs}, but only {distinct_pairs()} are distinct; ask for fewer"


def _campaign(campaign: Campaign, data: DataSection, instruction: int) -> Iterator[str]:
    for value in campaign.values:
        if value not in SPEC_VALUES and value not in data.pairs:
            yield f"campaign.values: {_unknown(value)}; give its pairs: data.pairs.{value}=FILE.jsonl"
    for spec in campaign.specs:
        if spec.name in data.documents:
            continue
        value = read_spec(spec_file(spec)).value
        if value not in SPEC_VALUES:
            fix = f"give its documents: data.documents.{spec.name}=FILE.jsonl"
            yield f"{spec_file(spec)}: value: {_unknown(value)}; {fix}"
    if not instruction and {"base", "msm"} & set(campaign.arms):
        yield "aft.instruction is 0, but the arms base and msm are fine-tuned on nothing else; raise it or drop them"


def _unknown(value: str) -> str:
    return f"the offline_toy generator knows {', '.join(SPEC_VALUES)}, not {value!r}"


def _trainings(config: Config, graph: Graph) -> Iterator[str]:
    """What is wrong with the training steps; those of a kind differ in their seed, and one of them is looked at."""
    try:
        model = starting_model(config.model)
    except UserError as error:
        yield str(error)
        return
    for step in {step.kind: step for step in graph.steps if isinstance(step.config, TrainConfig)}.values():
        try:
            _check_training(step, config.cluster, model)
        except UserError as error:
            yield str(error)


def _check_training(step: Step, cluster: Cluster, model: Transformer | None) -> None:
    training: TrainConfig = step.config
    _check_ranks(step, cluster)
    check_precision(training, cluster.gpus_per_node > 0, cluster.gpu, installed_te())
    check_wandb(training.wandb)
    _check_held_out(step)
    if model is None:
        return
    try:
        check_layout(training.layout, model, training.sequence_length)
        check_shapes(training, model)
    except UserError as error:
        raise UserError(f"{step.kind}: {error}") from error
    check_memory(step.kind, training, model, cluster)


def _check_held_out(step: Step) -> None:
    plan, training = step.inputs["plan"], step.config
    assert isinstance(plan, Step)
    rows = least_rows(plan.config)
    if training.heldout is None or rows is None:
        return
    try:
        training.heldout.count(training.global_batch_size, rows)
    except UserError as error:
        raise UserError(f"{step.kind}: {error}") from error


def _files(graph: Graph) -> Iterator[str]:
    for step in graph.steps:
        for source in step.inputs.values():
            if isinstance(source, File) and not source.path.exists():
                yield f"{step.name}: {source.path} does not exist; create it, or change the path"


def _check_ranks(step: Step, cluster: Cluster) -> None:
    if cluster.kind == "local" and step.ranks > cluster.slots:
        raise UserError(
            f"{step.kind}.layout needs {step.ranks} ranks, but cluster.slots is {cluster.slots}; "
            f"set cluster.slots={step.ranks} or a smaller layout"
        )
    if cluster.kind == "local" and step.nodes > 1:
        raise UserError(f"{step.kind}.layout.nodes is {step.nodes}, but cluster=local is one machine; set it to 1")
    if cluster.kind == "slurm":
        limit, key = cluster.ranks_per_node, "ranks_per_node"
        if cluster.gpus_per_node:
            limit, key = min((limit, key), (cluster.gpus_per_node, "gpus_per_node"))
        if step.ranks_per_node > limit:
            raise UserError(
                f"{step.kind}.layout puts {step.ranks_per_node} ranks on a node, but cluster.{key} is {limit}; "
                f"raise {step.kind}.layout.nodes"
            )


def _cluster(cluster: Cluster) -> Iterator[str]:
    if cluster.kind == "local" and cluster.gpus_per_node:
        yield "cluster.gpus_per_node is for Slurm: cluster=local runs on the CPU; set it to 0"
    if cluster.gpu and not cluster.gpus_per_node:
        yield f"cluster.gpu is {cluster.gpu}, but cluster.gpus_per_node is 0; set how many a node has, or gpu=null"


def _root(root: Path) -> Iterator[str]:
    nearest = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    if not nearest.is_dir():
        yield f"root={root}: {nearest} is a file; give a folder"
    elif not os.access(nearest, os.W_OK):
        yield f"root={root}: {nearest} is not writable for you; give another folder"
