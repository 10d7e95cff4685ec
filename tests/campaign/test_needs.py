"""What ``msm plan`` says of a campaign's trainings, the disk they need, and ``layout=auto`` in a campaign."""

from __future__ import annotations

import math
import re
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.auto_layout import Settled, settle
from msm_hpc.campaign.external_inputs import ExternalInputs
from msm_hpc.campaign.needs import Rows, trainings
from msm_hpc.cli.main import main
from msm_hpc.config.campaign import Config
from msm_hpc.graph.build import build_graph
from msm_hpc.store.store import Store
from tests.campaign.own_corpora import CHATS, write
from tests.composed import graph_of, load_config, past_preflight

AUTO = (
    "campaign=demo",
    "model=qwen3_14b",
    "cluster=slurm",
    "cluster.resources.gpu_train.gpus_per_node=8",
    "cluster.gpu=h100",
    "cluster.nodes=2",
    "cluster.resources.cpu.memory_gb=80",
    "stages.midtrain.layout=auto",
    "stages.aft.layout=auto",
)
Usage = namedtuple("Usage", ["total", "used", "free"])


def chosen_for(config: Config) -> Settled:
    return settle([config], lambda: graph_of(config))


def test_auto_is_a_layout_in_every_step_and_no_part_of_its_identity() -> None:
    settled = chosen_for(load_config(AUTO))
    assert [choice.split()[0] for choice in settled.choices] == [
        "stages.midtrain.layout=auto",
        "stages.aft.layout=auto",
    ]
    by_hand = load_config([each for each in AUTO if not each.endswith("=auto")])
    chosen, plain = graph_of(*settled.configs), graph_of(by_hand)
    assert [step.identity for step in chosen.steps] == [step.identity for step in plain.steps]
    assert all(step.ranks > 1 for step in chosen.steps if step.stage in ("midtrain", "aft"))


def test_auto_counts_all_trainings_of_the_stage_and_keeps_the_identity_of_each() -> None:
    arms = ("campaign.arms=[msm]", "campaign.contrast=[]")
    few, many = (load_config([*AUTO, *arms, f"campaign.seeds={[*range(count)]}"]) for count in (1, 8))
    of_few, of_many = chosen_for(few), chosen_for(many)
    assert "for 2 trainings, 2 at once" in of_few.choices[0], "of each spec one"
    assert "for 16 trainings, 4 at once" in of_many.choices[0]
    layouts = [settled.configs[0].stages["midtrain"].layout for settled in (of_few, of_many)]
    assert layouts[0].world_size > layouts[1].world_size
    assert graph_of(*of_few.configs).ids < {*graph_of(*of_many.configs).ids, graph_of(few).report.id}


def test_auto_leaves_no_field_of_the_layout_to_give() -> None:
    with pytest.raises(UserError, match=r"layout=auto chooses every part"):
        load_config([*AUTO[:-2], "stages.aft.layout={auto: true, tensor_parallel: 2}"])


def test_plan_shows_memory_and_time_and_the_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *AUTO, f"root={tmp_path / 'runs'}"]) == 0
    shown = capsys.readouterr().out
    assert "stages.midtrain.layout=auto is `'stages.midtrain.layout={" in shown
    assert "What trainings need" in shown and "of 80 GiB" in shown
    assert "unknown" in shown
    assert "#SBATCH" not in shown


def test_before_anything_ran_a_token_budget_tells_steps_and_hours(tmp_path: Path) -> None:
    """2,000,000 tokens in rows of 8,192 are 245 rows; held-out batches are not trained on."""
    budget = [
        *AUTO,
        "sources.replay.rows=0",
        "stages.midtrain.sequence_length=8192",
        "sources.documents.rows=null",
        "sources.documents.tokens=2_000_000",
        "campaign.arms=[msm,msm+aft]",
        "campaign.contrast=[msm+aft]",
    ]
    budget += ["stages.midtrain.epochs=1", "stages.midtrain.heldout={batches: 2}"]
    (config,) = chosen_for(load_config(budget)).configs
    found = trainings(graph_of(config), Store(tmp_path), config.cluster, {})
    trained = {each.steps[0].stage: each for each in found}
    midtrain, aft = trained["midtrain"], trained["aft"]
    batch = config.stages["midtrain"].global_batch_size
    assert midtrain.rows == Rows(245, exact=False)
    assert midtrain.optimizer_steps == math.ceil((245 - 2 * batch) / batch)
    assert midtrain.rank_hours is not None and midtrain.rank_hours > 0
    assert aft.rows is None and aft.rank_hours is None, "its chats are counted, not their tokens"


def test_too_few_steps_are_warned_of_before_anything_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget = [
        *("sources.replay.rows=0", "sources.documents.rows=null", "sources.documents.tokens=9000"),
        *("stages.midtrain.sequence_length=128", "stages.midtrain.global_batch_size=8", "stages.midtrain.epochs=1"),
    ]
    assert main(["plan", "campaign=demo", *budget, f"root={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    assert "about 9" in shown
    assert "fewer than" in shown


def test_too_little_disk_is_refused_before_anything_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, 2**30))
    assert main(["run", *AUTO, f"root={tmp_path / 'runs'}"]) == 2
    assert "1.0 GiB free, and the campaign still writes" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_tiny_disk_is_told_in_mib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, 2**20))
    assert main(["run", "campaign=demo", f"root={tmp_path / 'runs'}"]) == 2
    assert re.search(r"1\.0 MiB free, and the campaign still writes \d+\.\d MiB", capsys.readouterr().err)


def test_of_own_files_rows_are_forecast_from_a_sample(tmp_path: Path) -> None:
    """60 equal chats are a batch of rows; by their prefixes, 3 turns of each are more than 3 times the tokens."""
    turns = ("as_printed", "each_by_its_prefix")
    rows = {each: packed_of_own_chats(tmp_path, f"tokenize.turns={each}") for each in turns}
    assert rows["as_printed"].sampled and not rows["as_printed"].exact
    assert rows["each_by_its_prefix"].count > 1.5 * rows["as_printed"].count


def test_what_is_left_out_is_not_forecast(tmp_path: Path) -> None:
    without = [f"sources.{name}.without=['topic=cheese']" for name in ("chats", "instruction")]
    all_of_it, part = packed_of_own_chats(tmp_path), packed_of_own_chats(tmp_path, *without)
    assert part.count == pytest.approx(all_of_it.count / 3, abs=1)
    with pytest.raises(UserError, match=r"sources.chats.without leaves out all rows of .*chats.jsonl; name fewer"):
        packed_of_own_chats(tmp_path, "sources.chats.without=['topic=cheese', 'topic=tea']")


def packed_of_own_chats(tmp_path: Path, *overrides: str) -> Rows:
    talk = {"messages": CHATS[0]["messages"] * 3}
    for name in ("chats", "mix"):
        write(tmp_path / f"{name}.jsonl", [talk | {"topic": topic} for topic in ("cheese", "tea", "cheese")] * 20)
    files = [f"sources.chats.file={tmp_path}/chats.jsonl", f"sources.instruction.file={tmp_path}/mix.jsonl"]
    amounts = ["sources.chats.ladder=null", "sources.instruction.rows=null", *overrides]
    cells = ["campaign.arms=[aft]", "campaign.contrast=[]", "campaign.seeds=[3]"]
    config = load_config(["campaign=demo", *cells, *files, *amounts, f"root={tmp_path}"])
    external = ExternalInputs({})
    graph = build_graph([config], external)
    found = past_preflight([config], graph, external, graph.steps)
    *_, aft = trainings(graph, Store(tmp_path), config.cluster, found.packed)
    assert aft.rows is not None
    return aft.rows


def test_a_run_that_outlasts_its_time_limit_is_requeued_as_often_as_the_plan_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = [
        *("sources.replay.rows=0", "sources.documents.rows=null", "sources.documents.tokens=400_000_000"),
        "stages.midtrain.epochs=1",
    ]
    overrides = [*AUTO, *budget, "cluster.resources.gpu_train.time_minutes=30", f"root={tmp_path}"]
    (config,) = chosen_for(load_config(overrides)).configs
    midtrain = trainings(graph_of(config), Store(tmp_path), config.cluster, {})[0]
    assert midtrain.seconds is not None and midtrain.requeues == math.ceil(midtrain.seconds / 1800) - 1 > 0
    assert main(["plan", *overrides]) == 0
    assert f"{midtrain.requeues} requeue(s)" in capsys.readouterr().out
    local = replace(config.cluster, launcher="local")
    assert trainings(graph_of(config), Store(tmp_path), local, {})[0].requeues == 0
