"""``python -m benchmarks.verification``: comparing a model's hashes before it is loaded, beside loading it alone.

The model is an export (random weights, bfloat16), and transformers loads it to the CPU, every byte of it, in a process
of its own; in turns with that, the same after all its files were compared with their published hashes, as a job does.
*Cold*: the files have left the page cache, so hashing brings them back into it, and loading then finds them there.
*Warm*: they were in it. *Hashing alone* is measured in this process, where everything is imported.
"""

from __future__ import annotations

import argparse
import os
import sys
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

LOAD = (sys.executable, str(Path(__file__).resolve().parent / "peers" / "load.py"))


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
        print(f"{size / 1e9:.2f} GB\n\n| | load | hashes, then load | cost | hashes alone |\n|---|---|---|---|---|")
        for name, prepare in {"cold": _forget, "warm": _remember}.items():
            rounds = [_round(folder, prepare) for _ in range(options.rounds)]
            for clock in ("cpu", "wall"):
                load, both, alone = (median(getattr(each[way], clock) for each in rounds) for way in rounds[0])
                print(f"| {name}, {clock} s | {load:.2f} | {both:.2f} | {both / load - 1:+.0%} | {alone:.2f} |")


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
    for way in ("load", "verify"):
        prepare(folder)
        costs[way] = measure.run((*LOAD, way, str(folder.path)), dict(os.environ), folder.path / "log.txt")
    prepare(folder)
    began, used = time.perf_counter(), time.process_time()
    assert folder.verify("the benchmark") is None
    costs["hashes alone"] = measure.Usage(time.process_time() - used, time.perf_counter() - began, 0)
    return costs


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
