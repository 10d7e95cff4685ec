"""A profile against what a Slurm cluster has: each line names the key, its value, what there is, and the fix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.preflight.site import look_at_site, site_notes, site_problems
from msm_hpc.config.cluster import Cluster
from msm_hpc.graph.build import Graph
from msm_hpc.graph.bundles import plan_bundles
from msm_hpc.graph.steps import Step
from msm_hpc.launch import slurm_commands
from msm_hpc.launch.slurm_site import Limits, Site, parse_accounts, parse_partitions, parse_qos
from tests.commands import Commands
from tests.composed import load_config, preflight
from tests.launch.test_slurm_site import SINFO

Build = Callable[..., Graph]
PARTITIONS, DEFAULT = parse_partitions(SINFO)
SITE = Site(PARTITIONS, DEFAULT, Limits(array_size=1001, jobs=10_000), {}, ())
ACCOUNTING = Site(
    PARTITIONS,
    DEFAULT,
    Limits(),
    parse_qos("normal||\nnight|02:00:00|5\n"),
    parse_accounts("safety|night,normal|normal|1-00:00:00|7\n"),
)
ON_H100 = (
    "cluster=slurm",
    "cluster.gpu=h100",
    "cluster.resources.gpu_train={partition: h100, gpus_per_node: 8, cpus_per_rank: 8, memory_gb: 100}",
    "stages.aft.layout={data_parallel: 8}",
    "stages.aft.global_batch_size=16",
)
GPU_TRAIN = "cluster.resources.gpu_train"


def composed(graph: Build, *overrides: str) -> tuple[tuple[Step, ...], Cluster]:
    return graph(*ON_H100, *overrides).steps, load_config([*ON_H100, *overrides]).cluster


def test_a_profile_that_fits_is_not_objected_to(graph: Build) -> None:
    assert [*site_problems(*composed(graph), SITE), *site_notes(*composed(graph), SITE)] == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            [f"{GPU_TRAIN}.partition=h200"],
            "partition=h200: there is no partition h200 here: set it to one of small, h100",
        ),
        ([f"{GPU_TRAIN}.partition=old"], "partition=old: old takes no jobs (drain): set it to one of small, h100"),
        (
            ["cluster.resources.cpu.time_minutes=1500"],
            "resources.cpu.time_minutes=1500: partition small gives at most 1440",
        ),
        (
            [f"{GPU_TRAIN}.cpus_per_rank=32"],
            "gpu_train.cpus_per_rank=32: aft has 8 rank(s) on a node, and those of partition h100 have at most 192 "
            "CPUs: set it to 24",
        ),
        (
            ["cluster.resources.of_stage.aft.memory_gb=300"],
            "of_stage.aft.memory_gb=300: aft has 8 rank(s) on a node, and those of partition h100 have at most "
            "2004 GiB of memory: set it to 250",
        ),
        (
            [f"{GPU_TRAIN}.partition=mixed", "cluster.gpu=null", "cluster.resources.gpu_train.time_minutes=30"],
            "gpu_train.gpus_per_node=8: aft has 8 rank(s) on a node, and those of partition mixed have at most 4 GPUs: "
            "set it to 4",
        ),
        (["cluster.gpu=h200"], "cluster.gpu=h200: partition h100 has nvidia_h100_80gb_hbm3"),
        ([f"{GPU_TRAIN}.constraint=nvlink"], "constraint=nvlink: no node of partition h100 has it: they have h100, ib"),
        (
            ["stages.aft.layout={data_parallel: 136, nodes: 17}", "stages.aft.global_batch_size=272"],
            "aft takes 17 node(s) of 64 CPUs, 800 GiB of memory, 8 GPUs, and partition h100 has 16",
        ),
        (["cluster.max_array_size=5000"], "cluster.max_array_size is 5000, but Slurm takes 1001 here"),
    ],
)
def test_what_the_site_does_not_have(graph: Build, overrides: list[str], said: str) -> None:
    problems = [*site_problems(*composed(graph, *overrides), SITE)]
    assert any(said in problem for problem in problems), problems


def test_no_default_partition(graph: Build) -> None:
    site = Site(PARTITIONS, None, Limits(), {}, ())
    (problem,) = site_problems(*composed(graph), site)
    assert (
        problem
        == "cluster.resources.cpu.partition=null: there is no default partition here: set it to one of small, h100"
    )


def test_no_partition_takes_jobs(graph: Build) -> None:
    drained = {name: replace(each, state="drain") for name, each in PARTITIONS.items()}
    problems = [*site_problems(*composed(graph), Site(drained, DEFAULT, Limits(), {}, ()))]
    assert problems[0] == (
        "cluster.resources.cpu.partition=null: small takes no jobs (drain), and none is up: ask who administers the "
        "cluster"
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["cluster.resources.cpu.account=other"], "resources.cpu.account=other: set it to one of yours, safety"),
        (["cluster.resources.cpu.qos=high"], "resources.cpu.qos=high: set it to one that you may use, night, normal"),
        (
            ["cluster.resources.cpu.qos=night", "cluster.resources.cpu.time_minutes=180"],
            "resources.cpu.time_minutes=180: QOS night gives at most 120: set it to that",
        ),
        ([f"{GPU_TRAIN}.time_minutes=1500"], "gpu_train.time_minutes=1500: account safety gives at most 1440"),
    ],
)
def test_what_accounting_does_not_allow(graph: Build, overrides: list[str], said: str) -> None:
    problems = [*site_problems(*composed(graph, *overrides), ACCOUNTING)]
    assert any(said in problem for problem in problems), problems


def test_notes_on_what_only_delays(graph: Build) -> None:
    steps, cluster = composed(graph, "cluster.resources.gpu_eval={partition: mixed, time_minutes: 20}")
    down, limit = site_notes(steps, cluster, ACCOUNTING)
    assert down == "partition mixed is down: jobs wait there until it is up"
    jobs = len(plan_bundles(steps, lambda step: None, 0))
    assert f"up to {jobs} jobs are to be queued, and Slurm takes 7 (MaxSubmitJobs of account safety) at a" in limit


WHOLE = ("cluster.exclusive=true", "stages.aft.layout={data_parallel: 2}", "stages.aft.global_batch_size=16")


def test_what_runs_side_by_side_needs_room_together(graph: Build) -> None:
    problems = [*site_problems(*composed(graph, *WHOLE, f"{GPU_TRAIN}.cpus_per_rank=32"), SITE)]
    said = "aft has 8 rank(s) on a node, and those of partition h100 have at most 192 CPUs: set it to 24"
    assert any(said in problem for problem in problems), problems


def test_what_stays_idle_of_whole_nodes_is_said(graph: Build) -> None:
    (cpus,) = site_notes(*composed(graph, *WHOLE), SITE)
    assert "of the 128 CPUs of one in partition small those of" in cpus and "use 8 at most" in cpus
    _, gpus = site_notes(*composed(graph, *WHOLE, "cluster.ranks_per_node=6"), SITE)
    assert "of the 8 GPUs of one in partition h100 those of" in gpus and "use 6 at most" in gpus


def test_slurm_that_does_not_answer_is_one_note(
    commands: Commands, graph: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_commands, "PAUSES", ())
    commands(sinfo="echo 'Unable to contact slurm controller' >&2; exit 1")
    (note,) = look_at_site(*composed(graph)).notes
    assert note.startswith("that the cluster has what the profile asks for is checked where its Slurm answers")
    assert "login node: sinfo failed: Unable to contact slurm controller" in note


def test_preflight_asks_the_site(commands: Commands) -> None:
    commands(sinfo=f"cat <<'X'\n{SINFO}\nX", scontrol="echo 'MaxArraySize = 11'")
    with pytest.raises(UserError, match=r"^cluster\.resources\.cpu\.partition=gone: there is no partition gone here"):
        preflight(load_config(["cluster=slurm", "cluster.resources.cpu.partition=gone"]))
