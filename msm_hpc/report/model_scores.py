"""What each model of a report scored, from the outputs of its evaluations, and which outputs are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.base.position import BY_POSITION
from msm_hpc.config.stages import ReportConfig
from msm_hpc.report.items import Items, Scored, items_from, read_items
from msm_hpc.report.measurements import ModelScores
from msm_hpc.report.metrics import PREFERENCE, Metric
from msm_hpc.report.results import Absent
from msm_hpc.report.summary import Answers, answers_by_position

NO_RESULT = "no result was found"


def model_scores(config: ReportConfig, answers: Mapping[str, Answers], found: Mapping[str, Path]) -> list[ModelScores]:
    """The scores of every cell that has any evaluation.

    Raises:
        UserError: scores are absent, damaged or empty.
    """
    models = []
    for cell in config.cells:
        scored = {**preferences(answers.get(cell.step, ()))}
        steps = dict.fromkeys((name for name, _ in scored), cell.step)
        for name, step in cell.evals.items():
            if step in found:
                scored |= _of_eval(name, found[step])
                steps[name] = step
        if scored:
            models.append(ModelScores(cell, scored, steps))
    return models


def _of_eval(name: str, folder: Path) -> Scored:
    """The scores in ``folder``, by the name that the campaign has for the eval."""
    scored = {(name, metric): items for (_, metric), items in read_items(folder).items()}
    if not scored:
        raise UserError(f"{folder}: no scores of {name}; run the eval again")
    return scored


def preferences(answers: Answers) -> Scored:
    """Preferences by log-probability, each value an eval of its own, as if they were scores."""
    found: dict[Metric, Items] = {}
    for value in dict.fromkeys(answer.value for answer in answers):
        rows = [answer for answer in answers if answer.value == value]
        name = PREFERENCE + value
        found[name, "log_odds"] = items_from((row.domain, row.id, row.margin) for row in rows)
        preferred = items_from((row.domain, row.id, float(row.preferred)) for row in rows)
        found[name, "preferred"] = preferred.without(BY_POSITION) if answers_by_position(rows) else preferred
        found[name, "orders_agree"] = items_from((row.domain, row.id, float(row.orders_agree)) for row in rows)
        found[name, "toward_first"] = items_from((row.domain, row.id, row.toward_first) for row in rows)
    return found


def absent(config: ReportConfig, found: Mapping[str, Path]) -> Iterator[Absent]:
    """The evaluations that are not there."""
    for cell in config.cells:
        steps = {"": cell.step} if cell.step else {}
        for name, step in {**steps, **cell.evals}.items():
            if step not in found:
                yield Absent(cell, name, step, config.why_absent.get(step, NO_RESULT))
