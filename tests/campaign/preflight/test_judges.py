"""Judges are asked whether they are there, before a model is trained for what they are to judge."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from msm_hpc.campaign.preflight.written import endpoint_problems
from msm_hpc.graph.build import Graph
from tests.endpoint.faulty_model_server import MODEL, serving


@pytest.mark.parametrize(("model", "problems"), [(MODEL, 0), ("another", 1)])
def test_a_judge_is_asked_once_for_all_steps(graph: Callable[..., Graph], model: str, problems: int) -> None:
    with serving() as server:
        judge = (f"judge.model={model}", f"judge.base_url={server.url}")
        made = graph("campaign.arms=[init]", "campaign.contrast=[]", "campaign.evals=[agentic,reasoning]", *judge)
        found = [*endpoint_problems(made.steps)]
    assert len(found) == problems
    assert not found or f"no model 'another'; correct endpoint.model to one of: {MODEL}" in found[0]
