"""The ``eval`` stage: ask a model every pair, and write one answer a pair.

Writes ``answers.jsonl`` (:class:`~msm_hpc.evals.preference.Answer`, in input order), and passes the model's notices on.
The report computes the rates.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_jsonl
from msm_hpc.base.notices import read_notices, write_notices
from msm_hpc.base.progress import ProgressFile
from msm_hpc.config.stages import EvalConfig, EvalInputs
from msm_hpc.evals.pairs import check_slots, read_pairs
from msm_hpc.evals.preference import Scorer
from msm_hpc.evals.texts import spec_turn


def run(config: EvalConfig, inputs: EvalInputs, out: Path) -> None:
    """Evaluate ``inputs.model`` on all of ``inputs.pairs`` and write ``out/answers.jsonl``.

    Raises:
        UserError: the configuration, the model or a pairs file is wrong.
    """
    check_slots(config.answer, {"item"}, "eval.answer")
    if not inputs.pairs:
        raise UserError("the eval stage was given no pairs: it needs the pairs of at least one value")
    pairs = [pair for file in inputs.pairs.values() for pair in read_pairs(file)[: config.items]]
    progress = ProgressFile(out, total=len(pairs), unit="pairs")
    with progress.timing("load"):
        scorer = Scorer(inputs.model, config.answer, config.tokens_per_batch, inputs.adapter, spec_turn(inputs.spec))
    answers = scorer.ask(pairs, progress.update)
    write_notices(out, read_notices(inputs.model, inputs.adapter))
    write_jsonl(out / "answers.jsonl", map(asdict, answers))
