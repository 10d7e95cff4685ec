"""``layout=auto`` in a campaign: chosen when something is about to run, so that every step has a layout."""

from __future__ import annotations

from dataclasses import dataclass, replace

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.config.campaign import Config
from msm_hpc.config.cluster import Work
from msm_hpc.graph.trainings import as_it_runs
from msm_hpc.planner.choose import choose


@dataclass(frozen=True)
class Settled:
    """A config in which no layout is ``auto``, and for people what was chosen and why."""

    config: Config
    choices: tuple[str, ...]


def settle(config: Config) -> Settled:
    """Choose every layout that is ``auto``.

    Raises:
        UserError: nothing fits, or the model's shape or the GPUs are not known.
    """
    stages, choices = dict(config.stages), []
    for name, stage in config.stages.items():
        if name not in config.stages_used or not stage.layout.auto:
            continue
        model = starting_model(config.model)
        if model is None:
            raise UserError(
                f"stages.{name}.layout=auto needs the model's shape before it is downloaded: set model.shape (the "
                "fields of its config.json), or download it"
            )
        training = as_it_runs(stage, config.cluster, stage.seed)
        work = Work("gpu_train", name, config.model.name)
        found = choose(training, model, config.cluster, work, config.root.resolve())
        stages[name] = replace(stage, layout=found.config.layout, micro_batch_size=found.config.micro_batch_size)
        choices.append(f"stages.{name}.layout=auto is {found.why(f'stages.{name}')}")
    return Settled(replace(config, stages=stages), tuple(choices))
