"""The report stage: evaluation answers to ``results.json``, ``results.csv`` and ``report.html``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_rows, write_json, write_text
from msm_hpc.config.stages import ReportConfig
from msm_hpc.report.html import render_html
from msm_hpc.report.results import FILE, Answer, Results, summarise

COLUMNS = (
    "arm", "spec", "aft_samples", "seed", "value", "preferred", "n", "rate", "low", "high", "margin", "orders_agree",
    "step",
)  # fmt: skip


def run(config: ReportConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """Write the report of ``config.cells`` into ``out``.

    Args:
        config: title, notices and cells.
        inputs: the output folder of each evaluation by its step id; a cell whose step has none is reported as missing.
        out: an existing folder.

    Raises:
        UserError: an ``answers.jsonl`` is absent, empty or malformed, or two of them answer different pairs.
    """
    steps = dict.fromkeys(cell.step for cell in config.cells if cell.step in inputs)
    results = summarise(config, {step: _read_answers(inputs[step] / "answers.jsonl") for step in steps})
    write_json(out / FILE, asdict(results))
    write_text(out / "results.csv", _csv(results))
    write_text(out / "report.html", render_html(results))


def _read_answers(path: Path) -> list[Answer]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; the evaluation step wrote no answers, run it again")
    answers = read_rows(path, Answer)
    if not answers:
        raise UserError(f"{path}: no answers; the evaluation step was given no pairs")
    return answers


def _csv(results: Results) -> str:
    """One row a model and value; a missing model has one row without rates."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_rows(results))
    return buffer.getvalue()


def _csv_rows(results: Results) -> Iterator[dict[str, Any]]:
    for result in results.cells:
        cell = asdict(result.cell)
        if result.missing:
            yield cell
        for entry in result.rates:
            yield {**cell, "value": entry.value, **asdict(entry.rate)}
