"""From a stage, as it is written, to what a training is given: its config, and what is packed for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields

from msm_hpc.config.arms import Stage
from msm_hpc.config.campaign import Config
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.sources import Corpus
from msm_hpc.config.stages import PackedFor
from msm_hpc.config.training import TrainConfig
from msm_hpc.graph.steps import Step
from msm_hpc.model.precision import RECIPES
from tokenization.packing.pack import PackConfig
from tokenization.packing.selection import Take


def as_it_runs(stage: Stage, cluster: Cluster, seed: int) -> TrainConfig:
    """The training config of a stage; without GPUs, FP8 and FP4 are emulated."""
    own = {item.name: getattr(stage, item.name) for item in fields(TrainConfig)}
    emulated = RECIPES[stage.precision].quantised and not cluster.trains_on_gpus
    seed = stage.seed if stage.once else seed
    return TrainConfig(**own | {"seed": seed, "fp8_emulated": stage.fp8_emulated or emulated})


def packing(config: Config, stage: str, corpora: Mapping[str, Corpus], size: int | None, seed: int) -> PackConfig:
    """What a stage takes of its sources, by name, in the order in which it is packed; ``size`` is a ladder's."""
    sources = {name: config.sources[name] for name in corpora}
    takes = [
        Take(
            source=corpora[name].name,
            samples=size if source.ladder else source.rows,
            tokens=source.tokens,
            without=source.without,
        )
        for name, source in sources.items()
    ]
    takes.sort(key=lambda take: take.source)
    return PackConfig(sequence_length=config.stages[stage].sequence_length, seed=seed, sources=tuple(takes))


def packed_for(steps: Iterable[Step]) -> Iterator[tuple[PackedFor, Step]]:
    """A pack step for each set of sources that a stage of a model is trained on: sizes and seeds leave out the same."""
    seen = set[tuple[str, str, tuple[str, ...]]]()
    for step in steps:
        if step.kind != "train":
            continue
        model, plan = step.inputs["model"], step.inputs["plan"]
        assert isinstance(model, Step) and isinstance(plan, Step)
        key = (model.config.name, step.stage, tuple(take.source for take in plan.config.sources))
        if key not in seen:
            seen.add(key)
            yield PackedFor(model=model.config.name, stage=step.stage, step=plan.id), plan
