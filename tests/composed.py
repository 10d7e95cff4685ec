"""Composed campaigns, as the commands see them."""

from __future__ import annotations

from collections.abc import Sequence

from msm_hpc.campaign.external_inputs import ExternalInputs
from msm_hpc.campaign.preflight.checks import Found, check, refuse
from msm_hpc.config.campaign import Config
from msm_hpc.config.compose import load_configs
from msm_hpc.graph.build import Graph, build_graph
from msm_hpc.graph.steps import Step


def load_config(overrides: Sequence[str]) -> Config:
    """The configuration of a campaign of one model."""
    (config,) = load_configs(overrides)
    return config


def graph_of(*configs: Config) -> Graph:
    """The graph of a campaign, with its files as they are now."""
    return build_graph(configs, ExternalInputs({}))


def preflight(*configs: Config) -> Graph:
    """The graph of a campaign that may run.

    Raises:
        UserError: something is wrong that can be known before a job is queued.
    """
    external = ExternalInputs({})
    graph = build_graph(configs, external)
    past_preflight(configs, graph, external, graph.steps)
    return graph


def past_preflight(configs: Sequence[Config], graph: Graph, external: ExternalInputs, needed: Sequence[Step]) -> Found:
    """What preflight finds where nothing is wrong.

    Raises:
        UserError: something is.
    """
    found = check(configs, graph, external, needed)
    refuse(found.problems)
    return found
