"""What a command works on: a campaign composed from overrides, and the terminal that is told."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property

from rich.console import Console

from msm_hpc.campaign.auto_layout import Settled, settle
from msm_hpc.campaign.preflight import checks as preflight
from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.config.campaign import Config
from msm_hpc.config.compose import load_config
from msm_hpc.graph.build import Graph, build_graph
from msm_hpc.model.architecture import Transformer
from msm_hpc.store.store import Store

PIPE_WIDTH = 120


def terminal() -> Console:
    """The terminal, or for a file or pipe a page wide enough for our tables."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


@dataclass(frozen=True)
class Session:
    """A composed campaign: its config, graph and store, built when first asked for."""

    overrides: tuple[str, ...]
    console: Console
    instead: Config | None = None

    @cached_property
    def composed(self) -> Config:
        """The configuration as it was asked for, ``layout=auto`` and all."""
        return load_config(self.overrides)

    @cached_property
    def settled(self) -> Settled:
        """The configuration with every ``layout=auto`` chosen, and why so."""
        return settle(self.composed)

    @cached_property
    def config(self) -> Config:
        """The configuration to run, or the one to run ``instead`` of it."""
        return self.instead or self.settled.config

    @cached_property
    def graph(self) -> Graph:
        """The step graph, past preflight."""
        graph = build_graph(self.config)
        preflight.check(self.config, graph)
        return graph

    @cached_property
    def store(self) -> Store:
        """What is done below the root folder."""
        return Store(self.config.root.resolve())

    @cached_property
    def model(self) -> Transformer | None:
        """The shape of the starting model, where it is known."""
        return starting_model(self.config.model)

    def tell(self, *lines: str) -> None:
        """Print lines as they are: no markup, no colours, and where a line breaks is left to the terminal."""
        for line in lines:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
