"""Whether the disk has room for what a campaign still writes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from msm_hpc.campaign.needs import model_of, shapes, weight_size
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.stages import ExportConfig, ModelConfig
from msm_hpc.config.training import TrainConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.model import adapter
from msm_hpc.model.architecture import Transformer
from msm_hpc.planner.memory import GIB
from msm_hpc.store.store import Store

RESUME_CHECKPOINTS = 3
"""Two that are kept (``training/checkpoints/resume.py``) and the one that is being written."""


def disk_problem(written: tuple[int, int], root: Path) -> str | None:
    """What is wrong where the file system of the root folder has no room for what is :func:`still_written`."""
    results, resume = written
    folder = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if results + resume <= free:
        return None
    return (
        f"root={root} has {in_words(free)} free, and the campaign still writes {in_words(results)} "
        f"of weights and, while trainings run, {in_words(resume)} of resume checkpoints ({RESUME_CHECKPOINTS} for "
        "each of those that run at once: weights and optimizer); give another root, free space, or lower "
        "cluster.array_parallelism (local: cluster.slots)"
    )


def still_written(graph: Graph, store: Store, cluster: Cluster) -> tuple[int, int]:
    """Bytes of the weights that are still to be written, and of the resume checkpoints that are there at a time.

    Raises:
        UserError: a model cannot be trained.
    """
    models = shapes(graph)
    left = [(step, models[model_of(step)]) for step in graph.needed(store.done) if model_of(step) in models]
    return sum(_result_bytes(step, model) for step, model in left), _resume_bytes(left, cluster)


def in_words(count: int) -> str:
    """Bytes for people, in GiB, or where that is little in MiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.1f} MiB"


def _result_bytes(step: Step, model: Transformer) -> int:
    """Weights that stay, of a converted model, a trained one, and an exported one; with LoRA the adapter alone."""
    if isinstance(step.config, TrainConfig):
        return _trained(step.config, model) * weight_size(step)
    if isinstance(step.config, ExportConfig) and "base_model" in step.inputs:
        trained = step.inputs["checkpoint"]
        assert isinstance(trained, Step)
        return _trained(trained.config, model) * weight_size(step)
    if isinstance(step.config, ExportConfig) or (isinstance(step.config, ModelConfig) and not step.config.architecture):
        return model.parameters * weight_size(step)
    return 0


def _resume_bytes(left: Sequence[tuple[Step, Transformer]], cluster: Cluster) -> int:
    """The most that resume checkpoints take at once, over the stages, which are taken to follow each other."""
    stages: dict[str, list[tuple[Step, Transformer]]] = {}
    for step, model in left:
        if step.kind == "train":
            stages.setdefault(step.stage, []).append((step, model))
    return max((sum(_largest(steps, cluster)) for steps in stages.values()), default=0)


def _largest(steps: list[tuple[Step, Transformer]], cluster: Cluster) -> list[int]:
    """Resume checkpoints of those of ``steps`` that run at once, the largest ones."""
    at_once = launcher_of(cluster).at_once(steps[0][0].ranks)
    sizes = (RESUME_CHECKPOINTS * _resume_checkpoint(step.config, model) for step, model in steps)
    return sorted(sizes, reverse=True)[:at_once]


def _resume_checkpoint(config: TrainConfig, model: Transformer) -> int:
    """Of what is trained, weights and the optimizer's state (float32 weights and two moments)."""
    size, state = (4, 8) if config.precision == "fp32" else (2, 12)
    return (size + state) * _trained(config, model)


def _trained(config: TrainConfig, model: Transformer) -> int:
    """The number of weights that are trained."""
    return model.parameters if config.lora is None else adapter.parameters(model, config.lora)
