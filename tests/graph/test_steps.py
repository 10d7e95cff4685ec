from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from msm_hpc.config.stages import ExportConfig
from msm_hpc.config.training import Layout, TrainConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import File, Step, topological


def step(**changes: object) -> Step:
    return Step("aft", "x", replace(TrainConfig(), **changes), {})


@pytest.mark.parametrize(
    "changes",
    [
        {"layout": Layout(tensor_parallel=2, pipeline_parallel=2)},
        {"micro_batch_size": 2},
        {"save_every": 7},
        {"log_every": 7},
    ],
)
def test_placement_is_no_part_of_the_identity(changes: dict[str, object]) -> None:
    assert step(**changes).identity == step().identity


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "fp32"},
        {"seed": 1},
        {"global_batch_size": 32},
        {"sequence_length": 4096},
        {"learning_rate": 2e-4},
    ],
)
def test_what_decides_the_result_is_in_the_identity(changes: dict[str, object]) -> None:
    assert step(**changes).identity != step().identity


def test_the_label_is_no_part_of_the_identity_and_the_kind_is() -> None:
    assert replace(step(), label="y").identity == step().identity
    assert replace(step(), kind="midtrain").identity != step().identity


def test_an_input_counts_by_its_content_not_by_its_path(tmp_path: Path) -> None:
    for name, text in (("a", "same"), ("b", "same"), ("c", "other")):
        (tmp_path / name).write_text(text)
    a, b, c = (Step("export", "x", ExportConfig(), {"model": File(tmp_path / name)}) for name in "abc")
    assert a.identity == b.identity != c.identity


def test_a_changed_input_changes_all_that_follows() -> None:
    def chain(seed: int) -> Step:
        return Step("export", "x", ExportConfig(), {"checkpoint": step(seed=seed)})

    assert chain(0).identity == chain(0).identity != chain(1).identity


def test_topological_order_has_inputs_first_and_each_identity_once(graph: Callable[..., Graph]) -> None:
    steps = graph().steps
    seen: set[str] = set()
    for one in steps:
        assert one.identity not in seen
        assert all(parent.identity in seen for parent in one.parents)
        seen.add(one.identity)
    assert topological((steps[-1], steps[-1])) == topological((steps[-1],))


def test_an_identity_is_stable_across_releases() -> None:
    """A changed rule of identity would make every user's finished steps run again: this must be a decision."""
    known = Step("export", "x", ExportConfig(), {"checkpoint": step()})
    assert known.id == "export/fa4291ec8823ddaa"
