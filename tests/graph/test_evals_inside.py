"""Evals that look at the model itself: what they read, and what is wrong with what they were given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.campaign import Config
from msm_hpc.config.sources import Source
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from tests.composed import graph_of, load_config

TEXTS = Source(kind="documents", file=Path(__file__))


@cache
def plain() -> Config:
    """Two arms of one seed; composed once."""
    few = ("campaign.seeds=[0]", "campaign.arms=[init,msm+aft]", "campaign.contrast=[msm+aft]")
    return load_config(["campaign=demo", *few])


def config(evals: Mapping[str, Mapping[str, Any]], **sources: Source) -> Config:
    """The plain campaign with evals and their settings."""
    table = {name: replace(plain().evals[name], **settings) for name, settings in evals.items()}
    campaign = replace(plain().campaign, evals=tuple(evals))
    return replace(plain(), campaign=campaign, evals=table, sources={**plain().sources, **sources})


def step(graph: Graph, name: str) -> Step:
    return next(step for step in graph.steps if step.name == name)


def test_each_cell_is_looked_at_beside_the_model_before_its_arm() -> None:
    graph = graph_of(config({"perplexity": {}, "direction": {}}))
    before = step(graph, "export/init/seed0")
    cell = "affordability/msm+aft/75/seed0"
    looked = step(graph, f"direction/{cell}/direction")
    assert looked.inputs["init"] == before
    assert looked.inputs["model"] == step(graph, f"perplexity/{cell}/perplexity").inputs["model"] != before
    assert {*looked.inputs["pairs"]} == {*plain().campaign.values}
    assert step(graph, "direction/init/seed0/direction").inputs["model"] == before
    assert graph.report is not None
    for cell_of_report in graph.report.config.cells:
        assert [*cell_of_report.evals] == ["perplexity", "direction"]


def test_texts_that_ship_are_named_by_their_hash_and_own_texts_are_read() -> None:
    shipped = step(graph_of(config({"perplexity": {}})), "perplexity/init/seed0/perplexity")
    assert shipped.config.texts and "documents" not in shipped.inputs
    own = step(
        graph_of(config({"perplexity": {"documents": "texts"}}, texts=TEXTS)), "perplexity/init/seed0/perplexity"
    )
    assert not own.config.texts and own.inputs["documents"].path == TEXTS.file


def test_what_does_not_change_results_renames_nothing() -> None:
    names = {"perplexity": {}, "direction": {}}
    small = replace(config(names), eval=replace(plain().eval, tokens_per_batch=7))
    assert graph_of(config(names)).ids == graph_of(small).ids


@pytest.mark.parametrize(
    ("evals", "message"),
    [
        ({"perplexity": {"documents": "text"}}, r"evals.perplexity.documents: no source 'text'; did you mean texts\?"),
        ({"perplexity": {"documents": "chats"}}, "documents: chats is no source of documents with a file"),
        ({"perplexity": {"documents": "documents"}}, "documents: documents is no source of documents with a file"),
        ({"direction": {"documents": "texts"}}, "direction.documents: direction does not use it; leave it out"),
    ],
)
def test_texts_that_are_none_are_refused(evals: Mapping[str, Mapping[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(evals, texts=TEXTS)


def test_texts_that_an_arm_is_trained_on_are_refused() -> None:
    trained = replace(plain().sources["instruction"], kind="documents", generate=None, file=TEXTS.file)
    with pytest.raises(UserError, match=r"arms are trained on .*test_evals_inside\.py \(sources.instruction.file\)"):
        config({"perplexity": {"documents": "texts"}}, texts=TEXTS, instruction=trained)


def test_lm_eval_is_asked_by_tasks_and_its_program_is_no_part_of_what_comes_out() -> None:
    given = {"tasks": ("arc_easy",), "arguments": ("--limit=5",)}
    ids = [
        step(graph_of(config({"capability": {**given, **other}})), "capability/init/seed0/capability").id
        for other in ({"python": "/a/python"}, {"python": "/b/python", "tuning": ("--batch_size=8",)})
    ]
    assert ids[0] == ids[1]
    for missing in ({"tasks": ()}, {"tasks": ("arc_easy",)}):
        with pytest.raises(UserError, match=r"evals\.capability: give tasks, by lm-eval's names, and the python that"):
            config({"capability": missing})


def test_a_direction_needs_values() -> None:
    whole = config({"direction": {}})
    with pytest.raises(UserError, match=r"direction asks about campaign.values, and there are none"):
        replace(whole, campaign=replace(whole.campaign, values=(), contrast=()))
