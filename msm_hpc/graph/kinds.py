"""The kinds of step: which stage function makes each, from which config."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msm_hpc.config.stages import EvalConfig, ExportConfig, GenerateConfig, ModelConfig, ReportConfig
from msm_hpc.config.training import TrainConfig
from tokenization.packing.pack import PackConfig
from tokenization.tokenize import TokenizeConfig

Stage = Callable[[Any, Mapping[str, Path], Path], None]


@dataclass(frozen=True)
class Kind:
    """``stage`` is ``module:function``, imported only in the job; raise ``version`` when its results change.

    A ``resumable`` stage finds its own partial output again after a kill; the others start on an empty folder. One that
    ``uses_gpus`` is given a GPU for each rank, where the cluster has any.
    """

    version: int
    config: type
    stage: str
    resumable: bool = False
    uses_gpus: bool = False
    missing_inputs_allowed: bool = False

    def load(self) -> Stage:
        """The stage function."""
        module, _, function = self.stage.partition(":")
        stage: Stage = getattr(importlib.import_module(module), function)
        return stage


TRAIN = Kind(2, TrainConfig, "msm_hpc.training.stage:run", resumable=True, uses_gpus=True)

KINDS: Mapping[str, Kind] = {
    "generate": Kind(1, GenerateConfig, "msm_hpc.corpus.stage:run"),
    "tokenize": Kind(2, TokenizeConfig, "msm_hpc.campaign.tokenize_stage:run"),
    "pack": Kind(2, PackConfig, "tokenization.packing.pack:run"),
    "model": Kind(1, ModelConfig, "msm_hpc.conversion.stage:run_model"),
    "pretrain": TRAIN,
    "midtrain": TRAIN,
    "aft": TRAIN,
    "export": Kind(1, ExportConfig, "msm_hpc.conversion.stage:run_export"),
    "eval": Kind(1, EvalConfig, "msm_hpc.evals.stage:run", uses_gpus=True),
    "report": Kind(1, ReportConfig, "msm_hpc.report.stage:run", missing_inputs_allowed=True),
}
