"""What the training steps of a campaign will need: memory, time, GPU-hours, disk; for ``msm plan`` and preflight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.stages import ExportConfig
from msm_hpc.config.training import TrainConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import File, Origin, Step
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.model.architecture import Transformer
from msm_hpc.planner.capacity import capacity
from msm_hpc.planner.forecast import Forecast, forecast
from msm_hpc.planner.memory import Memory, worst_stage
from msm_hpc.planner.probe import folder_of, read_table
from msm_hpc.store.store import Store
from tokenization.packing.pack import PackConfig
from tokenization.packing.plan import Plan
from tokenization.packing.selection import Take

BYTES_A_TOKEN = 4
"""Assumed of a file of the user's own before it is packed: about what English text in JSON takes."""


@dataclass(frozen=True)
class Rows:
    """Packed rows of a training step; ``exact`` once they are packed.

    Before that they are the least that hold its token budgets, or ``from_bytes`` of the files of sources without one.
    """

    count: int
    exact: bool
    from_bytes: bool = False


@dataclass(frozen=True)
class Training:
    """Training steps of one kind and one config but for the seed, and of as many rows.

    ``rows`` is None where neither tokens nor bytes are known until they are packed; ``forecast`` is None where the GPU
    is not known. ``minutes`` is the time limit of a job, None where there is none.
    """

    steps: tuple[Step, ...]
    rows: Rows | None
    memory: Memory
    room: int | None
    forecast: Forecast | None
    minutes: int | None = None

    @property
    def model(self) -> str:
        """The name of the starting model."""
        return str(start_of(self.steps[0]).config.name)

    @property
    def config(self) -> TrainConfig:
        """That of the first; the others differ in the seed."""
        config: TrainConfig = self.steps[0].config
        return config

    @property
    def optimizer_steps(self) -> int | None:
        """Of each run, on the rows that are not held out."""
        if self.rows is None:
            return None
        config = self.config
        held = config.heldout.batches * config.global_batch_size if config.heldout else 0
        return -(-max(self.rows.count - held, 0) * config.epochs // config.global_batch_size)

    @property
    def seconds(self) -> float | None:
        """Of each run."""
        steps = self.optimizer_steps
        return None if steps is None or self.forecast is None else steps * self.forecast.seconds_per_step

    @property
    def requeues(self) -> int:
        """How often the time limit ends the job of a run, which then resumes."""
        if self.seconds is None or self.minutes is None:
            return 0
        return max(math.ceil(self.seconds / (60 * self.minutes)) - 1, 0)

    @property
    def rank_hours(self) -> float | None:
        """Of all of them."""
        ranks = self.config.layout.world_size
        return None if self.seconds is None else self.seconds * ranks * len(self.steps) / 3600


def shapes(graph: Graph) -> dict[str, Transformer]:
    """The shape of each starting model, where it is known, by the identity of its step.

    Raises:
        UserError: a model cannot be trained.
    """
    known = {step.identity: starting_model(step.config) for step in graph.steps if step.kind == "model"}
    return {identity: model for identity, model in known.items() if model is not None}


def trainings(graph: Graph, store: Store, cluster: Cluster) -> tuple[Training, ...]:
    """The training steps of ``graph`` on models of known shape, those alike together."""
    models = shapes(graph)
    groups: dict[tuple[str, str, TrainConfig, Rows | None], list[Step]] = {}
    for step in graph.steps:
        if (model := model_of(step)) in models and step.kind == "train":
            key = (model, step.stage, replace(step.config, seed=0), _rows(step, store))
            groups.setdefault(key, []).append(step)
    in_order = sorted(groups.items(), key=lambda group: graph.stages.index(group[0][1]))
    return tuple(_training(tuple(steps), key[3], models[key[0]], cluster, store.root) for key, steps in in_order)


def model_of(step: Step) -> str:
    """The identity of the model step that a step's weights go back to; of one without weights its own."""
    return start_of(step).identity


def start_of(step: Step) -> Step:
    """The model step that a step's weights go back to; one without weights itself."""
    model = step.inputs.get("model")
    return start_of(model) if isinstance(model, Step) else step


def weight_size(step: Step) -> int:
    """Bytes of each weight that a step stores; those of hubs are in bf16."""
    if isinstance(step.config, ExportConfig) and step.config.dtype is None:
        stored = step.inputs.get("base", step.inputs["checkpoint"])
        assert isinstance(stored, Step)
        return weight_size(stored)
    if isinstance(step.config, ExportConfig):
        return 4 if step.config.dtype == "float32" else 2
    return 4 if isinstance(step.config, TrainConfig) and step.config.precision == "fp32" else 2


def _training(steps: tuple[Step, ...], rows: Rows | None, model: Transformer, cluster: Cluster, root: Path) -> Training:
    config: TrainConfig = steps[0].config
    memory = worst_stage(config, model, cluster.trains_on_gpus)
    table = read_table(folder_of(root, config, model, cluster))
    measured = table.get((config.layout, config.micro_batch_size))
    time = forecast(config, model, cluster.gpu, measured) if cluster.gpu and cluster.trains_on_gpus else None
    minutes = cluster.resources.gpu_train.time_minutes if launcher_of(cluster).queues else None
    return Training(steps, rows, memory, capacity(cluster, config.layout.world_size).memory, time, minutes)


def _rows(step: Step, store: Store) -> Rows | None:
    """Packed rows of a training step: of its plan, by its token budgets, or where there is none by bytes of files."""
    plan = step.inputs["plan"]
    assert isinstance(plan, Step)
    if store.of(plan).done:
        return Rows(len(Plan(store.of(plan).out)), exact=True)
    count = least_rows(plan.config)
    if count is not None:
        return Rows(count, exact=False)
    tokens = [_tokens(take, step.inputs["shards"]) for take in plan.config.sources]
    known = [each for each in tokens if each is not None]
    if len(known) < len(tokens):
        return None
    return Rows(-(-sum(known) // plan.config.sequence_length), exact=False, from_bytes=True)


def _tokens(take: Take, shards: Origin | Mapping[str, Origin]) -> int | None:
    """Tokens that are taken of a source: its budget, or by the bytes of its file; None where that is still to be made.

    Of so many samples the bytes of a file are taken in proportion, by the number of its lines.
    """
    if take.tokens is not None:
        return take.tokens
    assert isinstance(shards, Mapping)
    tokenized = shards[take.source]
    assert isinstance(tokenized, Step)
    corpus = tokenized.inputs["corpus"]
    if not isinstance(corpus, File) or corpus.path.suffix not in (".jsonl", ".txt") or not corpus.path.is_file():
        return None
    size = corpus.path.stat().st_size
    if take.samples is not None:
        size = size * take.samples // max(_lines(corpus.path), take.samples)
    return size // BYTES_A_TOKEN


@cache
def _lines(path: Path) -> int:
    with path.open("rb") as opened:
        return sum(block.count(b"\n") for block in iter(partial(opened.read, 2**20), b""))


def least_rows(config: PackConfig) -> int | None:
    """The fewest packed rows that hold the token budgets; None where a source has none."""
    budgets = [take.tokens for take in config.sources if take.tokens is not None]
    return -(-sum(budgets) // config.sequence_length) if len(budgets) == len(config.sources) else None
