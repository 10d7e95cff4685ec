"""``python -m benchmarks.small_training``: optimizer steps per second of a model of the demo's size, in three loops.

Ours, the training stage; Megatron's GPTModel with torch's AdamW and nothing else; and the Llama of ``transformers``.
All in one process of one thread, in turns of one round each, so that a slow minute falls on all.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported

import torch

from benchmarks import training_inputs
from msm_hpc.config.stages import Architecture
from msm_hpc.config.training import TrainConfig, TrainInputs
from msm_hpc.model.architecture import read_architecture
from msm_hpc.training import stage
from msm_hpc.training.megatron import cpu
from msm_hpc.training.megatron.groups import process_groups

SHAPE = Architecture(
    hidden_size=64,
    intermediate_size=192,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=128,
)
ROW, ROWS = 96, 4
"""Tokens of a row, which is one document, and rows of a step, one micro-batch."""


def ours(config: TrainConfig, inputs: TrainInputs, out: Path) -> float:
    """Seconds of CPU of all steps of the training stage, with its records, but without what comes before and after."""
    from msm_hpc.training.trainer import Trainer

    took, train = [], Trainer.train

    def timed(*arguments: object) -> None:
        begin = time.process_time()
        train(*arguments)  # type: ignore[arg-type]
        took.append(time.process_time() - begin)

    Trainer.train = timed  # type: ignore[method-assign, assignment]
    try:
        stage.run(config, inputs, out)
    finally:
        Trainer.train = train  # type: ignore[method-assign]
    return took[0]


def bare_megatron(config: TrainConfig, inputs: TrainInputs, out: Path) -> float:
    """The same model and rows, read before; torch's AdamW, no wrapper, no checkpoint, no records."""
    with cpu.redirected(), process_groups(config.layout, config.seed):
        from msm_hpc.training.checkpoints.start import set_weights
        from msm_hpc.training.data.reader import open_data
        from msm_hpc.training.megatron.model import build_model, transformer_config
        from msm_hpc.training.step import token_losses

        shape = read_architecture(inputs.model)
        data = open_data(config, shape, inputs)
        chunks = build_model(shape, transformer_config(shape, config.layout, config.precision))
        set_weights(chunks, config, shape, inputs)
        batches = [data.read(step, config.micro_batch_size)[0] for step in range(data.order.steps)]

        def loss(step: int) -> torch.Tensor:
            batch = batches[step]
            return (token_losses(chunks[0], batch) * batch.loss_mask).sum() / batch.loss_mask.sum()

        return _train(chunks[0], loss, len(batches), config)


def plain_transformers(config: TrainConfig, inputs: TrainInputs, out: Path) -> float:
    """The Llama of ``transformers`` with SDPA on one batch, again and again."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig.from_pretrained(inputs.model, attn_implementation="sdpa")
    model: torch.nn.Module = LlamaForCausalLM(shape)
    tokens = torch.randint(3, shape.vocab_size, (ROWS, ROW))
    return _train(model, lambda step: model(input_ids=tokens, labels=tokens).loss, config.epochs, config)


def _train(model: torch.nn.Module, loss: Callable[[int], torch.Tensor], steps: int, config: TrainConfig) -> float:
    """Seconds of CPU."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    begin = time.process_time()
    for step in range(steps):
        torch.autograd.backward(loss(step))
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_grad)
        optimizer.step()
        optimizer.zero_grad()
    return time.process_time() - begin


LOOPS = {"ours": ours, "bare Megatron": bare_megatron, "transformers": plain_transformers}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_training", description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = replace(training_inputs.recipe("fp32", options.steps), sequence_length=ROW, global_batch_size=ROWS)
    with tempfile.TemporaryDirectory() as work:
        inputs = training_inputs.make(Path(work), SHAPE, ROW, ROWS)
        rounds = []
        for number in range(options.rounds + 1):  # the first, which imports, does not count
            seconds = {}
            for name, loop in LOOPS.items():
                out = Path(work) / f"{name} {number}"
                out.mkdir()
                seconds[name] = loop(config, inputs, out)
            rounds.append(seconds)
    print("| optimizer steps per CPU-second | | ours is faster by |\n|---|---|---|")
    for name in LOOPS:
        rate = median(options.steps / each[name] for each in rounds[1:])
        print(f"| {name} | {rate:.0f} | {median(each[name] / each['ours'] for each in rounds[1:]):.2f} |")


if __name__ == "__main__":
    main()
