"""The results of a campaign's steps, in a form that can be held against what they were before."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.graph.steps import Step
from msm_hpc.store.store import Store

GOLDEN = Path(__file__).parent / "golden" / "results.json"


def check_results(steps: Iterable[Step], store: Store) -> None:
    """Assert that corpora and packs are the bytes that were last accepted, losses and answers the numbers.

    Losses are compared to 1e-5 and margins to 1e-3: processors differ in the last digits of float32 sums.
    """
    found = {step.name: result for step in steps if (result := _result(step, store.of(step).out)) is not None}
    if os.environ.get("MSM_ACCEPT_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    known = json.loads(GOLDEN.read_text())
    assert found.keys() == known.keys()
    for name, result in found.items():
        tolerance = 1e-3 if name.startswith("eval/") else 1e-5
        assert result == (known[name] if isinstance(result, str) else pytest.approx(known[name], abs=tolerance)), name


def _result(step: Step, out: Path) -> Any:
    """A hash of what does not depend on the processor, the numbers of what does; None for what says it again."""
    match step.kind:
        case "generate":
            return _hash(*(out / name for name in ("tokenizer.json", "data.jsonl", "pairs.jsonl")))
        case "tokenize":
            return _hash(*sorted(out.glob("shard.*")))
        case "pack":
            return _hash(out / "rows.npy", out / "pieces.npy")
        case "train":
            return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        case "eval":
            return [json.loads(line)["margin"] for line in (out / "answers.jsonl").read_text().splitlines()]
    return None


def _hash(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files if file.exists())).hexdigest()
