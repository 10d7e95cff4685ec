"""Models that Megatron builds before anything is queued, in a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.preflight import built
from msm_hpc.campaign.preflight.built import NO_TORCH, check_built
from msm_hpc.graph.build import Graph
from msm_hpc.store.store import Store

SMALL = ("campaign.arms=[msm+aft]", "campaign.contrast=[]", "campaign.seeds=[0]")
PIPELINE = "layout: {pipeline_parallel: 2, tensor_parallel: 2, data_parallel: 16}, global_batch_size: 32"


def forbidden(*args: object, **kwargs: object) -> None:
    raise AssertionError("built again")


@pytest.mark.slow
def test_each_model_is_built_once_for_a_layout(
    graph: Callable[..., Graph], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On 64 ranks, too, and only what is new."""
    large = [f"stages.aft={{{PIPELINE}}}", "precision=bf16"]
    assert check_built(graph(*SMALL, *large).steps, store) is None
    assert len([*(store.root / "built").iterdir()]) == 2, "pretraining and midtraining are alike"
    monkeypatch.setattr(built.subprocess, "run", forbidden)
    assert check_built(graph(*SMALL, *large, "stages.aft.learning_rate=1", "campaign.seeds=[1]").steps, store) is None
    with pytest.raises(AssertionError, match="built again"):
        check_built(graph(*SMALL, *large, "stages.aft.layout.data_parallel=8").steps, store)


@pytest.mark.slow
def test_what_megatron_refuses_is_reported_in_its_words(graph: Callable[..., Graph], store: Store) -> None:
    """What the formulas find, too, so that nothing else is needed here."""
    steps = graph(*SMALL, "stages.aft.layout.tensor_parallel=3").steps
    said = r"stages.aft: Megatron does not build tiny on 3 ranks \(TP3\) in fp32: ValueError: num_attention_heads \(4\)"
    with pytest.raises(UserError, match=said):
        check_built(steps, store)
    assert len([*(store.root / "built").iterdir()]) == 1, "what was built before is noted"


def test_without_torch_it_is_left_to_the_jobs(
    graph: Callable[..., Graph], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(built, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", forbidden)
    assert check_built(graph(*SMALL).steps, store) == NO_TORCH


def test_a_machine_where_megatron_cannot_be_asked_stops_nothing(
    graph: Callable[..., Graph], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\n[rank0]: ImportError: libcudart.so.13: not found\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    note = check_built(graph(*SMALL).steps, store)
    assert note and note.endswith("here it cannot be asked: ImportError: libcudart.so.13: not found")
