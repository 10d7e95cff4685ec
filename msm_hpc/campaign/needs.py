"""What the training steps of a campaign will need: memory, time, GPU-hours, disk; for ``msm plan`` and preflight."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.measured import FinishedTrainings, finished_trainings
from msm_hpc.campaign.starting_model import starting_model, stored_weight_size
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.stages import ExportConfig, ModelConfig
from msm_hpc.config.training import TrainConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.model.architecture import Transformer
from msm_hpc.planner.capacity import capacity
from msm_hpc.planner.forecast import Forecast, Measured, forecast
from msm_hpc.planner.memory import Memory, worst_stage
from msm_hpc.planner.probe import folder_of, read_table
from msm_hpc.store.store import Store
from tokenization.packing.forecast import rows_of_shards
from tokenization.packing.pack import PackConfig
from tokenization.packing.plan import Plan

WITH_WEIGHTS = (ModelConfig, TrainConfig, ExportConfig)
"""The configurations of steps that store weights."""


@dataclass(frozen=True)
class Rows:
    """Packed rows of a training step; ``exact`` once they are packed.

    Before that they are by the lengths of what is tokenised, by ``sampled`` rows of the user's files, or the least that
    hold its token budgets.
    """

    count: int
    exact: bool
    sampled: bool = False


@dataclass(frozen=True)
class Training:
    """Training steps of one kind and one config but for the seed, and of as many rows.

    ``rows`` is None where neither tokens nor bytes are known until they are packed; ``forecast`` is None where the GPU
    is not known and none like them was measured. ``minutes`` is the time limit of a job, None where there is none.
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
        return str(self.steps[0].start.config.name)

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


def trainings(
    graph: Graph, store: Store, cluster: Cluster, packed: Mapping[tuple[str, PackConfig], int]
) -> tuple[Training, ...]:
    """The training steps of ``graph`` on models of known shape, those alike together; ``packed`` is preflight's."""
    models, done = shapes(graph), cache(store.done)
    of_any_seed = cache(lambda config: replace(config, seed=0))
    groups: dict[tuple[str, str, TrainConfig, Rows | None], list[Step]] = {}
    for step in graph.steps:
        if (model := model_of(step)) in models and step.kind == "train":
            key = (model, step.stage, of_any_seed(step.config), _rows(step, store, done, packed))
            groups.setdefault(key, []).append(step)
    finished = finished_trainings(store, cluster)
    in_order = sorted(groups.items(), key=lambda group: graph.stages.index(group[0][1]))
    return tuple(
        _training(tuple(steps), key[3], models[key[0]], cluster, store.root, finished) for key, steps in in_order
    )


def forecast_minutes(found: Sequence[Training]) -> dict[str, float]:
    """What each training is forecast to take, by the step's identity; those without a forecast are left out."""
    return {step.identity: each.seconds / 60 for each in found if each.seconds is not None for step in each.steps}


def model_of(step: Step) -> str:
    """The identity of the model step that a step's weights go back to; of one without weights its own."""
    return step.start.identity


def weight_size(step: Step) -> int:
    """Bytes of each weight that a step stores."""
    if isinstance(step.config, ExportConfig) and step.config.dtype is None:
        stored = step.inputs.get("base", step.inputs["checkpoint"])
        assert isinstance(stored, Step)
        return weight_size(stored)
    if isinstance(step.config, ExportConfig):
        return 4 if step.config.dtype == "float32" else 2
    if isinstance(step.config, ModelConfig):
        return stored_weight_size(step.config)
    assert isinstance(step.config, TrainConfig)
    return 4 if step.config.precision == "fp32" else 2


def _training(
    steps: tuple[Step, ...],
    rows: Rows | None,
    model: Transformer,
    cluster: Cluster,
    root: Path,
    finished: FinishedTrainings,
) -> Training:
    config: TrainConfig = steps[0].config
    memory = worst_stage(config, model, cluster.trains_on_gpus)
    gpu, measured = cluster.gpu if cluster.trains_on_gpus else None, _measured(steps[0], model, cluster, root, finished)
    time = forecast(config, model, gpu, measured) if gpu or measured else None
    work = steps[0].work
    minutes = cluster.resources.of(work).time_minutes if launcher_of(cluster).queues else None
    return Training(steps, rows, memory, capacity(cluster, config.layout.world_size, work).memory, time, minutes)


def _measured(
    step: Step, model: Transformer, cluster: Cluster, root: Path, finished: FinishedTrainings
) -> Measured | None:
    """What an optimizer step took: in finished trainings, or else in a probe."""
    own = finished.of(step)
    if own is not None:
        return Measured(own, "own trainings")
    config: TrainConfig = step.config
    probed = read_table(folder_of(root, config, model, cluster)).get((config.layout, config.micro_batch_size))
    return None if probed is None else Measured(probed, "probe")


def _rows(
    step: Step, store: Store, done: Callable[[Step], bool], packed: Mapping[tuple[str, PackConfig], int]
) -> Rows | None:
    """Packed rows of a training step: of its plan, its shards, preflight's forecast, or its token budgets."""
    plan = step.inputs["plan"]
    assert isinstance(plan, Step)
    if done(plan):
        return Rows(len(Plan(store.of(plan).out)), exact=True)
    of_any_seed = replace(plan.config, seed=0)
    if all(map(done, plan.parents)):
        shards = plan.inputs["shards"]
        assert isinstance(shards, Mapping)
        folders = {name: store.of(each).out for name, each in shards.items() if isinstance(each, Step)}
        count = _of_shards(of_any_seed, tuple(folders.items()))
        return None if count is None else Rows(count, exact=False)
    count = packed.get((str(step.start.config.name), of_any_seed))
    if count is not None:
        return Rows(count, exact=False, sampled=True)
    count = least_rows(plan.config)
    return None if count is None else Rows(count, exact=False)


@cache
def _of_shards(config: PackConfig, folders: tuple[tuple[str, Path], ...]) -> int | None:
    """Rows that these sources pack into; None where they do not, which the pack step reports."""
    try:
        return rows_of_shards(config, dict(folders))
    except UserError:
        return None


def least_rows(config: PackConfig) -> int | None:
    """The fewest packed rows that hold the token budgets; None where a source has none."""
    budgets = [take.tokens for take in config.sources if take.tokens is not None]
    return -(-sum(budgets) // config.sequence_length) if len(budgets) == len(config.sources) else None
