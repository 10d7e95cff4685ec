"""The report stage: evaluation answers to ``results.json``, tables as CSV and ``report.html``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_json, write_text
from msm_hpc.base.notices import read_notices
from msm_hpc.base.rows import read_rows
from msm_hpc.config.stages import ReportConfig, ReportInputs
from msm_hpc.report.html import render_html
from msm_hpc.report.left_out import read_left_out
from msm_hpc.report.results import FILE
from msm_hpc.report.summary import AnswerRow, summarise
from msm_hpc.report.tables import conditions_csv, contrasts_csv, models_csv, savings_csv


def run(config: ReportConfig, inputs: ReportInputs, out: Path) -> None:
    """Write the report of ``config.cells`` into ``out``; a cell whose evaluation is not there is reported as missing.

    Raises:
        UserError: an ``answers.jsonl`` is absent, empty or malformed, or two of them answer different pairs.
    """
    found = inputs.evaluations
    steps = dict.fromkeys(cell.step for cell in config.cells if cell.step in found)
    answers = {step: _read_answers(found[step] / "answers.jsonl") for step in steps}
    notices = dict.fromkeys(notice for step in steps for notice in read_notices(found[step]))
    packed = [(each, inputs.packed[each.step]) for each in config.packed if each.step in inputs.packed]
    left_out = [source for each, folder in packed for source in read_left_out(each, folder)]
    results = summarise(config, answers, tuple(notices), left_out)
    write_json(out / FILE, asdict(results))
    write_text(out / "results.csv", models_csv(results))
    write_text(out / "conditions.csv", conditions_csv(results))
    write_text(out / "contrasts.csv", contrasts_csv(results))
    write_text(out / "savings.csv", savings_csv(results))
    write_text(out / "report.html", render_html(results))


def _read_answers(path: Path) -> list[AnswerRow]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the evaluation step again")
    answers = read_rows(path, AnswerRow)
    if not answers:
        raise UserError(f"{path}: no answers; run the evaluation step again, with pairs")
    return answers
