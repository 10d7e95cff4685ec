"""Judges are asked whether they are there, before a model is trained for what they are to judge."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from msm_hpc.campaign.preflight.written import endpoint_problems
from msm_hpc.graph.build import Graph
from tests.composed import graph_of, load_config
from tests.endpoint.faulty_model_server import MODEL, serving


@pytest.mark.parametrize(("model", "problems"), [(MODEL, 0), ("another", 1)])
def test_a_judge_is_asked_once_for_all_steps(graph: Callable[..., Graph], model: str, problems: int) -> None:
    with serving() as server:
        judge = (f"judge.model={model}", f"judge.base_url={server.url}")
        made = graph("campaign.arms=[init]", "campaign.contrast=[]", "campaign.evals=[agentic,reasoning]", *judge)
        found = [*endpoint_problems(made.steps)]
    assert len(found) == problems
    assert not found or f"no model 'another'; correct judge.model to one of: {MODEL}" in found[0]


def test_a_line_names_the_key_of_the_endpoint_that_it_is_about() -> None:
    """A campaign has two endpoints, and of an address only the words of the message are changed."""
    judge = ("judge.model=a-judge", "judge.base_url=https://endpoint.model/v1", "judge.key_variable=NO_SUCH_KEY")
    writer = ("generate.endpoint.base_url=https://writer/v1", "generate.endpoint.key_variable=NO_KEY_EITHER")
    config = load_config(["campaign=agentic", "model=qwen2_5_7b", "campaign.seeds=[0]", *judge, *writer])
    assert sorted(endpoint_problems(graph_of(config).steps)) == [
        "generate.endpoint.key_variable: the environment variable NO_KEY_EITHER is not set; put the API key of "
        "https://writer/v1 into it",
        "judge.key_variable: the environment variable NO_SUCH_KEY is not set; put the API key of "
        "https://endpoint.model/v1 into it",
    ]
