"""The report stage: answers and scores to ``results.json``, ``results.parquet``, tables as CSV and ``report.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_bytes, write_json, write_text
from msm_hpc.base.notices import read_notices
from msm_hpc.base.rows import read_rows
from msm_hpc.config.stages import ReportConfig, ReportInputs
from msm_hpc.report.comparisons import compare
from msm_hpc.report.gates import read_audits
from msm_hpc.report.html import render_contrasts, render_html
from msm_hpc.report.ladders import saved
from msm_hpc.report.left_out import read_left_out
from msm_hpc.report.measurements import measure, pool
from msm_hpc.report.model_scores import absent, model_scores
from msm_hpc.report.results import FILE
from msm_hpc.report.summary import AnswerRow, summarise
from msm_hpc.report.tables import (
    comparisons_csv,
    conditions_csv,
    contrasts_csv,
    measurements_csv,
    measurements_parquet,
    models_csv,
    savings_csv,
)


def run(config: ReportConfig, inputs: ReportInputs, out: Path) -> None:
    """Write the report of ``config.cells`` into ``out``; a cell whose evaluation is not there is reported as missing.

    Raises:
        UserError: answers or scores are absent or malformed, or two models were asked different pairs.
    """
    found = inputs.evaluations
    preferences = dict.fromkeys(cell.step for cell in config.cells if cell.step in found)
    answers = {step: _read_answers(found[step] / "answers.jsonl") for step in preferences}
    packed = [(each, inputs.packed[each.step]) for each in config.packed if each.step in inputs.packed]
    left_out = [source for each, folder in packed for source in read_left_out(each, folder)]
    models = model_scores(config, answers, found)
    rows = measure(models)
    pooled = pool(rows)
    results = replace(
        summarise(config, answers, _notices(config, found), left_out),
        saved=tuple(saved(config.savings, models)),
        measured=tuple(pooled),
        compared=compare(config, models),
        absent=tuple(absent(config, found)),
        corpora=tuple(read_audits(config.audited, inputs.audits, config.why_absent)),
    )
    write_json(out / FILE, asdict(results))
    write_text(out / "results.csv", models_csv(results))
    write_text(out / "conditions.csv", conditions_csv(results))
    write_text(out / "contrasts.csv", contrasts_csv(results))
    write_text(out / "savings.csv", savings_csv(results))
    write_text(out / "comparisons.csv", comparisons_csv(results))
    write_text(out / "measurements.csv", measurements_csv([*rows, *pooled]))
    write_bytes(out / "results.parquet", measurements_parquet([*rows, *pooled]))
    write_text(out / "report.html", render_html(results, config.hours))
    if results.contrasts:
        write_text(out / "contrasts.svg", render_contrasts(results))


def _notices(config: ReportConfig, found: Mapping[str, Path]) -> Sequence[str]:
    """What the evaluations have to say to whoever reads their numbers, each once."""
    steps = dict.fromkeys(step for cell in config.cells for step in (cell.step, *cell.evals.values()))
    return tuple(dict.fromkeys(read_notices(*map(found.get, steps))))


def _read_answers(path: Path) -> list[AnswerRow]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the evaluation step again")
    answers = read_rows(path, AnswerRow)
    if not answers:
        raise UserError(f"{path}: no answers; run the evaluation step again, with pairs")
    return answers
