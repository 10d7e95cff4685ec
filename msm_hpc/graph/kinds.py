"""The kinds of step: which stage function makes each, from which config and inputs, on what."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msm_hpc.config.cluster import WorkClass
from msm_hpc.config.evals import (
    CapabilityConfig,
    CapabilityInputs,
    DirectionConfig,
    DirectionInputs,
    GatherRepliesInputs,
    PatternsConfig,
    PatternsInputs,
    PerplexityConfig,
    PerplexityInputs,
    SampleConfig,
    SampleInputs,
    ScoreConfig,
    ScoreInputs,
)
from msm_hpc.config.generation import GatherWrittenInputs, OutlineConfig, OutlineInputs, WriteConfig, WriteInputs
from msm_hpc.config.quality import AuditConfig, AuditInputs
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
from tokenization.download import DownloadConfig, DownloadInputs
from tokenization.gather import GatherInputs
from tokenization.packing.pack import PackConfig, PackInputs
from tokenization.tokenize import TokenizeConfig, TokenizeInputs
from tokenization.train import TokenizerConfig, TokenizerInputs

Stage = Callable[[Any, Any, Path], None]
CarryOver = Callable[..., None]


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
        carry_over: likewise, ``carry_over(earlier, out)`` brings into an empty folder what the attempts before saved in
            theirs, oldest first, which may still be written to; without it each attempt starts from nothing. With
            ``gather``, it is given the number of shares as ``sharers`` where those were attempts at their whole.
        result: files and folders that a result must have.
        missing_inputs_allowed: it makes what it can of the inputs there are, aside, and is not done then.
        starts_from: the roles of its inputs whose weights it takes from memory, where a step before it has left them.
        no_weights_of: the roles of its inputs of whose weights it reads nothing.
    """

    version: int
    config: type
    inputs: type
    stage: str
    gather: str | None = None
    gather_inputs: type | None = None
    resources: WorkClass = "cpu"
    carry_over: str | None = None
    result: tuple[str, ...] = ()
    missing_inputs_allowed: bool = False
    starts_from: tuple[str, ...] = ()
    no_weights_of: tuple[str, ...] = ()

    @property
    def resumable(self) -> bool:
        """Whether an attempt resumes from what the attempts before had saved."""
        return self.carry_over is not None

    def load(self) -> Stage:
        """The stage function."""
        stage: Stage = _load(self.stage)
        return stage

    def load_gather(self) -> Stage:
        """What makes a step of its shares."""
        assert self.gather is not None
        gather: Stage = _load(self.gather)
        return gather

    def load_carry_over(self) -> CarryOver:
        """What brings over the work of earlier attempts."""
        assert self.carry_over is not None
        carry_over: CarryOver = _load(self.carry_over)
        return carry_over


def _load(place: str) -> Any:
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)


KINDS: Mapping[str, Kind] = {
    "generate": Kind(1, GenerateConfig, GenerateInputs, "msm_hpc.corpus.stage:run"),
    "outline": Kind(
        2,
        OutlineConfig,
        OutlineInputs,
        "msm_hpc.corpus.outline:run",
        carry_over="msm_hpc.endpoint.resuming:carry_over",
        result=("items.jsonl", "outline.json"),
    ),
    "write": Kind(
        2,
        WriteConfig,
        WriteInputs,
        "msm_hpc.corpus.write:run",
        gather="msm_hpc.corpus.write:gather",
        gather_inputs=GatherWrittenInputs,
        carry_over="msm_hpc.endpoint.resuming:carry_over",
        result=("data.jsonl",),
    ),
    "audit": Kind(
        2, AuditConfig, AuditInputs, "msm_hpc.corpus.quality.stage:run", result=("corpus.html", "audit.json")
    ),
    "download": Kind(1, DownloadConfig, DownloadInputs, "tokenization.download:run"),
    "tokenizer": Kind(1, TokenizerConfig, TokenizerInputs, "tokenization.train:run"),
    "tokenize": Kind(
        3,
        TokenizeConfig,
        TokenizeInputs,
        "msm_hpc.campaign.tokenize_stage:run",
        gather="tokenization.gather:run",
        gather_inputs=GatherInputs,
    ),
    "pack": Kind(2, PackConfig, PackInputs, "tokenization.packing.pack:run"),
    "model": Kind(2, ModelConfig, ModelInputs, "msm_hpc.conversion.stage:run_model"),
    "train": Kind(
        1,
        TrainConfig,
        TrainInputs,
        "msm_hpc.training.stage:run",
        resources="gpu_train",
        carry_over="msm_hpc.training.checkpoints.carry_over:carry_over",
        result=("checkpoint", "metrics.jsonl", "summary.json"),
        starts_from=("checkpoint", "base"),
        no_weights_of=("model",),
    ),
    "export": Kind(3, ExportConfig, ExportInputs, "msm_hpc.conversion.stage:run_export"),
    "eval": Kind(5, EvalConfig, EvalInputs, "msm_hpc.evals.stage:run", resources="gpu_eval"),
    "sample": Kind(
        1,
        SampleConfig,
        SampleInputs,
        "msm_hpc.evals.sampling:run",
        gather="msm_hpc.evals.sampling:gather",
        gather_inputs=GatherRepliesInputs,
        resources="gpu_eval",
        carry_over="msm_hpc.endpoint.resuming:carry_over",
        result=("items.jsonl", "replies.jsonl"),
    ),
    "patterns": Kind(
        1,
        PatternsConfig,
        PatternsInputs,
        "msm_hpc.evals.reasoning.search:run",
        carry_over="msm_hpc.endpoint.resuming:carry_over",
        result=("patterns.json",),
    ),
    "score": Kind(
        3,
        ScoreConfig,
        ScoreInputs,
        "msm_hpc.evals.scoring:run",
        carry_over="msm_hpc.endpoint.resuming:carry_over",
        result=("scores.parquet",),
    ),
    "perplexity": Kind(
        1,
        PerplexityConfig,
        PerplexityInputs,
        "msm_hpc.evals.perplexity:run",
        resources="gpu_eval",
        result=("scores.parquet",),
    ),
    "direction": Kind(
        1,
        DirectionConfig,
        DirectionInputs,
        "msm_hpc.evals.direction:run",
        resources="gpu_eval",
        result=("scores.parquet",),
    ),
    "capability": Kind(
        1,
        CapabilityConfig,
        CapabilityInputs,
        "msm_hpc.evals.capability:run",
        resources="gpu_eval",
        result=("scores.parquet",),
    ),
    "report": Kind(6, ReportConfig, ReportInputs, "msm_hpc.campaign.report_stage:run", missing_inputs_allowed=True),
}
