"""``python -m benchmarks.gpu``: the speed of training on one GPU, in bf16 and in FP8, against its peak.

Tokens a second mean little without the model, and TFLOP/s little without the formula. Here FLOPs are PaLM's model FLOPs
(:mod:`msm_hpc.model.flops`: no discount for the causal mask, attention only within each document), and MFU is their
rate over the dense *bf16* peak of NVIDIA's data sheet, for FP8 too, so that FP8 over bf16 is the ratio of the MFUs.

Steps are those of the training stage: the same model, optimizer, schedule and step (``msm_hpc/planner/trial.py``), from
random weights over random documents. Each case has a process of its own, so one that runs out of memory ends alone.

No figure of it has been measured yet: this project had no GPU. The tests run all of it on a CPU, without CUDA.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TypeVar, get_args

from benchmarks.gpu_case import Case, Device, Measured, look, measure
from msm_hpc.base.code import code_commit
from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_json
from msm_hpc.config.stages import Architecture
from msm_hpc.config.training import Lora, Precision, TrainConfig
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.gpus import peak_flops
from msm_hpc.planner.choose import MARGIN
from msm_hpc.planner.memory import GIB, worst_stage

Result = TypeVar("Result")
TARGET_MFU, TARGET_GAIN = 0.55, 1.35


def _llama3(hidden: int, intermediate: int, layers: int, heads: int, tied: bool, rope_factor: float) -> Transformer:
    shape = Architecture(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=8,
        max_position_embeddings=131_072,
        rope_theta=500_000.0,
        tie_word_embeddings=tied,
    )
    return Transformer(shape=shape, vocab_size=128_256, head_dim=hidden // heads, rope_factor=rope_factor)


SHAPES = {
    "1b": _llama3(2048, 8192, 16, 32, tied=True, rope_factor=32.0),
    "3b": _llama3(3072, 8192, 28, 24, tied=True, rope_factor=32.0),
    "8b": _llama3(4096, 14336, 32, 32, tied=False, rope_factor=8.0),
}
"""Llama-3.2-1B and -3B and Llama-3.1-8B, as in their ``config.json``."""


@dataclass(frozen=True)
class Row:
    """The outcome of a case: what was measured, or why nothing was."""

    shape: str
    precision: Precision
    measured: Measured | None
    failure: str | None = None


def main() -> None:
    """Print a table, and whether the targets are met."""
    options = _options()
    try:
        _check(options)
        device = alone(look).result()
        cases = [case for name in options.shapes for case in _cases(name, options, device.memory)]
    except UserError as error:
        sys.exit(f"error: {error}")
    heading = _heading(device)
    print(heading, flush=True)
    rows = [run(case) for case in cases]
    print(f"\n{table(rows)}\n\n{verdict(rows)}")
    if options.out:
        write_json(options.out, {"heading": heading, "rows": [asdict(row) for row in rows]})


def alone(do: Callable[..., Result], *args: object) -> Future[Result]:
    """Call ``do(*args)`` in a process of its own, which has ended on return and freed all that it had on the GPU."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(do, *args)


def run(case: Case) -> Row:
    """Measure one case; if it fails, in whatever way, the next one can still run."""
    done = alone(measure, case)
    if error := done.exception():
        traceback.print_exception(error)
        said = str(error).strip().splitlines()
        return Row(case.shape, case.config.precision, None, f"{type(error).__name__}: {said[0] if said else ''}")
    return Row(case.shape, case.config.precision, done.result())


def fitting(model: Transformer, configs: Sequence[TrainConfig], memory: int) -> Transformer:
    """``model``, or the first layers of it, as many as fit into ``memory`` bytes in every one of ``configs``.

    Raises:
        UserError: not even one layer does.
    """
    for layers in range(model.shape.num_hidden_layers, 0, -1):
        shorter = replace(model, shape=replace(model.shape, num_hidden_layers=layers))
        if max(worst_stage(config, shorter, on_gpu=True).total for config in configs) <= MARGIN * memory:
            return shorter
    needed = worst_stage(configs[0], shorter, on_gpu=True)
    raise UserError(
        f"one layer of it needs {needed}, and the GPU has {memory / GIB:.1f} GiB: take a smaller --sequence-length, "
        "--lora or another of --shapes"
    )


def _check(options: argparse.Namespace) -> None:
    documents, tokens = options.documents, options.sequence_length
    if not 1 <= documents <= tokens:
        raise UserError(f"--documents {documents}: a row of {tokens} tokens holds 1 to {tokens}; give one of these")


def _cases(name: str, options: argparse.Namespace, memory: int) -> list[Case]:
    """Of one shape, with as many layers in each precision, so that precisions can be compared."""
    whole = SHAPES[name]
    configs = [
        TrainConfig(
            sequence_length=options.sequence_length,
            global_batch_size=options.micro_batches,
            precision=precision,
            lora=Lora() if options.lora else None,
        )
        for precision in options.precision
    ]
    model = fitting(whole, configs, memory)
    layers, of = model.shape.num_hidden_layers, whole.shape.num_hidden_layers
    cut = [f"{layers} of {of} layers"] if layers < of else []
    label = ", ".join([name, *(["LoRA"] if options.lora else []), *cut])
    return [Case(label, model, config, options.documents, options.warmup, options.steps) for config in configs]


def table(rows: Sequence[Row]) -> str:
    """Markdown; the last column compares with bf16 of the same shape."""
    head = "| shape | precision | tokens/s/GPU | TFLOP/s/GPU | MFU | step s, median (most) | GiB (planned) | of bf16 |"
    return "\n".join([head, "|---" * 8 + "|", *(_line(row, _gain(row, rows)) for row in rows)])


def _line(row: Row, gain: float | None) -> str:
    found = row.measured
    if found is None:
        failure = str(row.failure).replace("|", "\\|")
        return f"| {row.shape} | {row.precision} | {failure} | | | | | |"
    mfu, ratio = _mfu(found), "" if gain is None else f"{gain:.2f}"
    return (
        f"| {row.shape} | {row.precision} | {found.tokens_per_second:,.0f} | {found.flops_per_second / 1e12:.4g} "
        f"| {'' if mfu is None else f'{mfu:.1%}'} | {median(found.seconds):.3f} ({max(found.seconds):.3f}) "
        f"| {found.peak_memory / GIB:.1f} ({found.planned_memory / GIB:.1f}) | {ratio} |"
    )


def _mfu(found: Measured) -> float | None:
    peak = peak_flops(found.device)
    return None if peak is None else found.flops_per_second / peak


def _gain(row: Row, rows: Sequence[Row]) -> float | None:
    """Tokens a second over those of bf16 of the same shape, where both were measured."""
    bf16 = next((each.measured for each in rows if (each.shape, each.precision) == (row.shape, "bf16")), None)
    return None if bf16 is None or row.measured is None else row.measured.tokens_per_second / bf16.tokens_per_second


def verdict(rows: Sequence[Row]) -> str:
    """Whether the best of each kind meets its target."""
    mfus = [_mfu(row.measured) for row in rows if row.measured and row.precision == "bf16"]
    gains = [_gain(row, rows) for row in rows if row.precision.startswith("fp8")]
    mfu, gain = (max((each for each in found if each is not None), default=None) for found in (mfus, gains))
    best_mfu = "not measured" if mfu is None else f"{mfu:.1%}, {'met' if mfu >= TARGET_MFU else 'missed'}"
    best_gain = "not measured" if gain is None else f"{gain:.2f}, {'met' if gain >= TARGET_GAIN else 'missed'}"
    return (
        f"Best MFU in bf16 (target {TARGET_MFU:.0%}): {best_mfu}. "
        f"Best FP8 over bf16 (target {TARGET_GAIN}): {best_gain}."
    )


def _heading(device: Device) -> str:
    peak = peak_flops(device.name)
    against = "no peak known, so no MFU" if peak is None else f"MFU of {peak / 1e12:.0f} TFLOP/s, dense bf16"
    return (
        f"{datetime.now(UTC).date()}, commit {code_commit() or 'unknown'}, {device.name} of "
        f"{device.memory / GIB:.1f} GiB, {device.software}, megatron-core {version('megatron-core')}; {against}; "
        "FLOPs as in PaLM, appendix B."
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    words = [word for word in get_args(Precision) if word != "fp32"]
    parser.add_argument("--precision", nargs="+", choices=words, default=["bf16", "fp8_delayed", "fp8_tensorwise"])
    parser.add_argument("--steps", type=int, default=20, help="that count")
    parser.add_argument("--warmup", type=int, default=5, help="steps before: they compile and allocate")
    parser.add_argument("--sequence-length", type=int, default=8192)
    parser.add_argument("--documents", type=int, default=8, help="in a row, of random lengths")
    parser.add_argument("--micro-batches", type=int, default=4, help="rows of a step, one at a time")
    parser.add_argument("--lora", action="store_true", help="train the adapter of rank 64 alone")
    parser.add_argument("--out", type=Path, help="a JSON file with every figure")
    return parser.parse_args()


if __name__ == "__main__":
    main()
