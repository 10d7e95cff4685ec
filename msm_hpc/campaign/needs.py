"""What the training steps of a campaign will need: memory, time, GPU-hours, disk; for ``msm plan`` and preflight."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.config.campaign import Cluster
from msm_hpc.config.stages import ExportConfig, ModelConfig
from msm_hpc.config.training import TrainConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.model import adapter
from msm_hpc.model.architecture import Transformer
from msm_hpc.planner.capacity import room
from msm_hpc.planner.forecast import Forecast, forecast
from msm_hpc.planner.memory import GIB, Memory, worst_stage
from msm_hpc.planner.probe import folder_of, read_table
from msm_hpc.store.store import Store
from tokenization.packing.pack import PackConfig
from tokenization.packing.plan import Plan

RESUME_POINTS = 3
"""Two that are kept (``training/checkpoint.py``) and the one that is being written."""


@dataclass(frozen=True)
class Rows:
    """Packed rows of a training step; ``exact`` once they are packed, before that the least that hold its tokens."""

    count: int
    exact: bool


@dataclass(frozen=True)
class Training:
    """Training steps of one kind and one config but for the seed, and of as many rows.

    ``rows`` is None where only documents are counted until they are packed; ``forecast`` is None where the GPU is not
    known.
    """

    steps: tuple[Step, ...]
    rows: Rows | None
    memory: Memory
    room: int | None
    forecast: Forecast | None

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
    def rank_hours(self) -> float | None:
        """Of all of them."""
        ranks = self.config.layout.world_size
        return None if self.seconds is None else self.seconds * ranks * len(self.steps) / 3600


def trainings(graph: Graph, store: Store, model: Transformer, cluster: Cluster) -> tuple[Training, ...]:
    """The training steps of ``graph``, those alike together."""
    groups: dict[tuple[str, TrainConfig, Rows | None], list[Step]] = {}
    for step in graph.steps:
        if isinstance(step.config, TrainConfig):
            groups.setdefault((step.kind, replace(step.config, seed=0), _rows(step, store)), []).append(step)
    return tuple(_training(tuple(steps), key[2], model, cluster, store.root) for key, steps in groups.items())


def _training(steps: tuple[Step, ...], rows: Rows | None, model: Transformer, cluster: Cluster, root: Path) -> Training:
    config: TrainConfig = steps[0].config
    memory = worst_stage(config, model, cluster.gpus_per_node > 0)
    table = read_table(folder_of(root, config, model, cluster))
    measured = table.get((config.layout, config.micro_batch_size))
    time = forecast(config, model, cluster.gpu, measured) if cluster.gpu and cluster.gpus_per_node else None
    return Training(steps, rows, memory, room(cluster, config.layout.world_size).memory, time)


def _rows(step: Step, store: Store) -> Rows | None:
    """Packed rows of a training step: of its plan, or by its token budgets where every source has one."""
    plan = step.inputs["plan"]
    assert isinstance(plan, Step)
    if store.of(plan).done:
        return Rows(len(Plan(store.of(plan).out)), exact=True)
    count = least_rows(plan.config)
    return None if count is None else Rows(count, exact=False)


def least_rows(config: PackConfig) -> int | None:
    """The fewest packed rows that hold the token budgets; None where a source has none."""
    budgets = [take.tokens for take in config.sources if take.tokens is not None]
    return -(-sum(budgets) // config.sequence_length) if len(budgets) == len(config.sources) else None


def check_disk(graph: Graph, store: Store, model: Transformer, cluster: Cluster) -> None:
    """Check that the file system of the root folder has room for the checkpoints that are still to be written.

    Raises:
        UserError: it has not; with the bytes of each part.
    """
    left = [step for step in graph.steps if not store.of(step).done]
    results, resume = sum(_result_bytes(step, model) for step in left), _resume_bytes(left, model, cluster)
    folder = next(path for path in (store.root, *store.root.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if results + resume > free:
        raise UserError(
            f"root={store.root} has {_told(free)} free, and the campaign still writes {_told(results)} "
            f"of weights and, while trainings run, {_told(resume)} of resume points ({RESUME_POINTS} for each "
            "of those that run at once: weights and optimizer); give another root, free space, or lower "
            "cluster.array_parallelism (local: cluster.slots)"
        )


def _told(count: int) -> str:
    """For people, in GiB, or where that is little in MiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.1f} MiB"


def _result_bytes(step: Step, model: Transformer) -> int:
    """Weights that stay: of a converted model (in bf16, as hubs have them), a trained one, and an exported one."""
    if isinstance(step.config, ModelConfig):
        return 0 if step.config.architecture else 2 * model.parameters
    if isinstance(step.config, ExportConfig):
        return model.parameters * (4 if step.config.dtype == "float32" else 2)
    if isinstance(step.config, TrainConfig):
        return model.parameters * (4 if step.config.precision == "fp32" else 2)
    return 0


def _resume_bytes(steps: Sequence[Step], model: Transformer, cluster: Cluster) -> int:
    """The most that resume points take at once, over the kinds of training, which are taken to follow each other."""
    return max((sum(_largest(kind, model, cluster)) for kind in _by_kind(steps)), default=0)


def _by_kind(steps: Sequence[Step]) -> Iterator[list[Step]]:
    kinds = {step.kind for step in steps if isinstance(step.config, TrainConfig)}
    for kind in sorted(kinds):
        yield [step for step in steps if step.kind == kind]


def _largest(steps: list[Step], model: Transformer, cluster: Cluster) -> list[int]:
    """Resume points of those of ``steps`` that run at once, the largest ones."""
    at_once = cluster.array_parallelism if cluster.kind == "slurm" else max(cluster.slots // steps[0].ranks, 1)
    return sorted((RESUME_POINTS * _resume_point(step.config, model) for step in steps), reverse=True)[:at_once]


def _resume_point(config: TrainConfig, model: Transformer) -> int:
    """Of what is trained, weights and the optimizer's state (float32 weights and two moments)."""
    size, state = (4, 8) if config.precision == "fp32" else (2, 12)
    trained = model.parameters if config.lora is None else adapter.parameters(model, config.lora)
    return (size + state) * trained
