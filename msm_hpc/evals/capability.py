"""The ``capability`` stage: EleutherAI's lm-eval on a model, in the environment of its own that it is installed in.

Writes ``scores.parquet``, with lm-eval's names: tasks as groups, ``metric`` or ``metric,filter``. Where its figure of a
task is the mean over the documents there is a row a document, so that models are compared on equal items; of other
figures, such as a corpus's BLEU, there is one row. What lm-eval wrote itself stays in ``lm_eval``.
"""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msm_hpc.base.environment import for_another_interpreter
from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_json, write_json
from msm_hpc.base.notices import read_notices, write_notices
from msm_hpc.base.scores import Score, write_scores
from msm_hpc.base.stopping import current_request
from msm_hpc.config.evals import CapabilityConfig, CapabilityInputs
from msm_hpc.serving.device import devices

FOLDER, ASKED, LOG = "lm_eval", "asked.json", "lm_eval.log"
SECONDS_BETWEEN_LOOKS = 0.2
LINES_QUOTED = 20


def run(config: CapabilityConfig, inputs: CapabilityInputs, out: Path) -> None:
    """Have lm-eval score ``inputs.model``; write ``out/scores.parquet``.

    Raises:
        UserError: lm-eval failed, or wrote no results.
    """
    folder = out / FOLDER
    folder.mkdir()
    weights = {"pretrained": inputs.model, "peft": inputs.adapter}
    model: dict[str, str | bool] = {name: str(path) for name, path in weights.items() if path}
    if "," in devices():
        model["parallelize"] = True  # layers over all GPUs of the job
    results = folder / "results.json"  # a time is added to its name
    asked = {"model": "hf", "model_args": model, "tasks": [*config.tasks], "output_path": str(results)}
    write_json(folder / ASKED, {**asked, "log_samples": True})
    _call(config, folder)
    found = _results(folder)
    write_scores(out, _scores(config.eval, found, folder))
    own = f"{config.eval} is of lm-eval {found['lm_eval_version']}: {_versions(found)}."
    write_notices(out, [*read_notices(inputs.model, inputs.adapter), own])


def _call(config: CapabilityConfig, folder: Path) -> None:
    command = [config.python, "-m", "lm_eval", "run", "--config", str(folder / ASKED)]
    with (folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            [*command, *config.arguments, *config.tuning],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=for_another_interpreter(),
        )
        try:
            while process.poll() is None:
                current_request().obey("while lm-eval ran")
                time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise _failed(folder, f"ended with status {process.returncode}")


def _failed(folder: Path, how: str) -> UserError:
    lines = (folder / LOG).read_text(errors="replace").splitlines()[-LINES_QUOTED:]
    return UserError("\n  ".join([f"lm-eval {how}; the end of {folder / LOG}:", *lines]))


def _results(folder: Path) -> Mapping[str, Any]:
    """What lm-eval found; it only warns where it could not write it."""
    files = sorted(folder.glob("results_*.json"))
    if not files:
        raise _failed(folder, "wrote no results")
    found: Mapping[str, Any] = read_json(files[-1])
    return found


def _versions(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{task} (version {version})" for task, version in found["versions"].items())


def _scores(name: str, found: Mapping[str, Any], folder: Path) -> Iterator[Score]:
    for task, figures in found["results"].items():
        documents = _documents(task, folder)
        for key, figure in figures.items():
            metric, comma, choice = key.partition(",")
            if not comma or metric.endswith("_stderr") or found["group_subtasks"].get(task):
                continue  # about the task; an interval, which the report has its own of; the mean over several tasks
            called = metric if choice == "none" else key
            values = documents.get(key, {})
            if values and isinstance(figure, float) and math.isclose(sum(values.values()) / len(values), figure):
                yield from (Score(name, called, task, item, 0, value) for item, value in values.items())
            elif isinstance(figure, int | float) and math.isfinite(figure):
                yield Score(name, called, task, task, 0, float(figure))
            else:
                yield Score(name, called, task, task, 0, None, "no_number")


def _documents(task: str, folder: Path) -> Mapping[str, Mapping[str, float]]:
    """By ``metric,filter``, what each document has; of metrics for which that is a number."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for file in folder.glob(f"samples_{task}_????-??-??T*.jsonl"):
        with file.open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                for metric in row["metrics"]:
                    if isinstance(row[metric], int | float):
                        values[f"{metric},{row['filter']}"][str(row["doc_id"])] = float(row[metric])
    return values
