"""``python -m benchmarks.conversion``: Hugging Face to Megatron and back, beside ``cp`` of the same files.

There are two figures. *Bytes*: all three in turn in this process, where everything is imported already; after each,
``sync`` of its output. The first round is left out. *Whole step*: each in a process of its own, start-up included,
which hardly counts for a real model of 15-60 GB.

Memory that a virtual machine has not used for seconds may have gone back to its host, and getting it again costs
several times what copying does. So before each turn as much memory is touched as the turn will need.
"""

from __future__ import annotations

import argparse
import mmap
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks import measure
from msm_hpc.config.stages import ExportConfig, ExportInputs, ModelConfig, ModelInputs
from msm_hpc.conversion import stage

CONVERT = (sys.executable, str(Path(__file__).resolve().parent / "peers" / "convert.py"))


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conversion", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=16, help="of a model of 95 MB a layer")
    parser.add_argument("--work", type=Path, help="a folder with four times the model's size free")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        hf, megatron, back, copy = (Path(folder) / name for name in ("hf", "megatron", "back", "copy"))
        measure.run((*CONVERT, "make", str(options.layers), str(hf)), dict(os.environ), Path(folder) / "log.txt")
        whole = {
            "Hugging Face to Megatron": _whole("model", hf, megatron),
            "and back": _whole("export", megatron, back),
        }
        ways: dict[str, Callable[[], None]] = {
            "cp": lambda: _sync_after(_copy, hf, copy),
            "Hugging Face to Megatron": lambda: _sync_after(_import, hf, megatron),
            "and back": lambda: _sync_after(_export, megatron, back),
        }
        size = (hf / "model.safetensors").stat().st_size
        copy.mkdir()
        rounds = [{name: _cost(way, size) for name, way in ways.items()} for _ in range(options.rounds + 1)][1:]
    print(f"{size / 1e9:.2f} GB\n\n| bytes | CPU-s/GB | wall s/GB | of the copy's rate, CPU | wall |")
    print("|---|---|---|---|---|")
    for name in ways:
        cpu, wall = (median(getattr(each[name], field) for each in rounds) / size * 1e9 for field in ("cpu", "wall"))
        kept_cpu = median(each["cp"].cpu / each[name].cpu for each in rounds)
        kept_wall = median(each["cp"].wall / each[name].wall for each in rounds)
        print(f"| {name} | {cpu:.2f} | {wall:.2f} | {kept_cpu:.0%} | {kept_wall:.0%} |")
    print("\n| whole step | CPU-s | wall s | peak GB |\n|---|---|---|---|")
    for name, usage in whole.items():
        print(f"| {name} | {usage.cpu:.2f} | {usage.wall:.2f} | {usage.peak / 1e9:.2f} |")


def _copy(read: Path, out: Path) -> None:
    subprocess.run(["cp", "-r", f"{read}/.", out], check=True)


def _import(read: Path, out: Path) -> None:
    stage.run_model(ModelConfig(folder=read), ModelInputs(weights=read), out)


def _export(read: Path, out: Path) -> None:
    stage.run_export(ExportConfig(dtype="bfloat16"), ExportInputs(model=read, checkpoint=read), out)


def _sync_after(way: Callable[[Path, Path], None], read: Path, out: Path) -> None:
    way(read, out)
    subprocess.run(["sync", *(path for path in out.rglob("*") if path.is_file())], check=True)


def _whole(what: str, read: Path, out: Path) -> measure.Usage:
    return measure.run((*CONVERT, what, str(read), str(out)), dict(os.environ), out.parent / "log.txt")


def _cost(way: Callable[[], None], size: int) -> measure.Usage:
    os.sync()  # what an earlier turn still has to write does not count here
    with mmap.mmap(-1, size + size // 2) as memory:
        for page in range(0, len(memory), mmap.PAGESIZE):
            memory[page] = 1
    began, used = time.perf_counter(), _used()
    way()
    return measure.Usage(_used() - used, time.perf_counter() - began, 0)


def _used() -> float:
    """CPU-seconds of this process and of those that it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
