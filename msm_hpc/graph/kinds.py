"""The kinds of step: which stage function makes each, from which config and inputs, on what."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msm_hpc.config.cluster import WorkClass
from msm_hpc.config.stages import (
    EvalConfig,
    EvalInputs,
    ExportConfig,
    ExportInputs,
    GenerateConfig,
    GenerateInputs,
    ModelConfig,
    ModelInputs,
    ReportConfig,
    ReportInputs,
)
from msm_hpc.config.training import TrainConfig, TrainInputs
from tokenization.gather import GatherInputs
from tokenization.packing.pack import PackConfig, PackInputs
from tokenization.tokenize import TokenizeConfig, TokenizeInputs

Stage = Callable[[Any, Any, Path], None]


@dataclass(frozen=True)
class Kind:
    """A kind of step.

    Attributes:
        version: raised when its results change, or the default of a config field.
        config: the dataclass that the stage is given.
        inputs: the dataclass whose fields are the roles of its inputs.
        stage: ``module:function``, imported only in the job.
        gather: likewise, what makes a step of its shares; its inputs are ``gather_inputs(shares=...)``.
        resources: the class of work that it is.
        resumable: it finds its own partial output again after a kill; the others start on an empty folder.
        missing_inputs_allowed: it makes what it can of the inputs there are, aside, and is not done then.
    """

    version: int
    config: type
    inputs: type
    stage: str
    gather: str | None = None
    gather_inputs: type | None = None
    resources: WorkClass = "cpu"
    resumable: bool = False
    missing_inputs_allowed: bool = False

    def load(self) -> Stage:
        """The stage function."""
        return _load(self.stage)

    def load_gather(self) -> Stage:
        """What makes a step of its shares."""
        assert self.gather is not None
        return _load(self.gather)


def _load(place: str) -> Stage:
    module, _, function = place.partition(":")
    stage: Stage = getattr(importlib.import_module(module), function)
    return stage


KINDS: Mapping[str, Kind] = {
    "generate": Kind(1, GenerateConfig, GenerateInputs, "msm_hpc.corpus.stage:run"),
    "tokenize": Kind(
        1,
        TokenizeConfig,
        TokenizeInputs,
        "msm_hpc.campaign.tokenize_stage:run",
        gather="tokenization.gather:run",
        gather_inputs=GatherInputs,
    ),
    "pack": Kind(1, PackConfig, PackInputs, "tokenization.packing.pack:run"),
    "model": Kind(2, ModelConfig, ModelInputs, "msm_hpc.conversion.stage:run_model"),
    "train": Kind(1, TrainConfig, TrainInputs, "msm_hpc.training.stage:run", resources="gpu_train", resumable=True),
    "export": Kind(2, ExportConfig, ExportInputs, "msm_hpc.conversion.stage:run_export"),
    "eval": Kind(1, EvalConfig, EvalInputs, "msm_hpc.evals.stage:run", resources="gpu_eval"),
    "report": Kind(1, ReportConfig, ReportInputs, "msm_hpc.report.stage:run", missing_inputs_allowed=True),
}
