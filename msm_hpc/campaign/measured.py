"""What an optimizer step, or a sampled reply, took in the steps that are finished below a root, for those alike.

Alike are trainings that start from the same model, with the same batch, precision, adapter and layout, on the same
GPUs, of whichever campaign and stage; and sample steps of a model that goes back to the same one, of the same task,
items, length and server.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

from msm_hpc.base.typed_json import adapter
from msm_hpc.config.cluster import Cluster, WorkClass
from msm_hpc.config.evals import SampleConfig
from msm_hpc.config.training import TrainConfig
from msm_hpc.graph.steps import Step, canonical_json
from msm_hpc.model.gpus import is_gpu
from msm_hpc.store.store import Store

SHAPE = ("sequence_length", "global_batch_size", "micro_batch_size", "precision", "lora", "layout")
"""What trainings alike agree in, beside the model."""
ASKED = ("task", "items", "max_tokens", "scratchpad", "serving")
"""Likewise sample steps."""
_NO_SUMMARY = (OSError, ValueError, KeyError)
"""A summary was deleted meanwhile, is torn, or another version's."""


@dataclass(frozen=True)
class FinishedTrainings:
    """Seconds of a step, by what makes trainings alike."""

    seconds: Mapping[str, float]

    def of(self, step: Step) -> float | None:
        """What an optimizer step took in those like the training ``step``; None where there is none."""
        model = step.inputs["model"]
        assert isinstance(model, Step)
        return self.seconds.get(_alike(adapter(TrainConfig).dump_python(step.config, mode="json"), model.id))


def finished_trainings(store: Store, cluster: Cluster) -> FinishedTrainings:
    """Read those that ran on this cluster's GPUs, or on CPUs where it has none."""
    found: dict[str, list[float]] = defaultdict(list)
    for summary in (store.root / "steps" / "train").glob("*/out/summary.json"):
        try:
            ran = json.loads(summary.read_bytes())
            step = json.loads((summary.parents[1] / "step.json").read_bytes())
            if _is_here(ran["device"], cluster, "gpu_train"):
                alike = _alike(step["config"], step["inputs"]["model"])
                found[alike].append(ran["seconds"] / ran["steps"])
        except _NO_SUMMARY:
            continue
    return FinishedTrainings({alike: median(seconds) for alike, seconds in found.items()})


@dataclass(frozen=True)
class Sampled:
    """Seconds of a reply, of one or more turns, and of loading the model."""

    a_reply: float
    loading: float


@dataclass(frozen=True)
class FinishedSamples:
    """What sampling took, by what makes sample steps alike."""

    found: Mapping[str, Sampled]
    cluster: Cluster

    def of(self, step: Step) -> Sampled | None:
        """What it took in those like the sample step ``step``; None where there is none."""
        config = adapter(SampleConfig).dump_python(step.config, mode="json")
        gpus = self.cluster.resources.of(step.work).gpus_per_rank if self.cluster.gives_gpus("gpu_eval") else 0
        return self.found.get(_asked_alike(config, step.start.id, "spec" in step.inputs, gpus))


def finished_samples(store: Store, cluster: Cluster) -> FinishedSamples:
    """Read those that ran on this cluster's GPUs, or on CPUs where it has none."""
    found: dict[str, list[Sampled]] = defaultdict(list)
    start = cache(partial(_start, store.root))
    for summary in (store.root / "steps" / "sample").glob("*/out/summary.json"):
        try:
            ran, step = json.loads(summary.read_bytes()), json.loads((summary.parents[1] / "step.json").read_bytes())
            if ran["new_reply_tokens"] and _is_here(ran["device"]["name"], cluster, "gpu_eval"):
                whole = ran["seconds"] * ran["reply_tokens"] / ran["new_reply_tokens"]
                inputs = step["inputs"]
                alike = _asked_alike(step["config"], start(inputs["model"]), "spec" in inputs, ran["device"]["gpus"])
                found[alike].append(Sampled(whole / ran["samples"], ran["seconds_to_load"]))
        except _NO_SUMMARY:
            continue
    medians = {
        alike: Sampled(median(each.a_reply for each in ran), median(each.loading for each in ran))
        for alike, ran in found.items()
    }
    return FinishedSamples(medians, cluster)


def _start(root: Path, step: str) -> str:
    """The id of the model step that weights go back to, by what steps have read."""
    while not step.startswith("model/"):
        step = json.loads((root / "steps" / step / "step.json").read_bytes())["inputs"]["model"]
    return step


def _is_here(device: str, cluster: Cluster, work: WorkClass) -> bool:
    """Whether it is one that work of a class gets on this cluster."""
    if not cluster.gives_gpus(work):
        return device == "CPU"
    return cluster.gpu is not None and is_gpu(device, cluster.gpu)


def _alike(config: Mapping[str, Any], model: str) -> str:
    return canonical_json([model, {name: config[name] for name in SHAPE}])


def _asked_alike(config: Mapping[str, Any], model: str, with_spec: bool, gpus: int) -> str:
    asked = {name: config[name] for name in ASKED} | {"serving": config["serving"]["server"]}
    return canonical_json([model, asked, with_spec, gpus])
