"""What measures each cell of a campaign that names evals, and what is wrong with evals that do not go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.campaign import Config
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from tests.composed import graph_of, load_config

JUDGE = Endpoint(model="a-judge", base_url="http://127.0.0.1:9/v1")
FOUR = ("agentic", "choice", "formats", "reasoning")


@cache
def plain() -> Config:
    """Two arms, three cells, no evals; composed once."""
    few = ("campaign.seeds=[0]", "campaign.arms=[init,msm+aft]", "campaign.contrast=[msm+aft]", "+arms.prompted=[]")
    return load_config(["campaign=demo", *few])


def config(
    evals: tuple[str, ...] = (),
    judge: Endpoint | None = JUDGE,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    **campaign: Any,
) -> Config:
    """The plain campaign with evals, of which ``changes`` has settings by name."""
    table = {name: replace(each, **(changes or {}).get(name, {})) for name, each in plain().evals.items()}
    changed = replace(plain().campaign, evals=evals, **campaign)
    return replace(plain(), campaign=changed, evals=table, judge=judge)


@pytest.fixture(scope="module")
def made() -> Graph:
    return graph_of(config(FOUR, changes={"agentic": {"shares": 2}}))


def by_name(graph: Graph, start: str) -> list[str]:
    return sorted(step.name for step in graph.steps if step.name.startswith(start))


def test_each_cell_is_asked_and_scored_for_each_eval(made: Graph) -> None:
    cells = ("init/seed0", "affordability/msm+aft/75/seed0", "america/msm+aft/75/seed0")
    names = ("agentic", "choice", "formats", "reasoning")
    assert by_name(made, "score/") == sorted(f"score/{cell}/{name}" for cell in cells for name in names)
    assert made.report is not None
    for cell in made.report.config.cells:
        assert [*cell.evals] == [*names] and {*cell.evals.values()} <= {*made.report.inputs["evaluations"]}
        assert cell.step in made.report.inputs["evaluations"]
    assert len({step for cell in made.report.config.cells for step in cell.evals.values()}) == 12
    assert [cell.arm for cell, _ in made.evals] == ["init"] * 4 + ["msm+aft"] * 8


def test_what_steps_read(made: Graph) -> None:
    cell = "affordability/msm+aft/75/seed0"
    sampled, scored = made.find(f"sample/{cell}/agentic"), made.find(f"score/{cell}/agentic")
    assert [share.name for share in sampled.shares] == [f"sample/{cell}/agentic/{number}" for number in (0, 1)]
    assert [share.work.of for share in sampled.shares] == ["gpu_eval", "gpu_eval"]
    assert sampled.work.of == scored.work.of == "cpu", "neither gathers nor judges on a GPU"
    assert {*scored.inputs} == {"replies"} and [parent.id for parent in scored.parents] == [sampled.id]
    assert {*made.find(f"sample/{cell}/choice").inputs} == {"model", "pairs"}
    choice = made.find(f"score/{cell}/choice")
    assert {*choice.inputs} == {"replies", "pairs", "preference"}
    assert made.find(f"eval/{cell}").id in [parent.id for parent in choice.parents]
    reasoning, patterns = made.find(f"score/{cell}/reasoning"), made.find("patterns/reasoning")
    assert [parent.id for parent in reasoning.parents] == [sampled.id, patterns.id]
    assert len(patterns.parents) == 3 and {parent.kind for parent in patterns.parents} == {"sample"}


def test_judges_are_asked_only_where_there_is_something_to_judge(made: Graph) -> None:
    judged = {step.config.task: step.config.judge for step in made.steps if step.kind == "score"}
    assert judged["formats"] is None and judged["agentic"].model == judged["choice"].model == "a-judge"
    hashes = {step.config.task: step.config.prompts for step in made.steps if step.kind == "score"}
    assert len({*hashes.values()}) == 4 and hashes["formats"] == ""


@pytest.mark.parametrize(
    ("settings", "renamed"),
    [
        ({"judge": replace(JUDGE, model="another")}, {"score"}),
        ({"judge": replace(JUDGE, in_flight=3)}, set()),
        ({"changes": {"agentic": {"shares": 3}}}, set()),
        ({"changes": {"agentic": {"samples": 7}}}, {"sample", "score"}),
        ({"changes": {"agentic": {"agent": "Nova"}}}, {"sample", "score"}),
    ],
)
def test_what_a_setting_makes_again(settings: dict[str, Any], renamed: set[str]) -> None:
    def steps(**more: Any) -> dict[str, Step]:
        built = graph_of(config(("agentic",), arms=("init",), contrast=(), **more))
        shares = {share.id for step in built.steps for share in step.shares}
        return {step.name: step for step in built.steps if step.id not in shares}

    before, after = steps(), steps(**settings)
    changed = {step.kind for name, step in before.items() if step.id != after[name].id}
    assert changed - {"report"} == renamed


def test_evals_rename_nothing_that_was_there(made: Graph) -> None:
    assert {step.id for step in graph_of(plain()).steps if step.kind != "report"} <= made.ids


def test_open_questions_are_rated_against_one_spec() -> None:
    built = graph_of(config(("open_qa",), changes={"open_qa": {"spec": "america"}}))
    assert {spec_of(step) for step in built.steps if step.kind == "score"} == {"america.md"}


def spec_of(step: Step) -> str:
    spec = step.inputs["spec"]
    return spec.path.name  # type: ignore[union-attr]


def test_a_prompted_arm_is_asked_with_each_spec() -> None:
    arms = ("init", "prompted")
    built = graph_of(config(("formats",), arms=arms, prompted=("prompted",), contrast=("prompted",)))
    assert built.report is not None
    cells = {(cell.arm, cell.spec): cell for cell in built.report.config.cells}
    assert [*cells] == [("init", None), ("prompted", "affordability"), ("prompted", "america")]
    assert spec_of(built.find("eval/america/prompted/seed0")) == "america.md"
    assert len({cell.step for cell in cells.values()}) == 3
    assert spec_of(built.find("sample/america/prompted/seed0/formats")) == "america.md"
    assert len({cell.evals["formats"] for cell in cells.values()}) == 3
    assert by_name(built, "export/") == ["export/init/seed0"], "nothing is trained for it"


def test_a_campaign_without_values_has_a_report_all_the_same() -> None:
    built = graph_of(config(("formats",), values=()))
    assert built.report is not None and not any(step.kind == "eval" for step in built.steps)
    assert all(step.kind == "export" for _, step in built.cells) and len(built.evals) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evals": ("agentik",)}, r"no eval 'agentik'; did you mean agentic\?; those in `evals` are agentic, ep"),
        ({"evals": ("agentic",), "judge": None}, r"evals\.agentic: agentic is judged .*: give judge\.model"),
        ({"evals": ("open_qa",)}, r"evals\.open_qa\.spec: name the spec .* of affordability, america"),
        (
            {"evals": ("open_qa",), "changes": {"open_qa": {"spec": "amerika"}}},
            r"'amerika' is none .*; did you mean america\?",
        ),
        ({"evals": ("agentic",), "changes": {"agentic": {"spec": "america"}}}, r"agentic\.spec: .* leave it out"),
        ({"evals": ("formats",), "changes": {"formats": {"of": "agentic"}}}, r"formats\.of: .* leave it out"),
        (
            {"evals": ("formats",), "changes": {"formats": {"agent": "Nova"}}},
            r"formats\.agent: formats does not use it",
        ),
        (
            {"evals": ("direction",), "changes": {"direction": {"samples": 3}}},
            r"direction\.samples: direction does not",
        ),
        ({"evals": ("reasoning",)}, r"evals\.reasoning\.of is agentic, which is not among campaign\.evals"),
        (
            {"evals": ("reasoning",), "changes": {"reasoning": {"of": "choice"}}},
            r"of is choice: name an eval .*agentic, episodes",
        ),
        ({"evals": ("choice",), "values": ()}, r"evals\.choice: .* campaign\.values, and there are none"),
        ({"prompted": ("inti",)}, r"campaign\.prompted: 'inti' is none of campaign\.arms; did you mean init\?"),
        ({"prompted": ("msm+aft",)}, r"campaign\.prompted: msm\+aft is trained on a spec already"),
        ({"evals": ("formats", "formats")}, r"campaign\.evals lists formats twice"),
    ],
)
def test_evals_that_do_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config(**settings)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+evals.x={task: agentik}", r"evals\.x\.task: .*'agentik'; did you mean 'agentic'\?"),
        ("evals.agentic.sampels=3", r"did you mean 'evals\.agentic\.samples'"),
    ],
)
def test_misspelt_settings_of_evals(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(["campaign=demo", override])
