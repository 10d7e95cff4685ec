"""``msm probe``: a few steps of the best few layouts, measured where they will run, and kept for later.

A table holds what was measured of one training: a model, sequence length, batch, precision and adapter, on one GPU with
one set of versions. All these are in its folder's name, so a table is never taken for another training's.
``layout=auto`` goes by the table where there is one, and so do forecasts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from signal import SIGKILL
from statistics import median

from pydantic import TypeAdapter

from msm_hpc.base.files import write_text
from msm_hpc.config.campaign import Cluster
from msm_hpc.config.training import Layout, TrainConfig
from msm_hpc.launch.jobs import current_ranks
from msm_hpc.launch.local import follow_launcher
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.precision import installed_te

STEPS = 20
FEW = 3
"""Layouts that are measured."""
PLAN, TABLE = "plan.json", "table.json"


@dataclass(frozen=True)
class Probe:
    """What one job measures: ``candidates`` agree in their number of ranks and nodes."""

    model: Transformer
    candidates: tuple[TrainConfig, ...]
    steps: int = STEPS


@dataclass(frozen=True)
class Measured:
    """The median time of a step; the first, which allocates and compiles, is left out where there are more."""

    layout: Layout
    micro_batch_size: int
    seconds_per_step: float


_PROBE, _TABLE = TypeAdapter(Probe), TypeAdapter(tuple[Measured, ...])


def folder_of(root: Path, config: TrainConfig, model: Transformer, cluster: Cluster) -> Path:
    """Where the table of this training on this cluster's GPUs lies."""
    versions = (version("torch"), version("megatron-core"), installed_te())
    training = (config.sequence_length, config.global_batch_size, config.precision, config.lora)
    known = repr((model, training, cluster.gpu if cluster.gpus_per_node else "cpu", versions))
    return root / "probes" / hashlib.sha256(known.encode()).hexdigest()[:16]


def prepare(folder: Path, probe: Probe) -> None:
    """Write what :func:`run_rank` is to measure."""
    assert len({(each.layout.world_size, each.layout.nodes) for each in probe.candidates}) == 1
    write_text(folder / PLAN, _PROBE.dump_json(probe).decode())


def run_rank(folder: str) -> None:
    """Measure, as one rank; the first one writes the table, after each layout: the next may not fit as forecast.

    What the table has of other layouts is kept. A probe saves nothing, so one whose launcher is gone is just killed.
    """
    from msm_hpc.planner.trial import trial

    follow_launcher(SIGKILL)
    probe = _PROBE.validate_json((Path(folder) / PLAN).read_bytes())
    ranks = current_ranks()
    table = dict(read_table(Path(folder)))
    for number, config in enumerate(probe.candidates):
        # A port each: the one of the last meeting may not be free yet.
        os.environ.update(replace(ranks, master_port=ranks.master_port + number).environment())
        seconds = [step.seconds for step in trial(config, probe.model, probe.steps)]
        table[config.layout, config.micro_batch_size] = median(seconds[1:] or seconds)
        if ranks.rank == 0:
            measured = tuple(Measured(*key, seconds_per_step) for key, seconds_per_step in table.items())
            write_text(Path(folder) / TABLE, _TABLE.dump_json(measured).decode())


def read_table(folder: Path) -> Mapping[tuple[Layout, int], float]:
    """Seconds of a step by layout and micro-batch size; empty where nothing was measured."""
    path = folder / TABLE
    if not path.is_file():
        return {}
    return {
        (each.layout, each.micro_batch_size): each.seconds_per_step for each in _TABLE.validate_json(path.read_bytes())
    }
