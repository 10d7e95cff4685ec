"""Transcripts as a log of Inspect, for `inspect view`: each conversation, its marks, and what the judge answered."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.base.rows import read_rows
from msm_hpc.base.scores import read_scores
from msm_hpc.evals.scoring import VERDICTS
from msm_hpc.evals.tasks.task import ITEMS, REPLIES, Transcript, Turn

NEEDED = 'Inspect is not installed here: pip install "msm-hpc[inspect]", in an environment of its own (docs/evals.md)'


@dataclass(frozen=True)
class Opening:
    """An item of ``items.jsonl``."""

    id: str
    messages: tuple[Turn, ...]


def write_log(replies: Path, scored: Path, file: Path, task: str, model: str) -> int:
    """Write the transcripts in ``replies``, with the scores in ``scored``, as ``file``; returns how many there are.

    Raises:
        UserError: Inspect is not installed, or a file cannot be read.
    """
    try:
        from inspect_ai import log
    except ImportError as error:
        raise UserError(NEEDED) from error
    samples = [*_samples(replies, scored, model)]
    spec = log.EvalSpec(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=task,
        model=model,
        dataset=log.EvalDataset(name=task, samples=len(samples)),
        config=log.EvalConfig(),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    log.write_eval_log(log.EvalLog(status="success", eval=spec, samples=samples), str(file))
    return len(samples)


def _samples(replies: Path, scored: Path, model: str) -> Iterator[Any]:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Score

    openings = {each.id: each.messages for each in read_rows(replies / ITEMS, Opening)}
    marks, answers = _marks(scored), _answers(scored)
    for each in read_rows(replies / REPLIES, Transcript):
        opening = [_message(turn) for turn in openings[each.item]]
        scores = {
            metric: Score(value=value, explanation=answers[each.id].get(metric))
            for metric, value in marks[each.item, each.sample].items()
        }
        yield EvalSample(
            id=each.item,
            epoch=each.sample + 1,
            input=opening,
            target="",
            messages=[*opening, *map(_message, each.messages)],
            output=ModelOutput.from_content(model, each.reply, "max_tokens" if each.cut else "stop"),
            scores=scores,
            metadata={"group": each.group, "finish": each.finish, "detail": each.detail},
        )


def _message(turn: Turn) -> Any:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    return kinds[turn.role](content=turn.content)


def _marks(scored: Path) -> dict[tuple[str, int], dict[str, float | str]]:
    """By item and sample each metric's value, or why it is missing."""
    found: dict[tuple[str, int], dict[str, float | str]] = defaultdict(dict)
    for row in read_scores(scored).to_pylist():
        value = row["value"] if row["missing"] is None else f"missing: {row['missing']}"
        found[row["item"], row["sample"]][row["metric"]] = value
    return found


def _answers(scored: Path) -> dict[str, dict[str, str]]:
    """By transcript and question what the judge said."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    with (scored / VERDICTS).open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            found[row["id"]][row["question"]] = json.dumps(row["answer"] or row["detail"], ensure_ascii=False, indent=2)
    return found
