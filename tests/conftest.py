from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from msm_hpc.graph.build import Graph
from msm_hpc.store.store import Store
from tests.composed import graph_of, load_config


@pytest.fixture(autouse=True)
def jobs_find_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs can import functions of these tests, wherever they start."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)


@pytest.fixture
def graph() -> Callable[..., Graph]:
    """Builds the graph of the demo campaign with overrides."""
    return lambda *overrides: graph_of(load_config(["campaign=demo", *overrides]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)
