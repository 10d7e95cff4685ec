"""Activation recomputation: not one bit of a training hangs on what is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import Layout, Lora, Recompute, TrainConfig
from msm_hpc.model.architecture import read_architecture
from msm_hpc.training import stage
from msm_hpc.training.megatron.groups import process_groups
from tests.training.ranks import Job, do_all
from tests.training.toy import Corpus, read_checkpoint, read_exact, write_inputs

CONFIG = TrainConfig(
    sequence_length=32,
    global_batch_size=4,
    micro_batch_size=2,
    learning_rate=3e-3,
    precision="fp32",
    save_every=1000,
)
TENSOR, PIPELINE = Layout(tensor_parallel=2, sequence_parallel=True), Layout(pipeline_parallel=2)
FP8 = replace(CONFIG, precision="fp8_tensorwise", fp8_emulated=True)
CASES = {
    "tensor": replace(CONFIG, layout=TENSOR),
    "pipeline": replace(CONFIG, layout=PIPELINE),
    "lora": replace(CONFIG, layout=TENSOR, lora=Lora(rank=4)),
    "fp8": replace(FP8, layout=PIPELINE),
}
WORDS = get_args(Recompute)


@pytest.mark.slow
def test_losses_gradients_and_weights_are_bit_equal(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", Corpus(documents=40), num_hidden_layers=2)
    deeper = write_inputs(tmp_path / "deeper", Corpus(documents=40))  # whose first and last layers stay in bf16
    base = Job(replace(CONFIG, layout=TENSOR), inputs, tmp_path / "base", kind="initial")
    jobs = [base]
    for name, config in CASES.items():
        given = replace(inputs, base=base.out) if config.lora else deeper if config.fp8_emulated else inputs
        for word in WORDS:
            layout = replace(config.layout, recompute=word)
            jobs.append(Job(replace(config, layout=layout), given, tmp_path / f"{name}.{word}"))
    do_all(tmp_path, 2, jobs)
    for name in CASES:
        kept, *recomputed = (tmp_path / f"{name}.{word}" for word in WORDS)
        steps, weights = read_exact(kept), read_checkpoint(kept / "checkpoint")
        assert len(steps) > 3 and all(step.grad_norm > 0 for step in steps)
        for out in recomputed:
            assert read_exact(out) == steps, out.name
            found = read_checkpoint(out / "checkpoint")
            assert all(torch.equal(found[key], weights[key]) for key in weights), out.name


@pytest.mark.parametrize("word", WORDS)
def test_the_forward_pass_of_what_is_not_kept_runs_twice(tmp_path: Path, word: Recompute) -> None:
    inputs = write_inputs(tmp_path / "inputs", Corpus(documents=20))
    config = replace(CONFIG, layout=Layout(recompute=word))
    model, calls = read_architecture(inputs.model), {"attention": 0, "mlp": 0}
    with process_groups(config.layout):
        from msm_hpc.training.data.reader import open_data
        from msm_hpc.training.step import train_step

        trainable = stage.build(config, model, inputs, steps=1)
        layer = trainable.chunks[0].decoder.layers[0]
        for name, module in (("attention", layer.self_attention), ("mlp", layer.mlp)):
            module.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
        train_step(trainable, open_data(config, model, inputs), config, 0)
    micro_batches = config.global_batch_size // config.micro_batch_size
    times = {"none": (1, 1), "selective": (1, 2), "full": (2, 2)}[word]
    assert (calls["attention"], calls["mlp"]) == tuple(micro_batches * each for each in times)


def test_delayed_scales_that_are_emulated_cannot_be_recomputed() -> None:
    with pytest.raises(UserError, match=r"layout.recompute=full with fp8_delayed cannot be emulated on a CPU"):
        replace(CONFIG, precision="fp8_delayed", fp8_emulated=True, layout=Layout(recompute="full"))
