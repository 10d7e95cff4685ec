"""The graph of a campaign that was run below a root, as it was then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from msm_hpc.campaign.external_inputs import ExternalInputs
from msm_hpc.campaign.session import Session
from msm_hpc.graph.build import Graph, build_graph
from msm_hpc.graph.steps import File
from msm_hpc.store.campaigns import read_campaign


class AsRemembered(ExternalInputs):
    """The files as they were when the campaign was run, whatever they are now."""

    def _known(self, path: Path, key: str, count: Callable[[Path], int | None] = lambda path: None) -> File:
        if (known := self.files.get(key)) is None:
            return super()._known(path, key, count)
        return self._given(File(path, known.identity, known.rows))


def recorded_session(root: Path, name: str) -> Session:
    """The campaign ``name`` below ``root``, for questions that are not the user's own."""
    return Session((f"root={root}",), Console(quiet=True), name)


def recorded_graph(root: Path, name: str) -> Graph:
    """The steps that the campaign ``name`` below ``root`` consists of.

    Raises:
        UserError: its record cannot be read.
    """
    return build_graph(recorded_session(root, name).configs, AsRemembered(read_campaign(root, name).files))
