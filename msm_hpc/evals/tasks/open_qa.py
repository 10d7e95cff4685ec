"""Open questions: how far a judge finds that the answers agree with a spec, from 1 to 10 (metric ``score``)."""

from __future__ import annotations

from collections.abc import Sequence

from msm_hpc.endpoint.prompts import Message
from msm_hpc.evals.open_qa.questions import Rating, judge_prompt, questions
from msm_hpc.evals.tasks.task import AskedTask, Item, Judged, Marks, Question, Transcript, Wording


class OpenQa(AskedTask):
    """151 questions, in groups by what they probe; ``spec`` is what answers are rated against."""

    def __init__(self, spec: str) -> None:
        super().__init__([Item(question.id, question.dimension, question) for question in questions()])
        self._spec = spec

    def opening(self, item: Item, wording: Wording) -> tuple[Message, ...]:
        """The question alone."""
        return (Message("user", item.about.question),)

    def questions(self, item: Item, transcript: Transcript) -> Sequence[Question]:
        """How far the answer agrees with the spec."""
        return (Question("score", judge_prompt(item.about, transcript.reply, self._spec), Rating),)

    def marks(self, item: Item, transcript: Transcript, judged: Judged) -> Marks:
        """The score; what the judge cannot rate has none, and an answer that was cut is rated for what is there."""
        if transcript.missing:
            return {"score": transcript.missing, "truncated": transcript.missing}
        answer = judged.get("score", "truncated")
        if isinstance(answer, Rating):
            score: float | str = answer.score if answer.scorable and answer.score is not None else "unscorable"
        else:
            score = str(answer)
        return {"score": score, "truncated": float(transcript.cut)}
