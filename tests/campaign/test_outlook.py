"""What is left of a campaign: trainings by those that are finished, other steps by what theirs took before."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from pytest import approx

from msm_hpc.base.files import write_json, write_text
from msm_hpc.base.progress import FILE, Progress
from msm_hpc.campaign.measured import finished_trainings
from msm_hpc.campaign.needs import Rows, Training, trainings
from msm_hpc.campaign.outlook import Outlook, outlook
from msm_hpc.campaign.views.ledger import ledger, tries_at
from msm_hpc.cli.main import main
from msm_hpc.config.cluster import Cluster, Resources, WorkClasses
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef
from msm_hpc.planner.forecast import Forecast
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store
from tests.composed import graph_of, load_config

START = "2026-01-01T00:00:00+00:00"
DEMO = ("campaign=demo", "campaign.seeds=[0,1]", "campaign.arms=[aft]", "campaign.contrast=[]")


def finish(store: Store, step: Step, seconds: float) -> Path:
    """A step that took so many seconds; returns its result."""
    end = (datetime.fromisoformat(START) + timedelta(seconds=seconds)).isoformat()
    folder = store.of(step)
    store.register((step,))
    folder.write_attempt(1, Attempt(JobRef("local", "1"), "n1", step.ranks, None, "", START, end, "done"))
    folder.out.mkdir()
    write_json(folder.path / "done.json", {"files": {}, "attempt": 1, "at": START})
    return folder.out


def train(store: Store, step: Step, seconds: float, of_steps: float, device: str = "CPU") -> None:
    """A finished training whose 40 optimizer steps took ``of_steps`` seconds."""
    out = finish(store, step, seconds)
    progress = Progress(40, 40, "optimizer steps", 0, {"training": of_steps})
    write_text(store.of(step).attempt(1).path / FILE, json.dumps(asdict(progress)))
    summary = {"steps": 40, "seconds": of_steps, "device": device}
    write_json(out / "summary.json", summary)


def left(graph: Graph, store: Store, cluster: Cluster, found: tuple[Training, ...] = ()) -> Outlook:
    in_ranks = ledger(tries_at(map(store.of, graph.steps)), on_gpus=False)
    return outlook(graph, store, cluster, found, in_ranks)


def of_stage(graph: Graph, stage: str) -> list[Step]:
    return [step for step in graph.steps if step.stage == stage]


def test_trainings_are_forecast_by_those_that_are_finished(store: Store) -> None:
    config = load_config([*DEMO, f"root={store.root}"])
    graph = graph_of(config)
    assert not any(each.forecast for each in trainings(graph, store, config.cluster, {}))
    first, *_ = of_stage(graph, "aft")
    train(store, first, seconds=30, of_steps=20)
    found = {each.steps[0].stage: each for each in trainings(graph, store, config.cluster, {})}
    assert found["pretrain"].forecast is None, "its batch is another"
    forecast = found["aft"].forecast
    assert forecast is not None
    assert (forecast.seconds_per_step, forecast.mfu, forecast.by) == (0.5, None, "own trainings")


@pytest.mark.parametrize(
    ("device", "known"), [("CPU", False), ("NVIDIA A100-SXM4-80GB", False), ("NVIDIA H100 80GB HBM3", True)]
)
def test_what_ran_on_other_hardware_forecasts_nothing(store: Store, device: str, known: bool) -> None:
    config = load_config([*DEMO, f"root={store.root}"])
    graph = graph_of(config)
    first, *_ = of_stage(graph, "aft")
    train(store, first, seconds=30, of_steps=20, device=device)
    on_h100 = replace(config.cluster, gpu="h100", resources=WorkClasses(gpu_train=Resources(gpus_per_node=8)))
    assert (finished_trainings(store, on_h100).of(first) == 0.5) is known
    (store.of(first).out / "summary.json").write_text("{")
    assert not finished_trainings(store, on_h100).seconds


def test_what_is_left_adds_up(store: Store) -> None:
    """Of each stage one step was made: an aft with 10 s beside its steps, an export in 6 s, an eval in 4 s."""
    config = load_config([*DEMO, f"root={store.root}"])
    demo = graph_of(config)
    _, measured = demo.cells[0]
    group = next(each for each in trainings(demo, store, config.cluster, {}) if each.steps[0].stage == "aft")
    for step in demo.needed(store.done):
        if step.kind not in ("train", "export", "eval", "report"):
            finish(store, step, 1)
    for training in of_stage(demo, "pretrain"):
        train(store, training, seconds=20, of_steps=15)
    (export,) = (step for step in measured.parents if step.kind == "export")
    (aft,) = (step for step in export.parents if step.stage == "aft")
    train(store, aft, seconds=30, of_steps=20)
    finish(store, export, 6)
    finish(store, measured, 4)
    more = len(of_stage(demo, "aft")) - 1
    others = tuple(step for step in of_stage(demo, "aft") if step != aft)
    rows = Rows(40 * aft.config.global_batch_size, exact=True)
    found = (replace(group, steps=others, rows=rows, forecast=Forecast(0.5, None, "own trainings")),)
    of_training = 0.5 * 40 * aft.config.epochs
    seen = left(demo, store, config.cluster, found)
    assert (seen.unit, seen.unknown) == ("rank-hours", ("report",))
    assert seen.steps == 3 * more + 1
    assert 3600 * seen.hours == approx(more * (of_training + 10 + 6 + 4))
    waves = -(-more // 2)
    assert seen.seconds == approx(waves * (of_training + 10 + 6 + 4)), "two at a time, stage after stage"

    write_text(store.of(others[0]).attempt(1).out / FILE, json.dumps(asdict(Progress(10, 40, "optimizer steps"))))
    begun = left(demo, store, config.cluster, found)
    assert 3600 * (seen.hours - begun.hours) == approx(of_training / 4)

    assert left(demo, store, config.cluster).unknown == ("aft", "report")
    on_gpus = replace(config.cluster, resources=WorkClasses(gpu_train=Resources(gpus_per_node=8), gpu_eval=Resources()))
    on_a_gpu = left(demo, store, on_gpus, found)
    assert on_a_gpu.unit == "GPU-hours"
    assert 3600 * on_a_gpu.hours == approx(more * (of_training + 10) - of_training / 4)


@pytest.mark.parametrize(("nodes", "a_rank", "at_once"), [(1, 1, 8), (1, 4, 2), (2, 4, 4), (100, 4, 12), (1, 16, 1)])
def test_evals_run_at_once_as_nodes_have_gpus_for_them(store: Store, nodes: int, a_rank: int, at_once: int) -> None:
    """12 jobs may run at once, each on so many GPUs of nodes of eight."""
    seeds = f"campaign.seeds={[*range(13)]}"
    config = load_config([*DEMO, seeds, f"root={store.root}", "cluster=slurm", "cluster.array_parallelism=12"])
    graph = graph_of(config)
    first, *others = of_stage(graph, "eval")
    assert len(others) == 12
    finish(store, first, 60)
    evals = Resources(gpus_per_node=8, gpus_per_rank=a_rank)
    classes = WorkClasses(gpu_train=Resources(gpus_per_node=8), gpu_eval=evals)
    seen = left(graph, store, replace(config.cluster, nodes=nodes, resources=classes))
    assert seen.seconds == approx(60 * -(-len(others) // at_once))
    assert 3600 * seen.hours == approx(60 * a_rank * len(others))


def test_plan_ends_in_one_line_and_status_has_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = [*DEMO, f"root={tmp_path}"]
    assert main(["plan", *where]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("MiB of disk; rank-hours and wall time are not known before steps of each stage have run")
    store, graph = Store(tmp_path), graph_of(load_config(where))
    finish(store, of_stage(graph, "tokenize")[0], 3600)
    assert main(["plan", *where]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    count = len(of_stage(graph, "tokenize")) - 1
    assert last.startswith(f"In all: {count} rank-hours, 60 minutes of wall time at cluster.slots=2 ")
    assert "not counting generate, " in last
    assert main(["status", *where]) == 0
    shown = capsys.readouterr().out
    assert "\nrank-hours: 1 spent (other work 1)\n" in shown
    assert f"\nrank-hours left by forecast: {count}, not counting " in shown
    assert main(["report", *where]) == 0
    shown = capsys.readouterr().out
    assert "\nrank-hours: 1 spent (other work 1)\nrank-hours by arm: " in shown and "left" not in shown


def test_what_cannot_be_told_refuses_no_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = [*DEMO, f"root={tmp_path}", "stages.aft.layout=auto"]
    store, graph = Store(tmp_path), graph_of(load_config(where))
    finish(store, of_stage(graph, "tokenize")[0], 3600)
    assert main(["status", *where]) == 0
    assert "left by forecast" not in capsys.readouterr().out
