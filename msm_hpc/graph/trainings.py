"""From a stage, as it is written, to the config that a training is given."""

from __future__ import annotations

from dataclasses import fields

from msm_hpc.config.arms import Stage
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.training import TrainConfig
from msm_hpc.model.precision import RECIPES


def as_it_runs(stage: Stage, cluster: Cluster, seed: int) -> TrainConfig:
    """The training config of a stage; without GPUs, FP8 and FP4 are emulated."""
    own = {item.name: getattr(stage, item.name) for item in fields(TrainConfig)}
    emulated = RECIPES[stage.precision].quantised and not cluster.trains_on_gpus
    seed = stage.seed if stage.once else seed
    return TrainConfig(**own | {"seed": seed, "fp8_emulated": stage.fp8_emulated or emulated})
