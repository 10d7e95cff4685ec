"""Three training loops over the same rows: ``python -m benchmarks.loops NAME WORK PRECISION EPOCHS``."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import torch

from benchmarks.training_inputs import make, recipe
from msm_hpc.config.training import TrainConfig, TrainInputs
from msm_hpc.model.architecture import read_architecture
from msm_hpc.training import stage
from msm_hpc.training.megatron import cpu
from msm_hpc.training.megatron.groups import process_groups


def ours(config: TrainConfig, inputs: TrainInputs, out: Path) -> None:
    """The training stage as a campaign runs it."""
    stage.run(config, inputs, out)


def bare_megatron(config: TrainConfig, inputs: TrainInputs, out: Path) -> None:
    """The same model, optimizer and schedule in the shortest loop that Megatron allows; nothing written."""
    with cpu.redirected(), process_groups(config.layout, config.seed):
        from megatron.core.pipeline_parallel import get_forward_backward_func

        from msm_hpc.training.data.reader import open_data
        from msm_hpc.training.step import forward_step

        model = read_architecture(inputs.model)
        data = open_data(config, model, inputs)
        trainable = stage.build(config, model, inputs, data.order.steps)
        batches = [data.read(step, config.micro_batch_size) for step in range(data.order.steps)]
        for step in batches:
            trainable.wrapped[0].zero_grad_buffer()
            trainable.optimizer.zero_grad()
            get_forward_backward_func()(
                forward_step_func=forward_step,
                data_iterator=[iter(step)],
                model=list(trainable.wrapped),
                num_microbatches=len(step),
                seq_length=config.micro_batch_size * config.sequence_length,
                micro_batch_size=1,
                forward_only=False,
            )
            trainable.optimizer.step()
            trainable.schedule.step(1)


def plain_transformers(config: TrainConfig, inputs: TrainInputs, out: Path) -> None:
    """The model of ``transformers`` with SDPA, torch's AdamW and nothing else; in bf16 the weights are bf16 alone."""
    from transformers import LlamaConfig, LlamaForCausalLM, get_cosine_schedule_with_warmup

    shape = LlamaConfig.from_pretrained(inputs.model, attn_implementation="sdpa")
    model: torch.nn.Module = LlamaForCausalLM(shape)
    model.to(torch.float32 if config.precision == "fp32" else torch.bfloat16)
    order, rows = _rows(config, inputs)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(0.05 * len(order)), len(order))
    for batch in order:
        tokens = rows[batch]
        model(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_grad)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def _rows(config: TrainConfig, inputs: TrainInputs) -> tuple[list[list[int]], torch.Tensor]:
    """The rows of each step, and the tokens, [rows, sequence length]."""
    from msm_hpc.training.data.batch import micro_batch
    from msm_hpc.training.data.order import SampleOrder
    from tokenization.packing.plan import Plan

    plan = Plan(inputs.plan)
    shards = plan.open_shards(inputs.shards)
    order = SampleOrder(len(plan), config.epochs, config.global_batch_size, config.seed)
    rows = [micro_batch(plan, shards, [row]).tokens for row in range(len(plan))]
    return [order.global_batch(step) for step in range(order.steps)], torch.cat(rows)


LOOPS = {"ours": ours, "bare Megatron": bare_megatron, "transformers": plain_transformers}


def main() -> None:
    """Run one."""
    name, work, precision, epochs = sys.argv[1:]
    out = Path(work) / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    LOOPS[name](recipe(precision, int(epochs)), make(Path(work)), out)


if __name__ == "__main__":
    main()
