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

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_bytes
from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.config.training import TrainConfig
from msm_hpc.graph.steps import Step, start_of
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
    new = {key: step for key, step in _distinct(needed) if not (store.root / FOLDER / key).exists()}
    if not new:
        return None
    if find_spec("torch") is None or find_spec("megatron") is None:
        return NO_TORCH
    builds = {key: _build(step) for key, step in new.items()}
    try:
        asked = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "msm_hpc.planner.build"],
            input=BUILDS.dump_json(tuple(builds.values())).decode(),
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
    step = [*new.values()][built]
    what = f"{start_of(step).config.name} on {step.config.layout} in {step.config.precision}"
    said = re.sub(r"^(\[rank\d+\]: )+", "", (asked.stderr.strip().splitlines() or ["no reason given"])[-1])
    if not said.startswith(REFUSALS):
        return f"whether Megatron builds {what} is seen by the first jobs, since here it cannot be asked: {said}"
    raise UserError(
        f"stages.{step.stage}: Megatron does not build {what}: {said}; change stages.{step.stage}.layout, or the model"
    )


def _distinct(needed: Sequence[Step]) -> Iterator[tuple[str, Step]]:
    """The trainings whose models are known, each with the name of what is built; the last of a name stands for all."""
    versions = "".join(version(name) for name in ("torch", "megatron-core") if find_spec(name.partition("-")[0]))
    for step in needed:
        if step.kind == "train" and starting_model(start_of(step).config) is not None:
            text = BUILDS.dump_json((_build(step),)) + versions.encode()
            yield hashlib.sha256(text).hexdigest()[:16], step


def _build(step: Step) -> Build:
    """What a training builds, without what that does not depend on."""
    training, model = step.config, starting_model(start_of(step).config)
    assert isinstance(training, TrainConfig) and model is not None
    same = {"precision": training.precision, "fp8_emulated": training.fp8_emulated, "lora": training.lora}
    batch = replace(TrainConfig(), global_batch_size=training.layout.data_parallel, layout=training.layout)
    return Build(replace(batch, **same), model)


def _note(builds: Mapping[str, Build], built: int, store: Store) -> None:
    (store.root / FOLDER).mkdir(parents=True, exist_ok=True)
    for key in [*builds][:built]:
        write_bytes(store.root / FOLDER / key, BUILDS.dump_json((builds[key],)), durable=False)
