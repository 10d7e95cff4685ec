"""Whether the steps that are no trainings have the memory that they need; trainings: ``planner/choose.py``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import chain

from msm_hpc.campaign.needs import model_of, start_of, weight_size
from msm_hpc.config.cluster import Cluster, WorkClass
from msm_hpc.config.stages import EvalConfig, ExportConfig, ModelConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.gpus import GPUS
from msm_hpc.planner.loading import converting, evaluating, loading
from msm_hpc.planner.memory import GIB


def memory_problems(graph: Graph, cluster: Cluster, models: Mapping[str, Transformer]) -> Iterator[str]:
    """A line for each kind of step of each model that needs more than its class of work has."""
    found = (_step_problems(step, cluster, models[model_of(step)]) for step in graph.steps if model_of(step) in models)
    yield from dict.fromkeys(chain.from_iterable(found))


def _step_problems(step: Step, cluster: Cluster, model: Transformer) -> Iterator[str]:
    what = f"{step.kind} of {start_of(step).config.name}"
    if isinstance(step.config, ModelConfig) and step.config.architecture is None:
        needed = loading(model, 2) if step.config.gguf_file else converting(model, 2)
        yield from _on_host(what, needed, cluster, "cpu")
    elif isinstance(step.config, ExportConfig) and "base_model" not in step.inputs:
        size = 4 if step.config.merge else weight_size(step)
        yield from _on_host(what, converting(model, size), cluster, "cpu")
    elif isinstance(step.config, EvalConfig):
        exported = step.inputs["model"]
        assert isinstance(exported, Step)
        yield from _evaluation(what, step.config, weight_size(exported), cluster, model)


def _evaluation(what: str, config: EvalConfig, size: int, cluster: Cluster, model: Transformer) -> Iterator[str]:
    on_gpu = cluster.resources.gpu_eval.gpus_per_node > 0
    needed = evaluating(model, size, config, on_gpu)
    fix = "set export.dtype=bfloat16" if size == 4 else "set a smaller eval.batch_size"
    if not on_gpu:
        yield from _on_host(what, needed, cluster, "gpu_eval")
        return
    yield from _on_host(what, loading(model, size), cluster, "gpu_eval")
    if cluster.gpu and needed > GPUS[cluster.gpu].memory:
        yield (
            f"{what} needs {needed / GIB:.1f} GiB of a GPU (weights {size * model.parameters / GIB:.1f}), and a "
            f"{cluster.gpu} (cluster.gpu) has {GPUS[cluster.gpu].memory / GIB:.1f} GiB: {fix}, or use other GPUs"
        )


def _on_host(what: str, needed: int, cluster: Cluster, work: WorkClass) -> Iterator[str]:
    name, there = launcher_of(cluster).memory_of_rank(1, work)
    if needed > there:
        more = f"raise it to {math.ceil(needed / GIB)}" if cluster.launcher == "slurm" else "use a machine with more"
        yield f"{what} needs {needed / GIB:.1f} GiB of host memory, and {name} has {there / GIB:.1f} GiB: {more}"
