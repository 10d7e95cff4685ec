from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.compose import config_folder, load_config

CHOICES = [
    (group, path.stem)
    for group in ("campaign", "model", "cluster", "precision", "lora")
    for path in sorted((config_folder() / group).glob("*.yaml"))
]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_file_of_the_tree_composes(group: str, choice: str) -> None:
    load_config([f"{group}={choice}"])


def test_overrides_reach_fields_that_no_file_mentions() -> None:
    assert load_config(["midtrain.clip_grad=0.5"]).midtrain.clip_grad == 0.5
    assert load_config(["cluster.additional.reservation=night"]).cluster.additional == {"reservation": "night"}
    assert load_config(["aft.samples=[1,2]"]).aft.samples == (1, 2)
    assert load_config(["root=/elsewhere"]).root == Path("/elsewhere")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("aft.sample=3", r"unknown key 'aft.sample'; did you mean 'aft.samples'"),
        ("midtrain.lr=1", r"unknown key 'midtrain.lr'; did you mean 'midtrain.learning_rate'\?"),
        ("midtrain.optimizer.lr=1", r"did you mean 'midtrain.learning_rate'\?"),
        ("aft.tp=2", r"did you mean 'aft.layout.tensor_parallel'\?"),
        ("root=/my runs ü", r"cannot read the override .* quote the whole override for the shell"),
        ("+campaign.colour=red", r"unknown key 'campaign.colour'"),
        ("model=gpt5", r"(?s)Could not find 'model/gpt5'.*Available options.*smollm2_135m.*tiny"),
        ("aft.samples=[1,x]", r"aft.samples.1: input should be a valid integer, .* got 'x'"),
        ("precision=fp8", r"Could not find 'precision/fp8'"),
        ("midtrain.precision=fp16", r"midtrain.precision: input should be 'fp32', .* got 'fp16'; did you mean 'bf16'"),
        ("aft.precision=fp8_tensor", r"got 'fp8_tensor'; did you mean 'fp8_tensorwise'"),
        ("aft.fp8_emulated=true", r"fp8_emulated is set, but precision is fp32: there is nothing to emulate"),
        ("cluster.gpu=h10", r"cluster.gpu: input should be 'a100', .* got 'h10'; did you mean 'h100'"),
        ("nonsense", r"'nonsense' is not an override; write key=value"),
        ("campaign.seeds=[0", r"cannot read the override 'campaign.seeds=\[0'"),
        ("campaign.seeds=[]", r"campaign: campaign.seeds is empty"),
        ("campaign.seeds=[0,1,0]", r"campaign: campaign.seeds lists 0 twice: remove one"),
        ("campaign.arms=[aft,aft]", r"campaign.arms lists aft twice"),
        ("campaign.specs=[{name: a},{name: a}]", r"campaign.specs lists a twice"),
        ("aft.samples=[]", r"aft: aft.samples is empty: give at least one"),
        ("eval.answer=yes", r"eval: answer 'yes' has no place for the option"),
        ("eval.batch_size=3", r"eval.batch_size: input should be greater than or equal to 4"),
        ("aft.learning_rate=inf", r"aft.learning_rate: input should be a finite number"),
        ("tokenize.tasks=0", r"tokenize.tasks: input should be greater than 0, got 0"),
        ("campaign.name=../x", r"campaign.name: string should match pattern"),
        ("campaign=null", r"must be a string or a list"),
        ("model.architecture.num_attention_heads=3", r"model.architecture: num_attention_heads 3 does not divide"),
        ("model.architecture.num_key_value_heads=3", r"num_key_value_heads 3 does not divide num_attention_heads 4"),
        ("pretrain=null", r"a model from scratch needs a pretrain section"),
        ("pretrain.lora={rank: 8}", r"pretrain.lora is set, but pretraining starts from no model to adapt"),
        ("midtrain.lora={rank: 8}", r"midtrain.lora is Lora\(rank=8, .* and aft.lora is None, but fine-tuning goes on"),
        ("midtrain.micro_batch_size=3", r"midtrain: global_batch_size 8 is not a multiple of micro_batch_size 3"),
        ("aft.seed=3", r"aft: seed is 3, but this stage is run once for each of campaign.seeds"),
        ("aft.layout.nodes=2", r"aft.layout: world size 1 .* does not divide over layout.nodes=2"),
        ("aft.layout.tensor_parallel=0", r"aft.layout.tensor_parallel: input should be greater than 0, got 0"),
        ("cluster.memory_gb=inf", r"cluster.memory_gb: input should be a finite number"),
        ("midtrain.layout=autoo", r"midtrain.layout: 'autoo' is no layout: give auto, or its parts"),
        ("layout=auto", r"unknown key 'layout': every training has its own; write midtrain.layout, aft.layout"),
        ("midtrain.wandb=''", r"midtrain.wandb: string should have at least 1 character"),
        ("aft.layout.sequence_parallel=true", r"sequence_parallel needs layout.tensor_parallel of at least 2"),
    ],
)
def test_what_is_wrong_is_refused_in_one_clear_line(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(["campaign=demo", override])


def test_weights_on_a_hub_need_a_commit() -> None:
    with pytest.raises(UserError, match=r"model.hf=org/name is a hub id .*: give model.revision, a commit"):
        load_config(["model=smollm2_135m", "model.hf=org/name"])
    assert load_config(["model=smollm2_135m", "model.hf=org/name", "model.revision=abc"]).model.from_hub


def test_a_mistyped_path_is_no_hub_id() -> None:
    with pytest.raises(UserError, match=r"model.hf=/no/such: there is no such folder; correct the path"):
        load_config(["model=smollm2_135m", "model.hf=/no/such", "model.revision=abc"])


def test_a_file_that_is_half_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "configs"
    shutil.copytree(config_folder(), tree)
    (tree / "campaign" / "half.yaml").write_text("# @package _global_\ncampaign:\n  arms: [init, base")
    monkeypatch.setattr("msm_hpc.config.compose.config_folder", lambda: tree)
    with pytest.raises(UserError, match=r"(?s)is no YAML; mend it: .*half\.yaml\", line 3"):
        load_config(["campaign=half"])


def test_an_unknown_key_in_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "configs"
    shutil.copytree(config_folder(), tree)
    with (tree / "cluster" / "local.yaml").open("a") as file:
        file.write("slotz: 3\n")
    monkeypatch.setattr("msm_hpc.config.compose.config_folder", lambda: tree)
    with pytest.raises(UserError, match=r"cluster.slotz: unknown key; did you mean 'cluster.slots'"):
        load_config([])
