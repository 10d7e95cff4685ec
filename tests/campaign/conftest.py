from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from msm_hpc.config.compose import load_config
from msm_hpc.graph.build import Graph, build_graph
from msm_hpc.store.store import Store


@pytest.fixture
def graph() -> Callable[..., Graph]:
    """Builds the graph of the demo campaign with overrides."""
    return lambda *overrides: build_graph(load_config(["campaign=demo", *overrides]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)
