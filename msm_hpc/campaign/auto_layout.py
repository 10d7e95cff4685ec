"""``layout=auto`` in a campaign: chosen when the config is composed, so that every step has a layout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.config.campaign import Config
from msm_hpc.graph.build import as_it_runs
from msm_hpc.planner.choose import choose

SECTIONS = ("pretrain", "midtrain", "aft")


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
    choices = []
    for name in SECTIONS:
        section = getattr(config, name)
        if section is None or not section.layout.auto:
            continue
        model = starting_model(config.model)
        if model is None:
            raise UserError(
                f"{name}.layout=auto needs the model's shape before it is downloaded: set model.shape (the fields of "
                "its config.json), or download it"
            )
        training = as_it_runs(section, config.cluster, section.seed)
        found = choose(training, model, config.cluster, config.root.resolve())
        chosen = replace(section, layout=found.config.layout, micro_batch_size=found.config.micro_batch_size)
        sections: dict[str, Any] = {name: chosen}
        config = replace(config, **sections)
        choices.append(f"{name}.layout=auto is {found.why(name)}")
    return Settled(config, tuple(choices))
