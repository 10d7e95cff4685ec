"""How long a model is asked: by hand where that is possible, and what makes it longer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pytest import approx

from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.config.serving import Serving
from msm_hpc.model.flops import step_flops
from msm_hpc.model.gpus import GPUS
from msm_hpc.planner.asking import SECONDS_A_LAYER, Placed, Requests
from msm_hpc.planner.forecast import ASSUMED_MFU
from tests.composed import load_config

VLLM, IN_PROCESS = Serving(server="vllm", python="python"), Serving()
ASKED = Requests(count=1000, prompt=500, most=1000, distinct=10)


@pytest.fixture(scope="module")
def placed() -> Placed:
    model = starting_model(load_config(["model=llama3_1_8b"]).model)
    assert model is not None
    return Placed(model, 2, "h100")


def test_writing_reads_all_weights_and_what_came_before_each_token(placed: Placed) -> None:
    """Of Llama-3.1-8B a token's keys and values have 2 x 2 x 32 x 1,024 bytes, and 128 replies are half done."""
    moved = placed.weights + 128 * 131_072 * (500 + 250)
    steps = 1000 * 500 / 128
    assert placed.writing(ASKED, VLLM) == approx(steps * moved / (0.5 * 3.35e12))


def test_a_step_of_very_many_replies_takes_as_long_as_its_operations(placed: Placed) -> None:
    many = replace(VLLM, in_flight=4096)
    short = Requests(4096, 1, 2, 1)
    computed = step_flops(placed.model, 4096, 0, lora=None) / 3 / GPUS["h100"].peak
    assert placed.writing(short, many) == approx(computed / 0.5)


def test_as_many_at_once_as_the_memory_holds(placed: Placed) -> None:
    """Longer replies are fewer at a time; on two GPUs there is more than twice the room beside the weights."""
    long = replace(ASKED, most=30_000)
    one, two = placed.writing(long, VLLM), replace(placed, gpus=2).writing(long, VLLM)
    assert one is not None and two is not None and one / two > 2
    assert placed.writing(replace(ASKED, most=500_000), VLLM) is None
    assert replace(placed, gpu="l40s", size=8).asking(ASKED, VLLM) is None, "the weights alone are too large"


def test_a_server_that_keeps_prefixes_reads_a_prompt_once(placed: Placed) -> None:
    other = Serving(server="command", command="serve {model} {port} {name}")
    flops = step_flops(placed.model, 990 * 500, 990 * 500**2, lora=None) / 3
    kept, again = placed.asking(ASKED, VLLM), placed.asking(ASKED, other)
    assert kept is not None and again is not None
    assert again - kept == approx(flops / (ASSUMED_MFU * GPUS["h100"].peak), rel=1e-3)


def test_in_process_a_batch_is_written_to_its_longest_reply_and_each_layer_is_launched(placed: Placed) -> None:
    few = replace(IN_PROCESS, batch=1)
    assert placed.writing(ASKED, few) == approx(1000 * 1000 * SECONDS_A_LAYER * 32)


def test_scoring_reads_the_weights_for_each_batch(placed: Placed) -> None:
    small, large = (placed.scoring(1e5, 50, at_once) - placed.loading for at_once in (512, 1 << 20))
    assert small == approx(1e5 / 512 * SECONDS_A_LAYER * 32)
    assert large == approx(placed.reading(1e5, 1e5 * 50))
