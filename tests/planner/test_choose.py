"""``layout=auto``, and what is refused because memory is short."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_text
from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.config.cluster import Cluster, Gpu, Resources, Work, WorkClasses
from msm_hpc.config.training import Layout, Lora, Recompute, TrainConfig
from msm_hpc.launch.local import LocalLauncher
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.gpus import GPUS
from msm_hpc.planner.capacity import trainings_at_once
from msm_hpc.planner.choose import MARGIN, best_few, check_memory, choose
from msm_hpc.planner.forecast import ASSUMED_MFU, Measured, forecast
from msm_hpc.planner.memory import worst_stage
from msm_hpc.planner.probe import TABLE, StepTime, folder_of
from tests.composed import load_config

WORK = Work("gpu_train")
EIGHT_H100 = Cluster(
    launcher="slurm", resources=WorkClasses(gpu_train=Resources(gpus_per_node=8)), gpu="h100", ranks_per_node=8
)
PAPER = TrainConfig(sequence_length=8192, global_batch_size=64)


def model(name: str) -> Transformer:
    found = starting_model(load_config([f"model={name}"]).model)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["llama3_1_8b", "qwen3_14b", "qwen2_5_32b"])
@pytest.mark.parametrize("nodes", [2, 16])
def test_the_choice_fits_with_a_margin_and_uses_every_gpu(name: str, nodes: int) -> None:
    found = choose(PAPER, model(name), replace(EIGHT_H100, nodes=nodes), WORK)
    layout = found.config.layout
    assert found.memory == worst_stage(found.config, model(name), on_gpu=True)
    assert found.memory.total <= MARGIN * GPUS["h100"].memory
    assert layout.world_size == 8 * nodes and layout.tensor_parallel <= 8
    assert found == choose(PAPER, model(name), replace(EIGHT_H100, nodes=nodes), WORK)


def test_no_layout_of_less_model_parallelism_would_have_fitted() -> None:
    found = choose(PAPER, model("llama3_1_8b"), EIGHT_H100, WORK)
    parallel = found.config.layout.world_size // found.config.layout.data_parallel
    assert parallel > 1
    alone = replace(PAPER, layout=Layout(data_parallel=8))
    assert worst_stage(alone, model("llama3_1_8b"), on_gpu=True).total > MARGIN * GPUS["h100"].memory


def test_an_adapter_needs_less_and_takes_less_parallelism() -> None:
    whole = choose(PAPER, model("qwen3_14b"), EIGHT_H100, WORK)
    adapter = choose(replace(PAPER, lora=Lora()), model("qwen3_14b"), EIGHT_H100, WORK)
    assert adapter.config.layout.data_parallel > whole.config.layout.data_parallel
    assert adapter.memory.optimizer < whole.memory.optimizer / 10


def test_what_cannot_fit_is_refused_with_its_parts_and_what_would() -> None:
    alone = replace(PAPER, layout=Layout(data_parallel=8))
    parts = r"aft needs [\d.]+ GiB a rank \(weights 15.0, gradients 29.9, optimizer 11.2, .*a h100 has 79.6 GiB"
    with pytest.raises(UserError, match=parts):
        check_memory("stages.aft", alone, model("llama3_1_8b"), EIGHT_H100, WORK)
    with pytest.raises(UserError, match=r"it fits with `'stages.aft.layout={tensor_parallel: 2, data_parallel: 4, seq"):
        check_memory("stages.aft", alone, model("llama3_1_8b"), EIGHT_H100, WORK)
    with pytest.raises(UserError, match=r"no layout fits on 1 node\(s\) of 1 ranks. Raise cluster.nodes, or use"):
        check_memory("stages.aft", alone, model("qwen3_32b"), replace(EIGHT_H100, ranks_per_node=1), WORK)
    fitting = choose(PAPER, model("llama3_1_8b"), EIGHT_H100, WORK).config
    check_memory("stages.aft", fitting, model("llama3_1_8b"), EIGHT_H100, WORK)


def test_on_a_laptop_the_fix_is_to_name_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalLauncher, "memory_of_rank", lambda *_: ("this machine", 4 * 2**30))
    laptop = Cluster(launcher="local", slots=2)
    here = r"fits on this machine with 2 ranks.*To plan or rehearse for a cluster, name it: cluster=h200"
    with pytest.raises(UserError, match=rf"^layout=auto: of \d+ layouts that divide, none {here}"):
        choose(PAPER, model("llama3_1_8b"), laptop, WORK)
    with pytest.raises(UserError, match=rf"aft needs .*; no layout {here}"):
        check_memory("stages.aft", replace(PAPER, layout=Layout()), model("llama3_1_8b"), laptop, WORK)


@pytest.mark.parametrize(
    ("runs", "nodes", "ranks", "at_once"),
    [
        (1, 4, 32, 1),  # alone, with all there is
        (64, 4, 1, 32),  # two rounds of 1, as eight of 1/4: fewer GPUs
        (24, 4, 4, 8),  # three rounds of 1/4, and not one of 1
        (8, 4, 4, 8),
        (9, 1, 8, 1),  # nine rounds of 1/8, and not two of 1
    ],
)
def test_trainings_share_the_gpus_so_that_all_of_them_end_first(
    runs: int, nodes: int, ranks: int, at_once: int
) -> None:
    cluster = replace(EIGHT_H100, gpu="h200", nodes=nodes)
    config = replace(PAPER, sequence_length=4096, lora=Lora())
    found = choose(config, model("llama3_1_8b"), cluster, WORK, runs=runs)
    assert (found.config.layout.world_size, found.at_once) == (ranks, at_once)
    assert ("" if runs == 1 else f" for {runs} trainings, {at_once} at once;") in found.why("stages.aft")


def test_many_trainings_do_not_go_where_they_must_compute_twice() -> None:
    """Qwen2.5-32B with an adapter fits on one H200 with recomputation, which costs more than to halve it."""
    qwen, cluster = model("qwen2_5_32b"), replace(EIGHT_H100, gpu="h200")
    config = replace(PAPER, global_batch_size=2, lora=Lora())
    layout = choose(config, qwen, cluster, WORK, runs=32).config.layout
    assert (layout.world_size, layout.tensor_parallel, layout.recompute) == (2, 2, "none")
    assert worst_stage(replace(config, layout=Layout(recompute="selective")), qwen, on_gpu=True).total < (
        MARGIN * GPUS["h200"].memory
    )


def test_no_more_run_at_once_than_jobs_may() -> None:
    few = replace(EIGHT_H100, gpu="h200", nodes=4, array_parallelism=4)
    config = replace(PAPER, sequence_length=4096, lora=Lora())
    found = choose(config, model("llama3_1_8b"), few, WORK, runs=64)
    assert (found.config.layout.world_size, found.at_once) == (8, 4)
    whole = replace(few, exclusive=True)
    found = choose(config, model("llama3_1_8b"), whole, WORK, runs=64)
    assert (found.config.layout.world_size, found.at_once) == (1, 32), "a job of a whole node does several"


def test_a_place_is_within_a_node_or_on_whole_ones() -> None:
    six = replace(EIGHT_H100, ranks_per_node=6, resources=WorkClasses(gpu_train=Resources(gpus_per_node=6)), nodes=3)
    assert trainings_at_once(six, Layout(data_parallel=4)) == 3
    assert trainings_at_once(six, Layout(data_parallel=2)) == 9
    assert trainings_at_once(six, Layout(data_parallel=12, nodes=2)) == 1
    assert trainings_at_once(six, Layout(data_parallel=24, nodes=4)) == 1, "given by hand"


def test_activations_are_recomputed_only_where_it_fits_no_otherwise() -> None:
    qwen, config = model("qwen2_5_32b"), replace(PAPER, lora=Lora())

    def chosen(gpus: int) -> Layout:
        few = WorkClasses(gpu_train=Resources(gpus_per_node=gpus))
        return choose(config, qwen, replace(EIGHT_H100, ranks_per_node=gpus, resources=few), WORK).config.layout

    assert (chosen(2).recompute, chosen(8).recompute) == ("selective", "none")
    two = replace(config, layout=replace(chosen(2), recompute="none"))
    assert worst_stage(two, qwen, on_gpu=True).total > MARGIN * GPUS["h100"].memory


@pytest.mark.parametrize(
    ("word", "again"), [("none", 0), ("selective", 2 * 3 * 14336), ("full", 2 * (3 * 14336 + 10240))]
)
def test_what_is_recomputed_takes_its_time_and_is_no_model_flops(word: Recompute, again: int) -> None:
    """Llama-3.1-8B: 6 operations a weight, 12 for a pair of tokens, and those of another forward pass."""
    llama = model("llama3_1_8b")
    plain = forecast(PAPER, llama, "h100")
    found = forecast(replace(PAPER, layout=Layout(recompute=word)), llama, "h100")
    scores = 12 * 32 * 4096 * 8192
    useful = 6 * (8_030_261_248 - 128_256 * 4096) + scores
    more = 32 * 4096 * again + (scores / 3 if word == "full" else 0)
    assert found.seconds_per_step / plain.seconds_per_step == pytest.approx(1 + more / useful)
    assert found.mfu / plain.mfu == pytest.approx(useful / (useful + more))


def test_auto_needs_to_know_the_gpu() -> None:
    with pytest.raises(UserError, match=r"set cluster.gpu"):
        choose(PAPER, model("llama3_1_8b"), replace(EIGHT_H100, gpu=None), WORK)


def test_a_row_that_no_layout_can_take_is_refused_for_its_length() -> None:
    with pytest.raises(UserError, match=r"sequence_length 262144 is longer than the model's max_position_embeddings"):
        choose(replace(PAPER, sequence_length=2**18), model("llama3_1_8b"), EIGHT_H100, WORK)


def test_what_was_probed_on_fewer_nodes_does_not_bind_more(tmp_path: Path) -> None:
    llama, more = model("llama3_1_8b"), replace(EIGHT_H100, nodes=2)
    first, second = best_few(PAPER, llama, EIGHT_H100, WORK, 2)
    measured = [StepTime(each.layout, each.micro_batch_size, 2.0 - n) for n, each in enumerate((first, second))]
    table = folder_of(tmp_path, PAPER, llama, EIGHT_H100) / TABLE
    write_text(table, json.dumps([asdict(each) for each in measured]))
    found = choose(PAPER, llama, EIGHT_H100, WORK, tmp_path)
    assert (found.config, found.measured) == (second, 2)
    assert choose(PAPER, llama, more, WORK, tmp_path).config.layout.world_size == 16


def test_every_gpu_of_the_schema_is_in_the_table() -> None:
    assert list(GPUS) == list(get_args(Gpu))
    with pytest.raises(UserError, match=r"cluster.gpu: .*got 'h10'.*did you mean 'h100'"):
        load_config(["cluster=slurm", "cluster.gpu=h10"])


def test_a_forecast_by_hand() -> None:
    """8B, 64 rows of 8,192 tokens on 8 H100: 6 N T + 12 L H D T S operations (N without the embedding)."""
    llama = model("llama3_1_8b")
    config = replace(PAPER, layout=Layout(data_parallel=8))
    tokens = 64 * 8192
    flops = 6 * (8_030_261_248 - 128_256 * 4096) * tokens + 12 * 32 * 4096 * tokens * 8192
    found = forecast(config, llama, "h100")
    assert found.seconds_per_step == pytest.approx(flops / (8 * 989e12 * ASSUMED_MFU))
    measured = forecast(config, llama, "h100", measured=Measured(2 * found.seconds_per_step, "probe"))
    assert measured.by == "probe" and measured.mfu == pytest.approx(ASSUMED_MFU / 2)
