"""151 open questions over seven dimensions, and the prompt by which a judge rates the answers against a spec."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from msm_hpc.base.rows import read_rows
from msm_hpc.evals.texts import read_schema, rendered

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Question:
    """One question; ``dimension`` is what it probes."""

    id: str
    dimension: str
    question: str


@cache
def questions() -> tuple[Question, ...]:
    """All questions, dimension by dimension."""
    return tuple(read_rows(_FOLDER / "questions.jsonl", Question))


def judge_prompt(question: Question, answer: str, spec: str) -> str:
    """What asks a judge how far ``answer`` agrees with the text ``spec``; the answer is to fit :func:`judge_schema`."""
    return rendered(_FOLDER / "judge.jinja", question=question.question, answer=answer, spec=spec)


def judge_schema() -> dict[str, Any]:
    """JSON schema of the judge's answer; a score of null is for answers that cannot be rated."""
    return read_schema(_FOLDER / "judge_schema.json")
