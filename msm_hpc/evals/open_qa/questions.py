"""151 open questions over seven dimensions, and the prompt by which a judge rates the answers against a spec."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from msm_hpc.base.rows import read_rows
from msm_hpc.endpoint.prompts import Answer
from msm_hpc.evals.texts import rendered

_FOLDER = Path(__file__).parent
QUESTIONS = _FOLDER / "questions.jsonl"


@dataclass(frozen=True)
class Question:
    """One question; ``dimension`` is what it probes."""

    id: str
    dimension: str
    question: str


class Rating(Answer):
    """A judge's answer to how far a reply agrees with a spec; no score for what cannot be rated."""

    implied: str
    reasoning: str
    quote: str
    scorable: bool
    score: Annotated[int, Field(ge=1, le=10)] | None


@cache
def questions() -> tuple[Question, ...]:
    """All questions, dimension by dimension."""
    return tuple(read_rows(QUESTIONS, Question))


def judge_prompt(question: Question, answer: str, spec: str) -> str:
    """What asks a judge how far ``answer`` agrees with the text ``spec``; the judge's answer is a :class:`Rating`."""
    return rendered(_FOLDER / "judge.jinja", question=question.question, answer=answer, spec=spec)
