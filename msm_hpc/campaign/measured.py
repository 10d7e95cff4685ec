"""What an optimizer step took in the trainings that are finished below a root, for the forecast of those alike.

Alike are those that start from the same model, with the same batch, precision, adapter and layout, on the same GPUs, of
whichever campaign and stage.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from msm_hpc.base.typed_json import adapter
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.training import TrainConfig
from msm_hpc.graph.steps import Step, canonical_json
from msm_hpc.model.gpus import is_gpu
from msm_hpc.store.store import Store

SHAPE = ("sequence_length", "global_batch_size", "micro_batch_size", "precision", "lora", "layout")


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
            if _is_here(ran["device"], cluster):
                alike = _alike(step["config"], step["inputs"]["model"])
                found[alike].append(ran["seconds"] / ran["steps"])
        except (
            OSError,
            ValueError,
            KeyError,
        ):  # deleted meanwhile, torn, or another version's
            continue
    return FinishedTrainings({alike: median(seconds) for alike, seconds in found.items()})


def _is_here(device: str, cluster: Cluster) -> bool:
    """Whether it is one that this cluster trains on."""
    if not cluster.trains_on_gpus:
        return device == "CPU"
    return cluster.gpu is not None and is_gpu(device, cluster.gpu)


def _alike(config: Mapping[str, Any], model: str) -> str:
    return canonical_json([model, {name: config[name] for name in SHAPE}])
