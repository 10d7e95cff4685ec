"""``layout=auto`` in a campaign: chosen when something is about to run, so that every step has a layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.config.campaign import Config
from msm_hpc.config.cluster import Work
from msm_hpc.graph.build import Graph
from msm_hpc.graph.trainings import as_it_runs
from msm_hpc.planner.choose import ChosenLayout, choose


@dataclass(frozen=True)
class Settled:
    """The configs of a campaign's models, in which no layout is ``auto``; for people what was chosen and why."""

    configs: tuple[Config, ...]
    choices: tuple[str, ...]


def settle(configs: Sequence[Config], graph: Callable[[], Graph]) -> Settled:
    """Choose every layout that is ``auto``; only then is the campaign's ``graph`` asked for.

    Raises:
        UserError: nothing fits, or the model's shape or the GPUs are not known.
    """
    settled, choices = list[Config](), list[str]()
    for config in configs:
        used = config.stages_used
        auto = [name for name, stage in config.stages.items() if name in used and stage.layout.auto]
        found = {name: _chosen(config, name, graph()) for name in auto}
        stages = {
            name: replace(config.stages[name], layout=each.config.layout, micro_batch_size=each.config.micro_batch_size)
            for name, each in found.items()
        }
        settled.append(replace(config, stages={**config.stages, **stages}))
        choices += [f"stages.{name}.layout=auto is {each.why(f'stages.{name}')}" for name, each in found.items()]
    return Settled(tuple(settled), tuple(choices))


def trainings_like(work: Work, graph: Graph) -> int:
    """How many trainings of a stage and a model a campaign has, done or not: its layout stays as they are made."""
    return sum(step.kind == "train" and step.work == work for step in graph.steps)


def _chosen(config: Config, name: str, graph: Graph) -> ChosenLayout:
    stage, model = config.stages[name], starting_model(config.model)
    if model is None:
        raise UserError(
            f"stages.{name}.layout=auto needs the model's shape before it is downloaded: set model.shape (the "
            "fields of its config.json), or download it"
        )
    training, work = as_it_runs(stage, config.cluster, stage.seed), Work("gpu_train", name, config.model.name)
    runs = trainings_like(work, graph)
    return choose(training, model, config.cluster, work, config.root.resolve(), runs)
