"""What a command works on: a campaign, its graph and store, and the console that it prints to.

A session answers questions and refuses none: its graph is pure, and what is missing outside is known as it was when
the campaign last ran. Whoever is about to run something takes :meth:`Session.ready` first.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property

from pydantic import ValidationError
from rich.console import Console

from msm_hpc.base.code import code_commit
from msm_hpc.base.errors import UserError
from msm_hpc.base.text import say
from msm_hpc.base.typed_json import adapter
from msm_hpc.campaign.auto_layout import Settled, settle
from msm_hpc.campaign.external_inputs import ExternalInputs
from msm_hpc.config.campaign import Config
from msm_hpc.config.compose import OWN_FOLDER, choices, load_configs, own_folder, root_of, with_absolute_paths
from msm_hpc.graph.build import Graph, build_graph
from msm_hpc.launch.nemo_tunnel import reach_slurm_of
from msm_hpc.store.campaigns import CampaignRecord, campaigns, read_campaign, rehearsed, write_campaign
from msm_hpc.store.look import Look
from msm_hpc.store.records import now
from msm_hpc.store.splits import read_splits
from msm_hpc.store.store import Store
from tokenization.packing.pack import PackConfig

CHOSEN_FOR_EACH = (
    "layout=auto: each stage of each model has the layout that ends its trainings first, by forecast or a probe, of "
    "those that fit; `msm plan` has a line for each, and with model=NAME the overrides that give it, and why."
)


@dataclass
class Session:
    """A campaign: composed from ``overrides``, or the one that was run under ``name`` below their root.

    Attributes:
        instead: the configurations to work on in the place of those, if any.
        packed: rows that preflight forecasts of what is to be packed, of seed 0, for a model of that name.
    """

    overrides: tuple[str, ...]
    console: Console
    name: str | None = None
    instead: tuple[Config, ...] | None = None
    packed: Mapping[tuple[str, PackConfig], int] = field(default_factory=dict)

    @cached_property
    def configs(self) -> tuple[Config, ...]:
        """The configuration of each model; from now on Slurm is asked where that says."""
        configs = self._compose()
        reach_slurm_of(configs[0].cluster)
        return configs

    def _compose(self) -> tuple[Config, ...]:
        if self.instead is not None:
            return self.instead
        if self.record is None:
            return load_configs(self.overrides)
        if any(not override.startswith("root=") for override in self.overrides):
            if self.record.config_dir:
                os.environ.setdefault(OWN_FOLDER, self.record.config_dir)
            return load_configs((*self.record.overrides, *self.overrides))
        root, known = root_of(self.overrides), adapter(Config)
        try:
            return tuple(replace(known.validate_python(dict(config)), root=root) for config in self.record.configs)
        except ValidationError as error:
            keys = ", ".join(dict.fromkeys(".".join(map(str, problem["loc"])) for problem in error.errors()))
            raise UserError(
                f"campaign {self.record.name} was run with a configuration that this version of msm_hpc does not read "
                f"({keys}); compose it again: {' '.join(self.record.overrides)} root={root}"
            ) from error

    @cached_property
    def record(self) -> CampaignRecord | None:
        """What the campaign was asked for when it was last run; None where it is composed from overrides."""
        if any(override.startswith("campaign=") for override in self.overrides):
            return None
        root = root_of(self.overrides)
        if self.name is not None:
            return read_campaign(root, self.name)
        known = campaigns(root)
        if len(known) == 1:
            return read_campaign(root, known[0])
        for key in (override.partition("=")[0] for override in self.overrides):
            if get_close_matches(key, ["campaign"]):
                raise UserError(f"unknown key {key!r}; did you mean 'campaign'?")
        those = f"name one of {', '.join(known)}, or compose" if known else "compose"
        there = ", ".join(choices("campaign"))
        raise UserError(f"which campaign? {those} one with campaign=NAME; there are {there}{rehearsed(root)}")

    @property
    def config(self) -> Config:
        """The configuration of the first model, for what all models share: campaign, cluster, root."""
        return self.configs[0]

    @cached_property
    def external(self) -> ExternalInputs:
        """The files from outside, as they are or as they were when the campaign last ran."""
        root, name = self.config.root, self.config.campaign.name
        try:
            known = read_campaign(root, name).files if name in campaigns(root) else {}
        except UserError:  # a damaged record, or another version's: without it, files are read again
            known = {}
        return ExternalInputs(known, read_splits(root))

    @cached_property
    def graph(self) -> Graph:
        """The step graph."""
        return build_graph(self.configs, self.external)

    @cached_property
    def store(self) -> Store:
        """What is done below the root folder."""
        return Store(self.config.root.resolve())

    def settled(self) -> Settled:
        """The configurations with every ``layout=auto`` chosen.

        Raises:
            UserError: nothing fits, or the model's shape or the GPUs are not known.
        """
        return settle(self.configs, lambda: self.graph)

    def ready(self, runs: bool = True) -> Session:
        """This session with every ``layout=auto`` chosen, past preflight: what is about to run takes this, or to plan.

        Raises:
            UserError: something is wrong that can be known before a job is queued; a line for each.
        """
        from msm_hpc.campaign.preflight.checks import refuse

        ready, problems = self.examined(runs)
        refuse(problems)
        return ready

    def examined(self, runs: bool = True) -> tuple[Session, tuple[str, ...]]:
        """This session with every ``layout=auto`` chosen, and what preflight finds wrong: a line for each.

        Raises:
            UserError: no layout can be chosen.
        """
        from msm_hpc.campaign.preflight.checks import check  # here, since questions do without

        settled = self.settled()
        ready = replace(self, instead=settled.configs)
        self.say(*([CHOSEN_FOR_EACH] if len(settled.configs) > 1 and settled.choices else settled.choices))
        needed = ready.graph.needed(Look(ready.store.root).done)
        found = check(ready.configs, ready.graph, ready.external, needed, runs)
        if not found.problems:
            self.say(*(f"Note: {note}" for note in found.notes))
        ready.packed = found.packed
        return ready, found.problems

    def split_as(self, splits: Mapping[str, int]) -> Session:
        """This session, for shares that are split so."""
        other = replace(self)
        other.external = ExternalInputs(self.external.files, splits)
        return other

    def making(self, graph: Graph) -> Session:
        """This session, for ``graph`` in the place of its own."""
        other = copy.copy(self)
        other.graph = graph
        return other

    def asking(self) -> Session:
        """This session for a command that asks only: it looks at the store once, and now."""
        _ = self.graph  # for all copies
        other = copy.copy(self)
        other.store = Look(self.store.root)
        return other

    def remember(self) -> None:
        """Write down what the campaign was asked for, so that its name is enough from now on."""
        own = own_folder()
        record = CampaignRecord(
            name=self.config.campaign.name,
            overrides=with_absolute_paths((*(self.record.overrides if self.record else ()), *self.overrides)),
            configs=tuple(adapter(Config).dump_python(config, mode="json") for config in self.configs),
            config_dir=str(own) if own else self.record.config_dir if self.record else None,
            steps=tuple(sorted(self.graph.ids)),
            files=self.external.files,
            commit=code_commit(),
            at=now(),
        )
        write_campaign(self.store.root, record)

    def printing_on(self, console: Console) -> Session:
        """This session, with all that it has found so far but for the store, for another console."""
        other = self.asking()
        other.console = console
        return other

    def say(self, *lines: str) -> None:
        """Print lines without markup and colours, on a terminal broken between words."""
        say(self.console, *lines)
