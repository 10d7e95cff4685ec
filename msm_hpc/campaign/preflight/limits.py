"""Whether the steps other than training have the memory and time that they need; trainings: ``planner/choose.py``.

A training that outlasts its time limit is requeued and resumes; these steps would start again, and never end.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import chain

from msm_hpc.campaign.needs import WITH_WEIGHTS, model_of, weight_size
from msm_hpc.config.cluster import Cluster, Work
from msm_hpc.config.evals import DirectionConfig, PerplexityConfig
from msm_hpc.config.stages import EvalConfig, ExportConfig, ModelConfig
from msm_hpc.config.training import Lora, TrainConfig
from msm_hpc.graph.steps import Step
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.gpus import GPUS
from msm_hpc.planner.loading import SPEED, converting, evaluating, loading
from msm_hpc.planner.memory import GIB

READ_WRITTEN_HASHED = 3
"""How often conversion moves each weight."""
EVALUATIONS = (EvalConfig, PerplexityConfig, DirectionConfig)


def limit_problems(needed: Sequence[Step], cluster: Cluster, models: Mapping[str, Transformer]) -> Iterator[str]:
    """A line for each kind of the steps ``needed``, of each model, that takes more than its class of work has."""
    differing = {_alike(step): step for step in needed if model_of(step) in models}.values()
    found = (_step_problems(step, cluster, models[model_of(step)]) for step in differing)
    yield from dict.fromkeys(chain.from_iterable(found))


def _alike(step: Step) -> Hashable:
    """What steps agree in that take as much; most of thousands differ in nothing else than whose weights they read."""
    weights = step.inputs["model"] if isinstance(step.config, EVALUATIONS) else step
    assert isinstance(weights, Step)
    size = weight_size(weights) if isinstance(weights.config, WITH_WEIGHTS) else 0
    return step.work, model_of(step), id(step.config), size, _adapter(step), "base_model" in step.inputs


def _step_problems(step: Step, cluster: Cluster, model: Transformer) -> Iterator[str]:
    what = f"{step.kind} of {step.start.config.name}"
    if isinstance(step.config, EVALUATIONS):
        exported = step.inputs["model"]
        assert isinstance(exported, Step)
        yield from _evaluation(what, step, weight_size(exported), cluster, model)
    elif isinstance(step.config, ModelConfig) and step.config.architecture is None:
        size = weight_size(step)
        yield from _conversion(what, size, size, cluster, step.work, model)
        if step.config.gguf_file:
            yield from _on_host(what, loading(model, size), cluster, step.work)
    elif isinstance(step.config, ExportConfig) and "base_model" not in step.inputs:
        size = weight_size(step)
        yield from _conversion(what, size, 4 if step.config.merge else size, cluster, step.work, model)


def _conversion(what: str, size: int, computed: int, cluster: Cluster, work: Work, model: Transformer) -> Iterator[str]:
    """``size`` is that of a stored weight in bytes, ``computed`` that of one in memory."""
    yield from _on_host(what, converting(model, computed), cluster, work)
    yield from _in_time(what, READ_WRITTEN_HASHED * size * model.parameters, cluster, work)


def _evaluation(what: str, step: Step, size: int, cluster: Cluster, model: Transformer) -> Iterator[str]:
    on_gpu = cluster.resources.gpu_eval.gpus_per_node > 0
    needed = evaluating(model, size, step.config.tokens_per_batch, on_gpu, _adapter(step))
    yield from _on_host(what, loading(model, size) if on_gpu else needed, cluster, step.work)
    yield from _in_time(what, size * model.parameters, cluster, step.work)
    if on_gpu and cluster.gpu and needed > GPUS[cluster.gpu].memory:
        fix = "set export.dtype=bfloat16" if size == 4 else "set a smaller eval.tokens_per_batch"
        yield (
            f"{what} needs {needed / GIB:.1f} GiB of a GPU (weights {size * model.parameters / GIB:.1f}), and a "
            f"{cluster.gpu} (cluster.gpu) has {GPUS[cluster.gpu].memory / GIB:.1f} GiB: {fix}, or use other GPUs"
        )


def _adapter(step: Step) -> Lora | None:
    """The adapter that an evaluation puts on its model."""
    exported = step.inputs.get("adapter")
    if exported is None:
        return None
    assert isinstance(exported, Step)
    trained = exported.inputs["checkpoint"]
    assert isinstance(trained, Step) and isinstance(trained.config, TrainConfig)
    return trained.config.lora


def _on_host(what: str, needed: int, cluster: Cluster, work: Work) -> Iterator[str]:
    launcher = launcher_of(cluster)
    name, there = launcher.memory_of_rank(1, work)
    if needed > there:
        fix = f"raise it to {math.ceil(needed / GIB)}" if launcher.queues else "use a machine with more"
        yield f"{what} needs {needed / GIB:.1f} GiB of host memory, and {name} has {there / GIB:.1f} GiB: {fix}"


def _in_time(what: str, moved: int, cluster: Cluster, work: Work) -> Iterator[str]:
    limit = cluster.resources.of(work).time_minutes
    minutes = math.ceil(moved / SPEED / 60)
    if launcher_of(cluster).queues and minutes > limit:
        yield (
            f"{what} moves {moved / GIB:.0f} GiB, about {minutes} minutes at {SPEED // 10**6} MB/s (assumed), and "
            f"{cluster.resources.key(work, 'time_minutes')} is {limit}: raise it"
        )
