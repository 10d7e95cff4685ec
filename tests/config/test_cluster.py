from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import LauncherName, Resources
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
