from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step

GraphOf = Callable[..., Graph]


def ancestors(step: Step) -> set[str]:
    return {step.name}.union(*(ancestors(parent) for parent in step.parents))


def test_the_demo_has_every_arm_spec_and_seed_once(graph: GraphOf) -> None:
    cells = graph().report.config.cells
    of_each_spec = {"msm": 12, "msm+aft": 12, "mention+aft": 12}
    assert Counter(cell.arm for cell in cells) == {"init": 6, "base": 6, "aft": 6} | of_each_spec
    for arm in of_each_spec:
        assert {(cell.spec, cell.seed) for cell in cells if cell.arm == arm} == {
            (spec, seed) for spec in ("affordability", "america") for seed in range(6)
        }


def test_a_pretraining_that_is_trained_once_is_evaluated_once(graph: GraphOf) -> None:
    made = graph("stages.pretrain.once=true")
    assert Counter(cell.arm for cell in made.report.config.cells)["init"] == 1
    assert [step.name for step in made.steps if step.stage == "pretrain"] == ["pretrain/base"]


def test_the_demos_share_what_both_train(graph: GraphOf) -> None:
    demo, ladder = graph(), graph("campaign=demo_ladder")
    shared = {step.name for step in demo.steps if step.identity in {other.identity for other in ladder.steps}}
    for seed in range(6):
        assert f"pretrain/base/seed{seed}" in shared
        assert {f"midtrain/{spec}/msm/seed{seed}" for spec in ("affordability", "america")} <= shared


def test_arms_that_share_a_midtraining_share_one_step(graph: GraphOf) -> None:
    kinds = Counter(step.stage for step in graph().steps)
    assert kinds["midtrain"] == 2 * 2 * 6  # documents or mentions x specs x seeds; msm and msm+aft share the documents'
    assert kinds["pretrain"] == 6
    assert kinds["aft"] == kinds["export"] - 6 == kinds["eval"] - 6 == 48


def test_both_specs_are_fine_tuned_on_the_same_chats(graph: GraphOf) -> None:
    made = graph()
    plans = {made.find(f"aft/{spec}/msm+aft/75/seed0").inputs["plan"].identity for spec in ("affordability", "america")}
    assert plans == {made.find("aft/aft/75/seed0").inputs["plan"].identity}


def test_changing_the_aft_size_changes_only_what_depends_on_it(graph: GraphOf) -> None:
    before, after = graph(), graph("sources.chats.ladder=[50]")
    known = {step.identity for step in before.steps}
    new = [step for step in after.steps if step.identity not in known]
    assert {step.stage for step in new} == {"pack", "aft", "export", "eval", "report"}
    assert all("50" in step.name or step.stage == "report" for step in new)


def test_a_ladder_shares_everything_but_its_rungs(graph: GraphOf) -> None:
    ladder = graph("sources.chats.ladder=[25,50,75]")
    assert {step.identity for step in graph().steps} - {step.identity for step in ladder.steps} == {
        graph().report.identity
    }
    assert Counter(cell.size for cell in ladder.report.config.cells if cell.arm == "aft") == {
        25: 6,
        50: 6,
        75: 6,
    }


def test_the_initialisation_only_control_reads_no_fine_tuning(graph: GraphOf) -> None:
    names = ancestors(graph().find("eval/init/seed0"))
    assert not any(name.startswith(("aft/", "midtrain/")) for name in names)
    assert "pretrain/base/seed0" in names


def test_a_model_with_weights_of_its_own_has_no_pretraining(graph: GraphOf) -> None:
    stages = graph("model=smollm2_135m").stages
    assert "pretrain" not in stages
    assert not any("pretraining" in step.name for step in graph("model=smollm2_135m").steps)


def test_replaced_weights_are_another_model(graph: GraphOf, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    overrides = ("model=smollm2_135m", "model.package=null", f"model.folder={tmp_path}", "model.gguf_file=null")
    weights.write_text("before")
    before = graph(*overrides).find("model/smollm2_135m")
    assert graph(*overrides).find("model/smollm2_135m").identity == before.identity
    weights.write_text("afterwards")
    assert graph(*overrides).find("model/smollm2_135m").identity != before.identity


def test_how_the_path_of_weights_is_written_does_not_matter(
    graph: GraphOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").write_text("weights")
    (tmp_path / "link").symlink_to("weights")
    monkeypatch.chdir(tmp_path)
    places = (tmp_path / "weights", "weights", "./weights", tmp_path / "link")
    package = ("model=smollm2_135m", "model.package=null", "model.gguf_file=null")
    assert len({graph(*package, f"model.folder={place}").report.identity for place in places}) == 1


def test_find_knows_names_ids_and_their_beginnings(graph: GraphOf) -> None:
    made = graph()
    step = made.find("aft/base/seed0")
    assert made.find(step.id) is step
    assert made.find(step.id[:12]) is step
    with pytest.raises(UserError, match="no step 'aft/nonsense'"):
        made.find("aft/nonsense")
    with pytest.raises(UserError, match="start of 78 steps"):
        made.find("train/")
    with pytest.raises(UserError, match="there are aft/base/seed0, aft/base/seed1, aft/base/seed2 and 3 more;"):
        made.find("aft/base")
    with pytest.raises(UserError, match="there are aft/base/seed0,"):
        made.find("aft/bose/seed0")


def test_without_gpus_fp8_is_emulated_which_is_another_result_and_said_in_the_report(graph: GraphOf) -> None:
    on_cpu = graph("stages.midtrain.precision=fp8_delayed")
    on_gpus = graph(
        "stages.midtrain.precision=fp8_delayed", "cluster=slurm", "cluster.resources.gpu_train.gpus_per_node=8"
    )
    name = "midtrain/america/msm/seed0"
    assert on_cpu.find(name).config.fp8_emulated and not on_gpus.find(name).config.fp8_emulated
    assert on_cpu.find(name).identity != on_gpus.find(name).identity
    assert not on_cpu.find("pretrain/base/seed0").config.fp8_emulated
    assert ["fp8_delayed emulated on the CPU" in notice for notice in on_cpu.report.config.notices] == [False, True]
    assert len(on_gpus.report.config.notices) == len(graph().report.config.notices) == 1


def test_the_order_in_which_sources_are_written_does_not_matter(graph: GraphOf) -> None:
    mixed = "arms.aft=[{aft: [chats, instruction]}]"
    assert graph(mixed).find("eval/aft/75/seed0").identity == graph().find("eval/aft/75/seed0").identity


LADDER = ("model=qwen2_5_32b", "lora=r64", "sources.chats.ladder=[100,200,300]", "campaign.seeds=[0,1]")


def test_a_ladder_of_adapters_shares_one_export_of_its_base(graph: GraphOf) -> None:
    made = graph(*LADDER)
    kinds = Counter(step.kind for step in made.steps)
    adapters = [step for step in made.steps if step.kind == "export" and "base_model" in step.inputs]
    (base,) = {step.inputs["base_model"] for step in adapters}
    assert isinstance(base, Step) and base.name == "export/init" and base.inputs["checkpoint"] is made.find("model/")
    assert len(adapters) == kinds["export"] - 1 == kinds["eval"] - 1
    for step in (step for step in made.steps if step.kind == "eval" and step.name != "eval/init"):
        assert step.inputs["model"] == base and step.inputs["adapter"] in adapters


def test_an_adapter_is_trained_on_its_base_and_further_from_the_one_before(graph: GraphOf) -> None:
    made = graph(*LADDER)
    midtrain, aft = made.find("midtrain/america/msm/seed0"), made.find("aft/america/msm/seed0")
    assert midtrain.inputs["base"] is aft.inputs["base"] is made.find("model/")
    assert "checkpoint" not in midtrain.inputs and aft.inputs["checkpoint"] is midtrain


def test_the_base_of_an_adapter_is_the_last_stage_that_trains_all_weights(graph: GraphOf) -> None:
    made = graph(*LADDER, "stages.midtrain.lora=null")
    midtrain, aft = made.find("midtrain/america/msm/seed0"), made.find("aft/america/msm/seed0")
    assert "base" not in midtrain.inputs and midtrain.inputs["checkpoint"] is made.find("model/")
    assert aft.inputs["base"] is midtrain and "checkpoint" not in aft.inputs
    bases = {step.inputs["base_model"] for step in made.steps if step.kind == "export" and "base_model" in step.inputs}
    assert {base.name for base in bases if isinstance(base, Step)} == {
        "export/init",
        *(
            f"export/{spec}/{arm}/seed{seed}"
            for spec in ("affordability", "america")
            for arm in ("msm", "mention+aft")
            for seed in (0, 1)
        ),
    }


def test_a_merged_adapter_is_a_model_of_its_own(graph: GraphOf) -> None:
    made = graph(*LADDER, "export.merge=true")
    export = made.find("export/america/msm/seed0")
    assert export.inputs["base"] is made.find("model/") and "base_model" not in export.inputs
    assert made.find("eval/america/msm/seed0").inputs["model"] is export
    assert made.find("export/init").identity == graph(*LADDER).find("export/init").identity, "nothing to merge there"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "aft",
            "no step 'aft' in this campaign; there are aft/base/seed0, aft/base/seed1, aft/base/seed2 and 45 more;",
        ),
        ("america/msm/", "no step 'america/msm/' in this campaign; there are [^;]*/america/msm/seed0, "),
        ("afft/base/seed0", "no step 'afft/base/seed0' in this campaign; there are aft/base/seed0"),
        ("pack", r"'pack' is the start of 42 steps; give one of pack/\S+ \(pack/\w{16}\), .* and 39 more; `msm plan"),
        ("train/", r"'train/' is the start of 78 steps; give one of pretrain/base/seed0 \(train/\w{16}\), "),
    ],
)
def test_of_what_is_no_one_step_a_few_like_it_are_named(graph: GraphOf, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        graph().find(name)
