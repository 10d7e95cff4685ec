"""``python -m benchmarks.verification``: comparing a model's hashes before it is loaded, beside loading it alone.

In turns in this process: transformers loads an export (random weights, bfloat16) to the CPU; and the same after all its
files were compared with their published hashes, as a job does. *Cold*: the files have left the page cache, so hashing
brings them back into it, and loading then finds them there. *Warm*: they were in it. The first round is left out.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks import measure
from benchmarks.conversion import CONVERT
from msm_hpc.launch.job import JobRef
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.records import Attempt, now


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verification", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=16, help="of a model of 95 MB a layer")
    parser.add_argument("--work", type=Path, help="a folder with the model's size free")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        folder = _published(Path(work) / "steps" / "export" / "0", options.layers)
        size = sum(file.stat().st_size for file in folder.out.iterdir())
        print(f"{size / 1e9:.2f} GB\n\n| page cache | | load | verify, then load | verify alone | cost |")
        print("|---|---|---|---|---|---|")
        for name, prepare in {"cold": _forget, "warm": _remember}.items():
            rounds = [_round(folder, prepare) for _ in range(options.rounds + 1)][1:]
            for clock in ("wall", "cpu"):
                load, both, verify = (median(getattr(each[way], clock) for each in rounds) for way in WAYS)
                cost = median(getattr(each["verify"], clock) / getattr(each["load"], clock) for each in rounds)
                print(f"| {name} | {clock}, s | {load:.2f} | {both:.2f} | {verify:.2f} | {cost:.0%} |")


def _published(path: Path, layers: int) -> StepFolder:
    """An export in the store."""
    folder = StepFolder(path)
    folder.write_attempt(1, Attempt(JobRef("local", "1"), "", 1, None, "", now()))
    own = folder.attempt(1)
    own.begin()
    measure.run((*CONVERT, "make", str(layers), str(own.out)), dict(os.environ), path / "log.txt")
    folder.publish(own)
    return folder


def _round(folder: StepFolder, prepare: Callable[[StepFolder], None]) -> dict[str, measure.Usage]:
    costs = {}
    for name, way in WAYS.items():
        prepare(folder)
        began, used = time.perf_counter(), time.process_time()
        way(folder)
        costs[name] = measure.Usage(time.process_time() - used, time.perf_counter() - began, 0)
    return costs


def _load(folder: StepFolder) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder.out)
    for parameter in model.parameters():  # they are mapped: this reads them
        parameter.data.sum()


def _verify(folder: StepFolder) -> None:
    assert folder.verify("the benchmark") is None


def _both(folder: StepFolder) -> None:
    _verify(folder)
    _load(folder)


WAYS = {"load": _load, "both": _both, "verify": _verify}


def _forget(folder: StepFolder) -> None:
    os.sync()
    for file in folder.out.iterdir():
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _remember(folder: StepFolder) -> None:
    for file in folder.out.iterdir():
        file.read_bytes()


if __name__ == "__main__":
    main()
