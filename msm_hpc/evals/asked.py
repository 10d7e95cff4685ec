"""The files that hold what evals ask, by task: what the audit of a corpus looks for as a leak.

Not among them are the pairs of ``choice``, which are the campaign's own, and the tasks of lm-evaluation-harness.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msm_hpc.config.evals import Task

_FOLDER = Path(__file__).parent
_MAIL = {name: _FOLDER / "agentic" / f"{name}.yaml" for name in ("espionage", "exfiltration", "murder", "goals")}

ASKED: Mapping[Task, Mapping[str, Path]] = {
    "agentic": _MAIL,
    "episodes": {**_MAIL, "episodes": _FOLDER / "agentic" / "episodes.yaml"},
    "formats": {"formats": _FOLDER / "tasks" / "formats.yaml"},
    "open_qa": {"open_qa": _FOLDER / "open_qa" / "questions.jsonl"},
}
