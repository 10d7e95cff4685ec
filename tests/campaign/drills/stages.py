"""Trainings, exports, evaluations and a report of a fraction of a second, for what becomes of them in real jobs.

A training's weights are a chain of hashes: that of a step is made of the one before, so that a run which resumed from
the wrong place, or did a step twice, ends with others. It is resumed by what resumes real ones.

A step can be held: while there is a file of its name in ``ROOT/holds``, it stands still half-way.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from signal import Signals
from types import ModuleType
from typing import Any
from unittest.mock import patch

from msm_hpc.base.errors import StoppedBySignalError
from msm_hpc.base.files import write_json
from msm_hpc.base.progress import ProgressFile
from msm_hpc.base.stopping import noticed
from msm_hpc.campaign import runner
from msm_hpc.graph import kinds
from msm_hpc.training.checkpoints.carry_over import resume_checkpoints
from msm_hpc.training.checkpoints.hashes import write_hashes

STEPS, HELD_AT = 8, 5
STAGES = {"model": "copy", "train": "train", "export": "copy", "eval": "copy", "report": "report"}
FILLS_THE_DISK = "fill"
"""What the file says that holds a step which is to write until the disk is full."""


def run_steps(root: str, *step_ids: str) -> None:
    """What jobs call, with these stages in the place of the real ones and nothing of PyTorch loaded ahead."""
    ours = {name: replace(kinds.KINDS[name], stage=f"{__name__}:{stage}") for name, stage in STAGES.items()}
    light = {"msm_hpc.launch.preloaded": ModuleType("preloaded")}
    with patch.dict(kinds.KINDS, ours), patch.dict(sys.modules, light):
        runner.run_steps(root, *step_ids)


def hold_file(root: Path, step_id: str) -> Path:
    """The file that holds a step."""
    return root / "holds" / step_id.replace("/", "-")


def train(config: Any, inputs: Any, out: Path) -> None:
    """Do the steps that are left, save each second one, and stop after a step at a signal."""
    saved = resume_checkpoints(out / "resume")[-1:]
    began = int(saved[0].name.removeprefix("step-")) if saved else 0
    weights = (saved[0] / "weights").read_text() if saved else _of(config, inputs)
    progress = ProgressFile(out, STEPS, "optimizer steps", began)
    metrics = (out / "metrics.jsonl").read_text().splitlines()[:began] if saved else []
    with noticed() as request:
        for step in range(began + 1, STEPS + 1):
            with progress.timing("training"):
                weights = hashlib.sha256(f"{weights} {step}".encode()).hexdigest()
                metrics.append(f'{{"step": {step}, "loss": "{weights[:8]}"}}')
                (out / "metrics.jsonl").write_text("".join(f"{line}\n" for line in metrics))
                if step >= HELD_AT:
                    progress.flush()
                    _stand_still(out, request)
            if step % 2 == 0 or request.received:
                _save(out / "resume" / f"step-{step:08}", weights)
            progress.update(step)
            progress.flush()
            if request.received:
                asked = Signals(request.received)
                raise StoppedBySignalError(f"{asked.name}: {step} of {STEPS} are saved", asked, progressed=True)
    _save(out / "checkpoint", weights)
    write_json(out / "summary.json", {"steps": STEPS, "seconds": 1.0, "device": "CPU"})
    for each in resume_checkpoints(out / "resume"):
        for file in each.iterdir():
            file.unlink()
        each.rmdir()
    if saved or (out / "resume").exists():
        (out / "resume").rmdir()


def copy(config: Any, inputs: Any, out: Path) -> None:
    """A result that is of its config and of all that it read."""
    (out / "result.txt").write_text(_of(config, inputs))


def report(config: Any, inputs: Any, out: Path) -> None:
    """A line for each evaluation."""
    lines = [f"{name},{(folder / 'result.txt').read_text()}" for name, folder in sorted(inputs.evaluations.items())]
    (out / "results.csv").write_text("".join(f"{line}\n" for line in ["step,result", *lines]))


def _stand_still(out: Path, request: Any) -> None:
    hold = hold_file(out.parents[5], f"{out.parents[3].name}/{out.parents[2].name}")
    while hold.exists() and not request.received:
        if hold.read_text() == FILLS_THE_DISK:
            with (out / "ballast").open("wb") as ballast:
                while True:
                    ballast.write(bytes(1 << 16))
                    ballast.flush()
        time.sleep(0.05)


def _save(folder: Path, weights: str) -> None:
    folder.mkdir(parents=True)
    (folder / "weights").write_text(weights)
    write_hashes(folder, {})


def _of(config: Any, inputs: Any) -> str:
    digest = hashlib.sha256(repr(sorted(asdict(config).items())).encode())
    for role in fields(inputs):
        given = getattr(inputs, role.name)
        for path in given.values() if isinstance(given, Mapping) else [given]:
            files = sorted(each for each in (path.rglob("*") if path else ()) if each.is_file())
            for file in files or ([path] if path else []):
                digest.update(file.read_bytes())
    return digest.hexdigest()
