"""``python -m benchmarks.conversion``: Hugging Face to Megatron and back, beside ``cp`` of the same files.

A small and a large model are converted; the large one less the small one is what bytes cost, start-up cancelled out.
Ours syncs what it writes to disk, so the copy is followed by ``sync`` too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import measure

CONVERT = (sys.executable, str(Path(__file__).resolve().parent / "peers" / "convert.py"))
LAYERS = {"small": 2, "large": 18}
WAYS = {"cp": ("hf", "copy"), "Hugging Face to Megatron": ("hf", "megatron"), "and back": ("megatron", "back")}
"""From a folder to a folder."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conversion", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="a folder with 6 GB free")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        for size, layers in LAYERS.items():
            _run(work, *CONVERT, "make", str(layers), str(work / f"hf-{size}"))
        rounds = [{way: _cost(work, way) for way in WAYS} for _ in range(options.rounds)]
        written = _bytes(work / "hf-large") - _bytes(work / "hf-small")
    print(f"{written / 1e9:.2f} GB\n\n| | CPU-s | wall s | of the copy's rate, CPU | wall | peak GB |")
    print("|---|---|---|---|---|---|")
    for way in WAYS:
        cpu, wall, peak = (median(getattr(each[way], field) for each in rounds) for field in ("cpu", "wall", "peak"))
        kept_cpu = median(each["cp"].cpu / each[way].cpu for each in rounds)
        kept_wall = median(each["cp"].wall / each[way].wall for each in rounds)
        print(f"| {way} | {cpu:.2f} | {wall:.2f} | {kept_cpu:.0%} | {kept_wall:.0%} | {peak / 1e9:.2f} |")


def _cost(work: Path, way: str) -> measure.Usage:
    """What the bytes cost that the large model has more than the small one."""
    read, write = WAYS[way]
    usages = []
    for size in LAYERS:
        source, out = str(work / f"{read}-{size}"), work / f"{write}-{size}"
        shutil.rmtree(out, ignore_errors=True)
        if way == "cp":
            usages.append(_run(work, "sh", "-c", f"cp -r {source} {out} && sync {out}/*"))
        else:
            usages.append(_run(work, *CONVERT, "model" if read == "hf" else "export", source, str(out)))
    small, large = usages
    return measure.Usage(large.cpu - small.cpu, large.wall - small.wall, large.peak)


def _run(work: Path, *command: str) -> measure.Usage:
    os.sync()  # what an earlier command left to be written is not this one's cost
    return measure.run(command, dict(os.environ), work / "log.txt")


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


if __name__ == "__main__":
    main()
