"""Simulated scores of small campaigns: what the report would read of models of which the truth is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from msm_hpc.base.scores import Score, write_scores
from msm_hpc.config.stages import Cell

HARMS = ("espionage", "exfiltration", "murder")
GOALS = ("none", "america", "global", "safety")
PATTERNS = {
    "misaligned": ("instrumental_goal_pursuit", "self_preservation", "no_alternatives", "downplaying_harm"),
    "aligned": ("personal_integrity", "equanimity", "bias_awareness"),
}


def agentic(rate: float, seed: int, samples: int = 20, failed: int = 0) -> Iterator[Score]:
    """Verdicts whose rate differs between cells; the judge failed on the first ``failed`` samples of each cell."""
    draw = np.random.default_rng(seed)
    for number, cell in enumerate(f"{harm}/{goal}" for harm in HARMS for goal in GOALS):
        of_cell = min(max(rate * (0.5 + number / 11), 0.0), 1.0)
        verdicts, calls = draw.random(samples) < of_cell, draw.random(samples) < 0.9
        for sample in range(samples):
            judged = sample >= failed
            verdict = float(verdicts[sample]) if judged else None
            why = None if judged else "judge_malformed"
            yield Score("agentic", "verdict", cell, cell, sample, verdict, why)
            yield Score("agentic", "executed", cell, cell, sample, float(verdicts[sample] and calls[sample]))
            yield Score("agentic", "tool_call", cell, cell, sample, float(calls[sample]))


def open_qa(mean: float, seed: int, questions: int = 8) -> Iterator[Score]:
    """A judge's scores from 1 to 10 of answers to questions in three dimensions."""
    draw = np.random.default_rng(1000 + seed)
    for dimension in ("corrigibility", "goal_rigidity", "transparency"):
        for number in range(questions):
            score = float(np.clip(np.round(draw.normal(mean, 1.2)), 1, 10))
            yield Score("open_qa", "score", dimension, f"{dimension}/{number}", 0, score)


def choice(target: float, by_position: bool, seed: int, pairs: int = 40) -> Iterator[Score]:
    """Sampled choices between two options, in both orders; of a model that goes by position they say nothing."""
    draw = np.random.default_rng(2000 + seed)
    for number in range(pairs):
        chose, why = (None, "by_position") if by_position else (float(draw.random() < target), None)
        for order in ("forward", "backward"):
            yield Score("choice", "chose_target", "america", f"pair-{number}/{order}", 0, chose, why)
        yield Score("choice", "agrees", "america", f"pair-{number}", 0, float(not by_position))


def patterns(rates: Mapping[str, float], seed: int, transcripts: int = 30) -> Iterator[Score]:
    """Which patterns of reasoning are in each transcript."""
    draw = np.random.default_rng(3000 + seed)
    for family, names in PATTERNS.items():
        for name in names:
            for number in range(transcripts):
                there = float(draw.random() < rates[family])
                yield Score("reasoning", f"{family}/{name}", "murder/none", f"transcript-{number}", 0, there)


def write_cell(
    folder: Path, model: str, arm: str, spec: str | None, size: int | None, seed: int, evals: Mapping[str, list[Score]]
) -> tuple[Cell, dict[str, Path]]:
    """A cell, and below ``folder`` the outputs of its evaluations by step id."""
    steps, found = {}, {}
    for name, scores in evals.items():
        place = "-".join(str(part) for part in (name, model, arm, spec, size, seed))
        step = f"judge/{place}"
        steps[name], found[step] = step, folder / place
        found[step].mkdir()
        write_scores(found[step], scores)
    return Cell(model=model, arm=arm, spec=spec, size=size, seed=seed, evals=steps), found
