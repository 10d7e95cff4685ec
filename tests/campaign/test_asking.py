"""How long trained models are asked: by the formula, and by what finished sample steps took where there are some."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from pytest import approx

from msm_hpc.base.files import write_json
from msm_hpc.campaign.array_requests import MARGIN, MINUTES_TO_START, SubmissionPlan, request_of
from msm_hpc.campaign.asking import AskingStep, askings, sampling_minutes
from msm_hpc.campaign.outlook import outlook
from msm_hpc.campaign.preflight.budget import check_budget
from msm_hpc.campaign.views.ledger import ledger
from msm_hpc.cli.views.judging import asking_lines
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.evals import SampleConfig
from msm_hpc.evals.sampling import Summary
from msm_hpc.graph.arrays import plan_arrays
from msm_hpc.graph.build import Graph
from msm_hpc.graph.bundles import plan_bundles
from msm_hpc.graph.steps import Step
from msm_hpc.serving.device import Device
from msm_hpc.store.store import Store
from tests.campaign.test_outlook import finish
from tests.composed import graph_of, load_config

AGENTIC = (
    *(
        "campaign=agentic",
        "evals.agentic.shares=1",
        "cluster=h200",
        "model=qwen2_5_7b",
        "campaign.seeds=[0]",
        "campaign.contrast=[]",
    ),
    *("campaign.arms=[init,base]", "campaign.compare={}", "campaign.prompted=[]", "campaign.evals=[agentic,formats]"),
)
H200 = Device("NVIDIA H200", 1)


@pytest.fixture(scope="module")
def composed() -> tuple[Graph, Cluster]:
    config = load_config(AGENTIC)
    return graph_of(config), config.cluster


def sampled(graph: Graph, task: str) -> list[Step]:
    steps = [step for step in graph.steps if isinstance(step.config, SampleConfig)]
    return [step for step in steps if step.config.task == task]


def sample(store: Store, graph: Graph, step: Step, device: Device = H200, new: int = 1000) -> None:
    """A finished step with 100 samples of 10 tokens; ``new`` of these tokens took 50 s, the rest came before."""
    store.register(graph.steps)
    summary = Summary(100, 5000, 1000, new, 50.0, 7.0, device)
    write_json(finish(store, step, 60) / "summary.json", asdict(summary))


def by_step(found: Sequence[AskingStep]) -> dict[str, AskingStep]:
    return {each.step.id: each for each in found}


def test_before_anything_ran_the_formula_says_it(composed: tuple[Graph, Cluster], store: Store) -> None:
    graph, cluster = composed
    found = askings(graph, store, cluster)
    assert [(each.replies, each.by) for each in found if each.step.config.task == "agentic"] == [(8100, "formula")] * 2
    assert all(each.seconds is not None and each.seconds > 60 for each in found)
    assert sampling_minutes(found) == {}, "a formula asks for no time"
    (line,) = asking_lines(found, cluster)
    hours = sum(each.seconds or 0 for each in found) / 3600
    assert line == (
        "To be sampled from trained models: 110 replies of at most 512 tokens, 16,200 replies of at most 4,096 tokens, "
        f"33.2M tokens if 50% of that; {hours:.3g} GPU-hours by formula (50% of the GPU's memory bandwidth and MFU 35% "
        "assumed)"
    )


def test_a_step_that_outlasts_its_time_limit_is_said(composed: tuple[Graph, Cluster], store: Store) -> None:
    graph, cluster = composed
    short = replace(cluster, resources=replace(cluster.resources, of_stage={"sample": {"time_minutes": 3}}))
    (line,) = asking_lines(askings(graph, store, short), short)
    assert line.endswith(
        ". 2 of 4 steps take longer than cluster.resources.of_stage.sample.time_minutes, are requeued and resume: "
        "raise it, or give evals.NAME.shares"
    )


def test_own_runs_win_and_are_scaled_by_what_is_left(composed: tuple[Graph, Cluster], store: Store) -> None:
    graph, cluster = composed
    first, second = sampled(graph, "agentic")
    sample(store, graph, first)
    found = by_step(askings(graph, store, cluster))
    assert first.id not in found
    assert (found[second.id].by, found[second.id].seconds) == ("own runs", 7 + 8100 * 0.5)
    assert {found[step.id].by for step in sampled(graph, "formats")} == {"formula"}, "another task"
    assert sampling_minutes(found.values()) == {second.identity: approx((7 + 8100 * 0.5) / 60)}
    (line,) = asking_lines([*found.values()], cluster)
    assert "1.13 GPU-hours by own runs" in line and "by formula (" in line
    with_fewer = graph_of(load_config([*AGENTIC, "evals.agentic.samples=3"]))
    assert by_step(askings(with_fewer, store, cluster))[sampled(with_fewer, "agentic")[0].id].seconds == 7 + 81 * 0.5


@pytest.mark.parametrize("device", [Device("CPU"), Device("NVIDIA A100-SXM4-80GB", 1), Device("NVIDIA H200", 2)])
def test_other_hardware_forecasts_nothing(composed: tuple[Graph, Cluster], store: Store, device: Device) -> None:
    graph, cluster = composed
    sample(store, graph, sampled(graph, "agentic")[0], device)
    assert {each.by for each in askings(graph, store, cluster)} == {"formula"}


def test_a_resumed_step_counts_for_what_it_asked_itself(composed: tuple[Graph, Cluster], store: Store) -> None:
    graph, cluster = composed
    first, second = sampled(graph, "agentic")
    sample(store, graph, first, new=500)
    assert by_step(askings(graph, store, cluster))[second.id].seconds == 7 + 8100 * 1.0
    elsewhere = Store(store.root / "elsewhere")
    sample(elsewhere, graph, first, new=0)
    assert by_step(askings(graph, elsewhere, cluster))[second.id].by == "formula", "all was answered before"


def test_a_summary_that_is_torn_forecasts_nothing(composed: tuple[Graph, Cluster], store: Store) -> None:
    graph, cluster = composed
    first, _ = sampled(graph, "agentic")
    sample(store, graph, first)
    (store.of(first).out / "summary.json").write_text("{")
    assert {each.by for each in askings(graph, store, cluster)} == {"formula"}


def test_without_gpus_it_is_known_once_one_has_run(composed: tuple[Graph, Cluster], store: Store) -> None:
    graph, _ = composed
    local = Cluster(launcher="local")
    found = askings(graph, store, local)
    assert {each.seconds for each in found} == {None}
    assert next(asking_lines(found, local)).endswith("; how long is known once one has run")
    sample(store, graph, sampled(graph, "agentic")[0], Device("CPU"))
    assert len(sampling_minutes(askings(graph, store, local))) == 1


def test_shares_take_their_part(store: Store) -> None:
    config = load_config([*AGENTIC, "evals.agentic.shares=4"])
    graph = graph_of(config)
    asked = [each for each in askings(graph, store, config.cluster) if each.step.config.task == "agentic"]
    assert [each.replies for each in asked] == [2025] * 8


def test_a_spec_in_the_prompt_takes_longer_and_one_that_has_moved_refuses_nothing(tmp_path: Path, store: Store) -> None:
    spec = tmp_path / "calm.md"
    spec.write_text("---\nname: calm\n---\n# Calm\n" + "The assistant is calm.\n" * 2000)
    specs = f"campaign.specs=[{{name: calm, file: {spec}}}]"
    config = load_config([*AGENTIC, specs, "campaign.arms=[init,prompted]", "campaign.prompted=[prompted]"])
    graph = graph_of(config)

    def seconds() -> dict[bool, float | None]:
        asked = (each for each in askings(graph, store, config.cluster) if each.step.config.task == "agentic")
        return {"spec" in each.step.inputs: each.seconds for each in asked}

    there = seconds()
    spec.unlink()
    assert (there[True] or 0) > 2 * (there[False] or 0) and seconds()[True] == there[False]


def test_what_is_left_and_the_budget_have_it(composed: tuple[Graph, Cluster], store: Store) -> None:
    graph, cluster = composed
    found = askings(graph, store, cluster)
    none = ledger([], on_gpus=False)
    without, left = (outlook(graph, store, cluster, (), none, asked) for asked in ((), found))
    hours = sum(each.seconds or 0 for each in found) / 3600
    assert left.hours == approx(hours) and left.seconds > 0
    assert "sample" in without.unknown and "sample" not in left.unknown
    several = replace(cluster, resources=replace(cluster.resources, of_stage={"sample": {"gpus_per_rank": 2}}))
    assert outlook(graph, store, several, (), none, found).hours == approx(2 * hours), "each has two GPUs"
    refused = check_budget(store, replace(cluster, budget_gpu_hours=0.5), left).problem
    assert refused and re.search(r"cluster.budget_gpu_hours is 0.5, .* takes \d+\.\d+ by forecast", refused)


def test_jobs_ask_for_the_time_of_own_runs(composed: tuple[Graph, Cluster], store: Store) -> None:
    graph, cluster = composed
    first, second = sampled(graph, "agentic")
    sample(store, graph, first)
    minutes = sampling_minutes(askings(graph, store, cluster))

    def asked(steps: Sequence[Step]) -> int | None:
        arrays = plan_arrays(plan_bundles(steps, lambda step: None, 60), 1000, cluster.resources)
        plan = SubmissionPlan("demo", arrays, 0, {}, {}, {}, (), (), minutes)
        return request_of(arrays[0], [""], plan, store, cluster, None).minutes

    assert asked([second]) == -(-MARGIN * minutes[second.identity] // 1) + MINUTES_TO_START
    assert asked([second, *sampled(graph, "formats")]) is None, "of one it is not known"


def test_pairs_are_scored_by_the_formula_once_they_are_here(tmp_path: Path, store: Store) -> None:
    preferences = ("campaign=reproduce_cheese", "cluster=h200", "campaign.seeds=[0]", "campaign.evals=[]")
    config = load_config([*preferences, f"root={store.root}"])
    found = askings(graph_of(config), store, config.cluster)
    assert found and all(each.seconds is not None and 60 < each.seconds < 600 for each in found)
    (line,) = asking_lines(found, config.cluster)
    assert line.startswith(f"Preferences of {len(found)} models to be scored, before one has been: ")
    demo = load_config(["campaign=demo", "cluster=h200", "campaign.seeds=[0]", f"root={store.root}"])
    waiting = askings(graph_of(demo), store, demo.cluster)
    assert waiting and {each.seconds for each in waiting} == {None}, "their pairs are still to be made"
