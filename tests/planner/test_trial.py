"""Steps on random tokens, as a probe and the GPU benchmark run them."""

from __future__ import annotations

import gc
import os
import time
from dataclasses import replace

import pytest
import torch

from msm_hpc.config.stages import Architecture
from msm_hpc.config.training import Layout, TrainConfig
from msm_hpc.model.architecture import Transformer
from msm_hpc.planner.trial import RandomRows, trial
from msm_hpc.training.megatron import cpu
from msm_hpc.training.megatron.zigzag import row_shape

SHAPE = Architecture(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
MODEL = Transformer(shape=SHAPE, vocab_size=200, head_dim=8)
CONFIG = TrainConfig(sequence_length=32, global_batch_size=2)


def test_rows_are_full_of_whole_documents_of_random_lengths() -> None:
    rows = RandomRows(rows=4, sequence_length=32, vocab_size=200, documents=5)
    lengths = [[piece.length for piece in rows.row(number)] for number in range(4)]
    assert all(len(row) == 5 and sum(row) == 32 and min(row) > 0 for row in lengths)
    assert lengths[0] != lengths[1] and lengths == [[piece.length for piece in rows.row(n)] for n in range(4)]
    documents = [piece.document for number in range(4) for piece in rows.row(number)]
    assert documents == list(range(20))
    assert rows.longest_row(8) == max(sum(-(-length // 8) * 8 for length in row) for row in lengths)
    assert [piece.length for piece in replace(rows, documents=1).row(2)] == [32]


def test_rows_are_cut_for_context_parallel_ranks_as_those_of_a_plan() -> None:
    """For FP8, tokens of a rank are a multiple of 128."""
    rows = RandomRows(rows=4, sequence_length=30, vocab_size=200)
    layout = Layout(context_parallel=2, tensor_parallel=2, sequence_parallel=True)
    assert row_shape(rows, layout).width == 32
    assert row_shape(rows, layout, of_rank=128).width == 512
    assert row_shape(rows, Layout()).width == 30


def test_a_step_lasts_until_the_device_has_done_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is read only when the GPU has finished the update."""
    events = []
    clock = time.perf_counter
    with cpu.redirected():
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: events.append("finished"))
        monkeypatch.setattr(time, "perf_counter", lambda: events.append("clock") or clock())
        (step,) = trial(CONFIG, MODEL, 1, documents=3)
    assert step.tokens == 2 * 32
    assert events[-2:] == ["finished", "clock"]


def test_nothing_of_a_trial_is_left_for_the_next_one() -> None:
    """A GPU that is short of memory does not ask Python to collect cycles."""
    gc.collect()
    before = _tensors()
    gc.disable()
    try:
        trial(CONFIG, MODEL, 1)
        assert _tensors() <= before
    finally:
        gc.enable()


def _tensors() -> set[int]:
    """By identity, those as large as the embedding; what Megatron keeps of random states and of RoPE is smaller."""
    tensors = [found for found in gc.get_objects() if isinstance(found, torch.Tensor)]
    return {id(found) for found in tensors if found.numel() >= MODEL.padded_vocab_size * SHAPE.hidden_size}


def test_what_cuda_reads_when_it_starts_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", "")
    monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS")
    trial(CONFIG, MODEL, 1)
    assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == "1"
