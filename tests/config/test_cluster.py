from __future__ import annotations

from dataclasses import fields, replace
from typing import get_args

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Changes, LauncherName, Resources, Work
from msm_hpc.launch.launcher import LAUNCHERS
from tests.composed import load_config

RESOURCES = "cluster.resources"


def test_a_class_of_work_takes_what_it_does_not_set_from_the_one_before() -> None:
    resources = load_config(
        [
            "cluster=slurm",
            f"{RESOURCES}.cpu.account=alignment",
            f"{RESOURCES}.cpu.sbatch.reservation=night",
            f"{RESOURCES}.gpu_train.partition=h100",
            f"{RESOURCES}.gpu_train.gpus_per_node=8",
            f"{RESOURCES}.gpu_eval.time_minutes=30",
        ]
    ).cluster.resources
    cpu = Resources(account="alignment", sbatch={"reservation": "night"})
    train = replace(cpu, partition="h100", gpus_per_node=8)
    assert (resources.cpu, resources.gpu_train) == (cpu, train)
    assert resources.gpu_eval == replace(train, time_minutes=30)


def test_a_class_of_work_can_return_to_the_default_of_the_site() -> None:
    overrides = [f"{RESOURCES}.cpu.partition=small", f"{RESOURCES}.gpu_train.partition=null"]
    resources = load_config(["cluster=slurm", *overrides]).cluster.resources
    assert (resources.cpu.partition, resources.gpu_train.partition) == ("small", None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"{RESOURCES}.cpu.memory_gb=-1", r"^cluster.resources.cpu.memory_gb: [^\n]*got -1$"),
        (f"{RESOURCES}.gpu_train=8", r"^cluster.resources.gpu_train: [^\n]*got 8$"),
        (f"{RESOURCES}.gpu_evil.memory_gb=1", r"did you mean"),
    ],
)
def test_a_mistake_is_reported_once_where_it_is(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(["cluster=slurm", override])


def test_every_launcher_has_a_name_in_the_schema() -> None:
    assert set(LAUNCHERS) == set(get_args(LauncherName))


def test_a_stage_and_a_model_have_resources_of_their_own() -> None:
    resources = load_config(
        [
            "cluster=slurm",
            f"{RESOURCES}.gpu_train={{partition: h100, time_minutes: 720}}",
            f"{RESOURCES}.of_stage.aft={{time_minutes: 120, partition: null}}",
            f"{RESOURCES}.of_stage.tokenize.memory_gb=16",
            f"{RESOURCES}.of_model.qwen2_5_32b={{gpu_train: {{time_minutes: 2880}}, aft: {{time_minutes: 300}}}}",
        ]
    ).cluster.resources

    def found(work: Work) -> tuple[str | None, int, float]:
        given = resources.of(work)
        return given.partition, given.time_minutes, given.memory_gb

    assert found(Work("gpu_train", "midtrain", "tiny")) == ("h100", 720, 4)
    assert found(Work("gpu_train", "aft", "tiny")) == (None, 120, 4)
    assert found(Work("gpu_train", "midtrain", "qwen2_5_32b")) == ("h100", 2880, 4)
    assert found(Work("gpu_train", "aft", "qwen2_5_32b")) == (None, 300, 4)
    assert found(Work("cpu", "tokenize")) == (None, 60, 16)
    big = Work("gpu_train", "aft", "qwen2_5_32b")
    keys = [resources.key(big, item) for item in ("time_minutes", "partition", "memory_gb")]
    assert keys == [
        f"{RESOURCES}.of_model.qwen2_5_32b.aft.time_minutes",
        f"{RESOURCES}.of_stage.aft.partition",
        f"{RESOURCES}.gpu_train.memory_gb",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "of_stage.aff.time_minutes=5",
            r"^cluster.resources.of_stage: no 'aff'; did you mean aft\?; there are pretrain, midtrain, aft, audit",
        ),
        ("of_stage.train.time_minutes=5", r"^cluster.resources.of_stage: no 'train'; did you mean pretrain\?; "),
        ("of_stage.aft.time_minutes=-5", r"^cluster.resources.of_stage.aft.time_minutes: [^\n]*got -5$"),
        ("of_stage.aft.time_minuts=5", r"^cluster.resources.of_stage.aft.time_minuts: unknown key; did you mean"),
        ("of_stage.aft.gpus_per_node=5", r"^cluster.resources.of_stage.aft.gpus_per_node: unknown key"),
        (
            "of_model.qwen.cpu.memory_gb=5",
            r"^cluster.resources.of_model: no model 'qwen'; did you mean qwen\w+\?; there are tiny, llama3_1_8b, ",
        ),
        (
            "of_model.tiny.gpu={}",
            r"^cluster.resources.of_model.tiny: no 'gpu'; did you mean cpu\?; there are cpu, gpu_train, gpu_eval, pre",
        ),
    ],
)
def test_what_no_stage_or_model_has_is_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(["cluster=slurm", f"{RESOURCES}.{override}"])


def test_changes_have_the_names_of_resources_but_for_gpus() -> None:
    assert Changes.__annotations__.keys() == {item.name for item in fields(Resources)} - {"gpus_per_node"}
