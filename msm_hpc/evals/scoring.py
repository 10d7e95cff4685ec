"""The score stage: what each reply shows, by its text and, where the task has one, by a judge.

``out`` has ``scores.parquet`` (:mod:`msm_hpc.base.scores`), ``verdicts.jsonl`` (the judge's answers, or why there is
none, with the judge's model and the hash of its prompts) and ``_replies``, which an attempt that resumes takes over.
Every sample that the eval asks for has its rows: one that is not there is shown as missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msm_hpc.base.files import write_jsonl
from msm_hpc.base.notices import read_notices, write_notices
from msm_hpc.base.progress import ProgressFile
from msm_hpc.base.rows import read_rows
from msm_hpc.base.scores import Score, write_scores
from msm_hpc.config.evals import ScoreConfig, ScoreInputs
from msm_hpc.endpoint import Answer, Message, Prompt, Reject
from msm_hpc.endpoint.resuming import REPLIES as RESUMED
from msm_hpc.endpoint.scripts import Script, play
from msm_hpc.evals.checked import checked
from msm_hpc.evals.tasks.known import scored_task
from msm_hpc.evals.tasks.task import REPLIES, Item, Judged, Question, Task, Transcript, never_asked, sample_id

VERDICTS = "verdicts.jsonl"
JUDGE_TOKENS = 4096
"""The most tokens of a judge's answer, thoughts included."""


@dataclass(frozen=True)
class Verdict:
    """A judge's answer to one question about a transcript; ``missing`` and ``detail`` say why there is none.

    ``by`` is what the judge calls itself in its reply: of a model without a date, the version that answered.
    """

    id: str
    question: str
    answer: Answer | None
    by: str = ""
    missing: str | None = None
    detail: str = ""


def run(config: ScoreConfig, inputs: ScoreInputs, out: Path) -> None:
    """Score ``inputs.replies``.

    Raises:
        UserError: replies, pairs or the spec cannot be read, or the judge cannot be asked or has not answered all.
    """
    task = scored_task(config.task, inputs, config.items)
    there = {each.id: each for each in read_rows(inputs.replies / REPLIES, Transcript)}
    wanted = [
        (item, there.get(sample_id(item.id, sample)) or never_asked(item, sample))
        for item in task.items
        for sample in range(config.samples)
    ]
    verdicts = asyncio.run(_judged(config, task, wanted, out)) if config.judge else []
    write_jsonl(out / VERDICTS, (_row(config, each) for each in verdicts))
    judged: dict[str, dict[str, Answer | str]] = {}
    for each in verdicts:
        judged.setdefault(each.id, {})[each.question] = each.answer or each.missing or ""
    scores, notices = task.finished(_scores(config, task, wanted, judged))
    write_scores(out, scores)
    said = read_notices(inputs.replies, inputs.patterns)
    write_notices(out, [*said, *_judges(config, verdicts), *notices])


async def _judged(
    config: ScoreConfig, task: Task, wanted: Sequence[tuple[Item, Transcript]], out: Path
) -> list[Verdict]:
    """What the judge says of all transcripts that have a text, in their order."""
    assert config.judge is not None
    questions = [
        (transcript.id, question)
        for item, transcript in wanted
        if transcript.missing is None and transcript.reply.strip()
        for question in task.questions(item, transcript)
    ]
    progress = ProgressFile(out, len(questions), "judgements")
    verdicts: list[Verdict] = []
    async with checked(config.judge, out / RESUMED) as engine:
        async for verdict in play(engine, (_verdict(*each) for each in questions)):
            verdicts.append(verdict)
            progress.update(len(verdicts))
    return verdicts


def _verdict(transcript: str, question: Question) -> Script[Verdict]:
    result = yield Prompt(
        messages=(Message("user", question.text),), max_tokens=JUDGE_TOKENS, temperature=0.0, answer=question.answer
    )
    if isinstance(result, Reject):
        return Verdict(transcript, question.name, None, missing=f"judge_{result.reason}", detail=result.detail)
    return Verdict(transcript, question.name, question.answer.model_validate_json(result.text), by=result.model)


def _scores(
    config: ScoreConfig, task: Task, wanted: Sequence[tuple[Item, Transcript]], judged: Mapping[str, Judged]
) -> Iterator[Score]:
    for item, transcript in wanted:
        for metric, mark in task.marks(item, transcript, judged.get(transcript.id, {})).items():
            value, missing = (None, mark) if isinstance(mark, str) else (mark, None)
            yield Score(config.eval, metric, item.group, item.id, transcript.sample, value, missing)


def _row(config: ScoreConfig, verdict: Verdict) -> dict[str, Any]:
    assert config.judge is not None
    answer = verdict.answer and verdict.answer.model_dump()
    return {**vars(verdict), "answer": answer, "judge": config.judge.model, "prompts": config.prompts}


def _judges(config: ScoreConfig, verdicts: Sequence[Verdict]) -> Iterator[str]:
    if verdicts and config.judge:
        others = sorted({each.by for each in verdicts if each.by} - {config.judge.model})
        answered = f" (which answered as {' and '.join(others)})" if others else ""
        yield (
            f"Replies to {config.eval} are judged by {config.judge.model}{answered}, with prompts of hash "
            f"{config.prompts}."
        )
