from __future__ import annotations

from collections.abc import Callable

import pytest

from msm_hpc.config.evals import SampleConfig
from msm_hpc.config.serving import Serving
from msm_hpc.config.stages import EvalConfig, ExportConfig, GenerateConfig
from msm_hpc.config.training import Layout, TrainConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.bundles import MOST_ASKED, MOST_PACKS, plan_bundles
from msm_hpc.graph.steps import Inputs, Step
from tokenization.packing.pack import PackConfig

GraphOf = Callable[..., Graph]


def weights(label: str) -> Step:
    return Step("generate", label, GenerateConfig(product=label), {})


def training(label: str, start: Step, tensor_parallel: int = 1, stage: str = "aft", **inputs: Step) -> Step:
    config = TrainConfig(seed=len(label), layout=Layout(tensor_parallel=tensor_parallel))
    return Step("train", label, config, {"model": start, "checkpoint": start, **inputs}, recipe=stage)


def export(trained: Step) -> Step:
    return Step("export", trained.label, ExportConfig(), {"checkpoint": trained})


def evaluation(exported: Step) -> Step:
    return Step("eval", exported.label, EvalConfig(), {"model": exported})


def pack(seed: int, **shards: Step) -> Step:
    inputs: Inputs = {"shards": shards}
    return Step("pack", f"seed{seed}", PackConfig(sequence_length=8, seed=seed, sources=()), inputs, recipe="")


def bundled(*steps: Step, minutes: float | None = None, most: float = 60) -> list[list[str]]:
    """The names of the steps of each bundle."""
    return [[step.name for step in each.steps] for each in plan_bundles(steps, lambda step: minutes, most)]


START = weights("start")
A, BB = training("a", START), training("bb", START)


def test_a_cell_is_one_job_from_its_training_to_its_evaluation() -> None:
    exported = export(A)
    assert bundled(A, exported, evaluation(exported)) == [["aft/a", "export/a", "eval/a"]]


def test_what_others_wait_for_does_not_wait_for_its_own_evaluation() -> None:
    exported = export(A)
    later = training("later", A, stage="erode")
    assert bundled(A, exported, evaluation(exported), later) == [
        ["aft/a"],
        ["export/a", "eval/a"],
        ["erode/later"],
    ]


def test_a_training_of_many_ranks_does_not_keep_them_for_its_evaluation() -> None:
    wide = training("wide", START, tensor_parallel=4)
    exported = export(wide)
    assert bundled(wide, exported, evaluation(exported)) == [["aft/wide"], ["export/wide", "eval/wide"]]


def test_short_trainings_from_the_same_weights_share_a_job_up_to_its_minutes() -> None:
    ladder = [training("x" * count, START) for count in range(1, 6)]
    assert [len(each) for each in bundled(*ladder, minutes=25, most=60)] == [2, 2, 1]
    assert [len(each) for each in bundled(*ladder, minutes=61, most=60)] == [1] * 5


@pytest.mark.parametrize(
    "other",
    [training("bb", weights("other")), training("bb", START, stage="erode"), training("bb", START, tensor_parallel=2)],
    ids=["other weights", "another stage", "more ranks"],
)
def test_trainings_that_differ_in_more_than_data_do_not_share_a_job(other: Step) -> None:
    assert len(bundled(A, other, minutes=1)) == 2


def test_a_training_whose_time_is_not_known_has_a_job_of_its_own() -> None:
    assert bundled(A, BB) == [["aft/a"], ["aft/bb"]]


def test_each_model_is_evaluated_before_the_next_is_trained() -> None:
    exports = [export(A), export(BB)]
    (names,) = bundled(A, BB, *exports, *map(evaluation, exports), minutes=1)
    assert names == ["aft/a", "export/a", "eval/a", "aft/bb", "export/bb", "eval/bb"]


def test_packs_of_the_same_shards_share_a_job() -> None:
    one, two = weights("one"), weights("two")
    packs = [pack(seed, one=one) for seed in range(MOST_PACKS + 1)]
    assert [len(each) for each in bundled(*packs, pack(0, two=two))] == [MOST_PACKS, 1, 1]


def asking(adapter: Step, base: Step, task: str = "agentic", share: int = 0, **serving: str) -> Step:
    config = SampleConfig(
        task=task,
        samples=1,
        temperature=1.0,
        max_tokens=9,
        prompts="",
        serving=Serving(**serving),
        share=share,
        shares=2,
    )
    return Step("sample", f"{adapter.label}/{task}/{share}", config, {"model": base, "adapter": adapter})


def test_evals_that_ask_a_server_of_one_base_share_a_job_and_shares_of_one_eval_do_not() -> None:
    base, other = weights("base"), weights("other")
    vllm = {"server": "vllm", "python": "python"}
    adapters = [export(training("a" * count, base)) for count in (1, 2, 3)]
    steps = [
        asking(each, base, task, share, **vllm)
        for each in adapters
        for task in ("agentic", "formats")
        for share in (0, 1)
    ]
    jobs = bundled(*steps, asking(adapters[0], other, **vllm))
    assert [len(each) for each in jobs] == [MOST_ASKED, MOST_ASKED, 2, 2, 1]
    assert all(len({name[-1] for name in each}) == 1 for each in jobs)
    assert jobs[0][:2] == ["sample/a/agentic/0", "sample/a/formats/0"]
    assert [len(each) for each in bundled(*[asking(each, base) for each in adapters])] == [1, 1, 1], "in the process"


def test_what_needs_a_later_bundle_does_not_join_an_earlier_one() -> None:
    """Else each would wait for the other."""
    made_of_it = Step("generate", "by the trained model", GenerateConfig(product="x"), {"model": A})
    second = training("bb", START, plan=made_of_it)
    assert bundled(A, made_of_it, second, minutes=1) == [["aft/a"], ["generate/by the trained model"], ["aft/bb"]]


def test_trainings_share_no_job_where_they_could_run_side_by_side() -> None:
    five = [training("x" * n, START) for n in range(1, 6)]
    wide = training("wide", START, tensor_parallel=2)

    def sizes(at_once: int) -> list[int]:
        bundles = plan_bundles([*five, wide], lambda step: 1.0, 60.0, lambda step: at_once // step.ranks)
        return [len(each.steps) for each in bundles]

    assert sizes(2) == [3, 2, 1]
    assert sizes(4) == [2, 2, 1, 1]
    assert sizes(8) == [1, 1, 1, 1, 1, 1]


def test_bundles_of_a_campaign_read_only_what_earlier_ones_make(graph: GraphOf) -> None:
    steps = graph("sources.chats.ladder=[100,200]", "campaign.arms=[init,base,msm,aft,msm+aft]").steps
    made: set[str] = set()
    bundles = plan_bundles(steps, lambda step: 1.0, 3.0)
    for bundle in bundles:
        assert {parent.identity for parent in bundle.parents} <= made
        for step in bundle.steps:
            assert {parent.identity for parent in step.parents} <= made
            made.add(step.identity)
    assert made == {step.identity for step in steps}
    assert len(bundles) < len(steps) / 2
