"""Whether Megatron builds each model as its trainings spread it, asked before anything is queued.

Checks by formula say most of it, and sooner; this asks Megatron itself, which knows of the rest. It takes seconds of a
process with torch, so that only ``msm run`` does it, of what is about to be queued, and once for each model, layout and
precision: what was built is noted below the root.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_bytes
from msm_hpc.base.typed_json import adapter
from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.config.training import Layout, TrainConfig
from msm_hpc.graph.steps import Step
from msm_hpc.planner.build import BUILDS, Build
from msm_hpc.store.store import Store

FOLDER = "built"
REFUSALS = ("AssertionError", "ValueError", "NotImplementedError")
"""What Megatron raises of settings; anything else is a matter of this machine, and stops nothing."""
MOST_SECONDS = 600
"""A login node may be slow; one that takes longer holds nobody up."""
NO_TORCH = "PyTorch and Megatron are not on this machine: whether Megatron builds the models is seen by the first jobs"


def check_built(needed: Sequence[Step], store: Store) -> str | None:
    """Have Megatron build what the trainings among ``needed`` will build.

    Returns:
        Why that was not done, if so.

    Raises:
        UserError: it refuses one; with its words.
    """
    new = {key: (step, build) for key, step, build in _distinct(needed) if not (store.root / FOLDER / key).exists()}
    if not new:
        return None
    if find_spec("torch") is None or find_spec("megatron") is None:
        return NO_TORCH
    builds = {key: build for key, (_, build) in new.items()}
    try:
        asked = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "msm_hpc.planner.build"],
            input=adapter(BUILDS).dump_json(tuple(builds.values())).decode(),
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=MOST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"Megatron did not build the models within {MOST_SECONDS} s: whether it does is seen by the first jobs"
    built = len(asked.stdout.split())
    _note(builds, built, store)
    if not asked.returncode:
        return None
    step, _ = [*new.values()][built]
    what = f"{step.start.config.name} on {step.config.layout} in {step.config.precision}"
    said = re.sub(r"^(\[rank\d+\]: )+", "", (asked.stderr.strip().splitlines() or ["no reason given"])[-1])
    if not said.startswith(REFUSALS):
        return f"whether Megatron builds {what} is seen by the first jobs, since here it cannot be asked: {said}"
    raise UserError(
        f"stages.{step.stage}: Megatron does not build {what}: {said}; change stages.{step.stage}.layout, or the model"
    )


def _distinct(needed: Sequence[Step]) -> Iterator[tuple[str, Step, Build]]:
    """Trainings of known models, one of those that build the same, each with the name of that."""
    trainings = (step for step in needed if step.kind == "train")
    alike = {(step.start.identity, *_built_by(step.config).values()): step for step in trainings}
    versions = "".join(version(name) for name in ("torch", "megatron-core") if find_spec(name.partition("-")[0]))
    for step in alike.values():
        if (model := starting_model(step.start.config)) is None:
            continue
        layout: Layout = step.config.layout
        fewest = TrainConfig(global_batch_size=layout.data_parallel * layout.pipeline_parallel)
        build = Build(replace(fewest, **_built_by(step.config)), model)
        yield hashlib.sha256(adapter(BUILDS).dump_json((build,)) + versions.encode()).hexdigest()[:16], step, build


def _built_by(training: TrainConfig) -> dict[str, Any]:
    """The settings of a training that its model is built by."""
    return {name: getattr(training, name) for name in ("layout", "precision", "fp8_emulated", "lora")}


def _note(builds: Mapping[str, Build], built: int, store: Store) -> None:
    (store.root / FOLDER).mkdir(parents=True, exist_ok=True)
    for key in [*builds][:built]:
        write_bytes(store.root / FOLDER / key, adapter(BUILDS).dump_json((builds[key],)), durable=False)
