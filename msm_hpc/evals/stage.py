"""The ``eval`` stage: ask a model every pair, write one answer a pair.

Reads ``inputs["model"]`` (a Hugging Face folder) and ``inputs["pairs/<value>"]`` (files of pairs, or folders with
``pairs.jsonl``). Writes ``answers.jsonl`` (:class:`~msm_hpc.evals.preference.Answer`, in input order). Rates are the
report's work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_jsonl
from msm_hpc.base.progress import ProgressFile
from msm_hpc.config.stages import EvalConfig
from msm_hpc.evals.pairs import Pair, check_slots, read_pairs
from msm_hpc.evals.preference import TEXTS_PER_PAIR, Answer, Scorer


def run(config: EvalConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """Evaluate ``inputs["model"]`` on every ``inputs["pairs/…"]`` and write ``out/answers.jsonl``.

    Raises:
        UserError: the configuration, the model or a pairs file is wrong.
    """
    check_slots(config.answer, {"item"}, "eval.answer")
    pairs = _all_pairs(inputs)
    scorer = Scorer(inputs["model"], config.answer)
    progress = ProgressFile(out, total=len(pairs), unit="pairs")
    pairs_per_batch = config.batch_size // TEXTS_PER_PAIR
    answers: list[Answer] = []
    for start in range(0, len(pairs), pairs_per_batch):
        answers += scorer.ask(pairs[start : start + pairs_per_batch])
        _check_finite(answers[start:], inputs["model"])
        progress.update(len(answers))
    write_jsonl(out / "answers.jsonl", map(asdict, answers))


def _all_pairs(inputs: Mapping[str, Path]) -> list[Pair]:
    roles = [role for role in inputs if role.startswith("pairs/")]
    if not roles:
        raise UserError("the eval stage was given no pairs: it needs an input pairs/VALUE for each value to evaluate")
    return [pair for role in roles for pair in read_pairs(inputs[role])]


def _check_finite(answers: Sequence[Answer], model: Path) -> None:
    for answer in answers:
        if not math.isfinite(answer.margin):
            raise UserError(f"{model}: the log-probabilities of pair {answer.id!r} are not finite: the model is broken")
