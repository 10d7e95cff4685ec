"""The same run under every kind of parallelism: the proof that none of them changes the result."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msm_hpc.config.training import Layout, TrainConfig
from msm_hpc.training.megatron.zigzag import row_shape
from tests.training.ranks import Job, do_all, start_ranks
from tests.training.toy import (
    Corpus,
    change_document,
    losses_by_document,
    read_checkpoint,
    read_exact,
    read_metrics,
    write_inputs,
)
from tokenization.packing.plan import Plan

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("layouts")]

# A larger epsilon than usual: Adam divides by the root of the second moment, which turns the rounding of a gradient of
# 1e-9 into a full-sized difference of the update.
CONFIG = TrainConfig(
    sequence_length=32,
    global_batch_size=8,
    micro_batch_size=4,
    epochs=2,
    learning_rate=3e-3,
    clip_grad=0.6,
    adam_eps=1e-6,
    precision="fp32",
    save_every=5,
    seed=7,
)
LAYOUTS = {
    "one": Layout(),
    "tensor": Layout(tensor_parallel=2),
    "pipeline": Layout(pipeline_parallel=2),
    "interleaved": Layout(pipeline_parallel=2, virtual_pipeline=2),
    "context": Layout(context_parallel=2),
    "data": Layout(data_parallel=2),
    "sequence": Layout(tensor_parallel=2, sequence_parallel=True),
    "tensor_pipeline": Layout(tensor_parallel=2, pipeline_parallel=2),
    "sequence_pipeline": Layout(tensor_parallel=2, pipeline_parallel=2, sequence_parallel=True),
    "sequence_context": Layout(tensor_parallel=2, context_parallel=2, sequence_parallel=True),
    "interleaved_context": Layout(pipeline_parallel=2, virtual_pipeline=2, context_parallel=2),
}
OVERLAPPED = ("interleaved", "data")
TIED = ("tensor", "pipeline", "interleaved")
ISOLATED = ("one", "context", "tensor_pipeline")
RESUMED = ("one", "tensor", "interleaved", "context", "data")

# 20 steps each of two layers; heads wider than hidden_size / heads.
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {"architectures": ["Qwen2ForCausalLM"]},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "head_dim": 12},
}
FAMILY_LAYOUTS = ("one", "tensor", "context", "sequence_pipeline")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of every layout and, for two of them, of what the tests below compare."""
    root = tmp_path_factory.mktemp("layouts")
    corpus = Corpus(documents=90)
    inputs = write_inputs(root / "inputs", corpus)
    changed = change_document(inputs, root / "changed", 40, corpus)

    def config(layout: str, **fields: Any) -> TrainConfig:
        """Two micro-batches a step at any layout."""
        size = CONFIG.micro_batch_size // LAYOUTS[layout].data_parallel
        return replace(CONFIG, layout=LAYOUTS[layout], micro_batch_size=size, **fields)

    def job(layout: str, out: str, **fields: object) -> Job:
        return Job(config(layout), inputs, root / out, **fields)

    # 60 tokens make 128 rows of embedding: under tensor parallelism, the second rank has nothing but padding.
    tied = write_inputs(root / "tied_inputs", Corpus(documents=90, vocab_size=60), tie_word_embeddings=True)
    families = {name: write_inputs(root / name, corpus, num_hidden_layers=2, **each) for name, each in FAMILIES.items()}
    for world_size in (4, 2, 1):
        layouts = [name for name, layout in LAYOUTS.items() if layout.world_size == world_size]
        jobs = [job(name, name) for name in layouts]
        jobs += [job(name, f"{name}.overlap", overlap=True) for name in layouts if name in OVERLAPPED]
        jobs += [job(name, f"{name}.resumed") for name in layouts if name in RESUMED]
        for name in layouts:
            if name in ISOLATED:
                jobs.append(job(name, f"{name}.losses", kind="losses"))
                jobs.append(replace(job(name, f"{name}.changed", kind="losses"), inputs=changed))
            if name in ("one", "tensor_pipeline", "interleaved"):
                further = replace(inputs, checkpoint=root / "tensor_pipeline")
                jobs.append(job(name, f"{name}.initial", kind="initial"))
                fan_in = config(name, initial_spread="fan_in")
                jobs.append(Job(fan_in, inputs, root / f"{name}.fan_in", kind="initial"))
                jobs.append(replace(job(name, f"{name}.further"), inputs=further))
        tied_layouts = [name for name in layouts if name in ("one", *TIED)]
        jobs += [replace(job(name, f"{name}.tied"), inputs=tied) for name in tied_layouts]
        for family, family_inputs in families.items():
            jobs += [
                Job(config(name, epochs=5), family_inputs, root / f"{name}.{family}")
                for name in layouts
                if name in FAMILY_LAYOUTS
            ]
        if world_size == 4:
            stopped = job("interleaved_context", "stopped", hit=(6, 0, signal.SIGUSR2))
            ended = start_ranks(root, 4, [*jobs, stopped])
            assert "StoppedBySignalError" in "".join(ended.errors), ended.errors
            for name in RESUMED:
                shutil.copytree(stopped.out, root / f"{name}.resumed")
        else:
            logged = do_all(root, world_size, jobs).errors[0]
            assert logged.count("was written at layout") == sum(name in RESUMED for name in layouts)
    return root


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "one"])
def test_losses_and_gradient_norms_are_those_of_a_single_rank(runs: Path, layout: str) -> None:
    single = read_exact(runs / "one")
    assert len(single) >= 8 and single[-1].loss < single[0].loss
    for expected, found in zip(single, read_exact(runs / layout), strict=True):
        assert found.loss == pytest.approx(expected.loss, abs=1e-5)
        assert found.grad_norm == pytest.approx(expected.grad_norm, abs=1e-5)
        assert replace(found, loss=expected.loss, grad_norm=expected.grad_norm) == expected
    assert max(step.grad_norm for step in single) > CONFIG.clip_grad, "clipping takes part"


@pytest.mark.parametrize("layout", [name for name in FAMILY_LAYOUTS if name != "one"])
@pytest.mark.parametrize("family", FAMILIES)
def test_qwens_train_alike_at_any_layout(runs: Path, family: str, layout: str) -> None:
    """Qwen3's norms of queries and keys: replicated weights whose gradient is spread over tensor-parallel ranks."""
    one, other = (read_metrics(runs / f"{name}.{family}")[:20] for name in ("one", layout))
    assert len(one) == 20 and one[-1].loss < one[0].loss
    for field in ("loss", "grad_norm"):
        expected, found = ([getattr(step, field) for step in steps] for steps in (one, other))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", TIED)
def test_tied_embeddings_on_two_ranks_are_one_tensor(runs: Path, layout: str) -> None:
    one, two = (read_metrics(runs / out) for out in ("one.tied", f"{layout}.tied"))
    np.testing.assert_allclose([step.loss for step in two], [step.loss for step in one], rtol=0, atol=1e-5)
    np.testing.assert_allclose([step.grad_norm for step in two], [step.grad_norm for step in one], rtol=0, atol=1e-5)
    assert "output_layer.weight" not in read_checkpoint(runs / f"{layout}.tied" / "checkpoint")


@pytest.mark.parametrize("layout", OVERLAPPED)
def test_overlapping_communication_changes_no_bit(runs: Path, layout: str) -> None:
    plain, overlapped = (runs / layout, runs / f"{layout}.overlap")
    assert read_exact(overlapped) == read_exact(plain)
    expected, found = (read_checkpoint(out / "checkpoint") for out in (plain, overlapped))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("layout", RESUMED)
def test_a_run_stopped_at_one_layout_resumes_at_another(runs: Path, layout: str) -> None:
    assert (runs / "stopped" / "resume" / "step-000000007").is_dir()
    expected, found = (read_metrics(out) for out in (runs / "one", runs / f"{layout}.resumed"))
    assert len(found) == len(expected) > 7
    for field in ("loss", "grad_norm"):
        values = ([getattr(step, field) for step in steps] for steps in (found, expected))
        np.testing.assert_allclose(*values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spread", ["initial", "fan_in"])
@pytest.mark.parametrize("layout", ["tensor_pipeline", "interleaved"])
def test_initial_weights_are_bit_equal(runs: Path, layout: str, spread: str) -> None:
    single = read_checkpoint(runs / f"one.{spread}" / "checkpoint")
    split = read_checkpoint(runs / f"{layout}.{spread}" / "checkpoint")
    assert single.keys() == split.keys()
    assert all(torch.equal(single[key], split[key]) for key in single)
    layers = single["decoder.layers.self_attention.linear_qkv.weight"]
    assert not torch.equal(layers[0], layers[1])


@pytest.mark.parametrize("layout", ["one", "interleaved"])
def test_checkpoint_of_four_ranks_is_trained_further_with_fewer(runs: Path, layout: str) -> None:
    one, four = (read_metrics(runs / out) for out in (f"{layout}.further", "tensor_pipeline.further"))
    np.testing.assert_allclose([step.loss for step in one], [step.loss for step in four], rtol=0, atol=1e-5)
    assert one[0].loss < read_metrics(runs / "one")[0].loss - 0.1


@pytest.mark.parametrize("layout", ISOLATED)
def test_a_document_does_not_see_the_others_of_its_row(runs: Path, layout: str) -> None:
    plan, changed_document = runs / "inputs" / "plan", 40
    multiple = row_shape(Plan(plan), LAYOUTS[layout]).multiple
    before = losses_by_document(plan, torch.load(runs / f"{layout}.losses" / "losses.pt"), multiple)
    after = losses_by_document(plan, torch.load(runs / f"{layout}.changed" / "losses.pt"), multiple)
    assert not np.allclose(before.pop(changed_document), after.pop(changed_document))
    for document, losses in before.items():
        np.testing.assert_allclose(after[document], losses, rtol=0, atol=1e-6, err_msg=f"document {document}")


def test_summary_describes_the_run(runs: Path) -> None:
    summary = json.loads((runs / "tensor_pipeline" / "summary.json").read_text())
    metrics = read_metrics(runs / "tensor_pipeline")
    assert [row.step for row in metrics] == list(range(1, summary["steps"] + 1))
    assert summary["world_size"] == 4 and summary["layout"]["pipeline_parallel"] == 2
    assert summary["tokens"] == sum(row.tokens for row in metrics) > summary["trainable_tokens"]
    assert summary["final_loss"] == metrics[-1].loss
    assert not (runs / "tensor_pipeline" / "resume").exists()
