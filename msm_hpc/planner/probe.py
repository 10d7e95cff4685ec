"""``msm probe``: measure a few steps of the best layouts where they will run, and keep the times in a table.

A table belongs to one training: a model, sequence length, batch, precision and adapter, on one GPU with one set of
versions. All these are hashed into its folder's name, so a table is never used for another training. ``layout=auto``
and forecasts use the table where there is one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from signal import SIGKILL
from statistics import median

from msm_hpc.base.files import write_text
from msm_hpc.base.typed_json import adapter
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.training import Layout, TrainConfig
from msm_hpc.launch.local_processes import stop_when_orphaned
from msm_hpc.launch.ranks import current_ranks
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.precision import installed_te

STEPS = 20
FEW = 3
"""Number of layouts to measure."""
PLAN, TABLE = "plan.json", "table.json"


@dataclass(frozen=True)
class Probe:
    """What one job measures; ``candidates`` have the same number of ranks and nodes."""

    model: Transformer
    candidates: tuple[TrainConfig, ...]
    steps: int = STEPS


@dataclass(frozen=True)
class StepTime:
    """The median time of a step, without the first, which allocates and compiles, where there are more."""

    layout: Layout
    micro_batch_size: int
    seconds_per_step: float


def folder_of(root: Path, config: TrainConfig, model: Transformer, cluster: Cluster) -> Path:
    """The folder of the table of this training on this cluster's GPUs."""
    versions = (version("torch"), version("megatron-core"), installed_te())
    training = (config.sequence_length, config.global_batch_size, config.precision, config.lora)
    known = repr((model, training, cluster.gpu if cluster.trains_on_gpus else "cpu", versions))
    return root / "probes" / hashlib.sha256(known.encode()).hexdigest()[:16]


def prepare(folder: Path, probe: Probe) -> None:
    """Write what :func:`run_rank` is to measure."""
    assert len({(each.layout.world_size, each.layout.nodes) for each in probe.candidates}) == 1
    write_text(folder / PLAN, adapter(Probe).dump_json(probe).decode())


def run_rank(folder: str) -> None:
    """Measure as one rank; rank 0 writes the table after each layout, because the next may not fit as forecast.

    Rows of other layouts stay in the table. A probe has nothing to save, so it is killed when its launcher dies.
    """
    from msm_hpc.planner.trial import trial

    stop_when_orphaned(SIGKILL)
    probe = adapter(Probe).validate_json((Path(folder) / PLAN).read_bytes())
    ranks = current_ranks()
    table = dict(read_table(Path(folder)))
    for number, config in enumerate(probe.candidates):
        os.environ.update(ranks.environment(str(number)))
        seconds = [step.seconds for step in trial(config, probe.model, probe.steps)]
        table[config.layout, config.micro_batch_size] = median(seconds[1:] or seconds)
        if ranks.rank == 0:
            measured = tuple(StepTime(*key, seconds_per_step) for key, seconds_per_step in table.items())
            write_text(Path(folder) / TABLE, adapter(tuple[StepTime, ...]).dump_json(measured).decode())


def read_table(folder: Path) -> Mapping[tuple[Layout, int], float]:
    """Seconds of a step by layout and micro-batch size; empty where nothing was measured."""
    path = folder / TABLE
    if not path.is_file():
        return {}
    measured = adapter(tuple[StepTime, ...]).validate_json(path.read_bytes())
    return {(each.layout, each.micro_batch_size): each.seconds_per_step for each in measured}
