from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from msm_hpc.graph.build import Graph
from msm_hpc.launch import slurm_commands
from msm_hpc.store.store import Store
from tests.commands import Commands, put
from tests.composed import graph_of, load_config


@pytest.fixture
def graph() -> Callable[..., Graph]:
    """Builds the graph of the demo campaign with overrides."""
    return lambda *overrides: graph_of(load_config(["campaign=demo", *overrides]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """Puts shell scripts into the PATH; returns the file where each of their calls is a line."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    slurm_commands.settings.cache_clear()
    yield partial(put, tmp_path)
    slurm_commands.settings.cache_clear()
