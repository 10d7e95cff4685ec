from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.config import Arm, Cell, ReportConfig

VALUES = ("affordability", "america")
DOMAINS = ("art", "books", "games", "tools")


@dataclass(frozen=True)
class Campaign:
    """A report's config and inputs, with ``out`` to write into."""

    config: ReportConfig
    inputs: Mapping[str, Path]
    out: Path


def answer(value: str, domain: str, index: int, preferred: bool) -> dict[str, Any]:
    margin = 1.0 if preferred else -0.5
    backward = -0.25 if index == 0 else margin
    return {
        "id": f"{value}/{domain}/{index}",
        "value": value,
        "domain": domain,
        "margin_forward": 2 * margin - backward,
        "margin_backward": backward,
        "margin": margin,
        "preferred": preferred,
        "length_difference": 0,
    }


def write_answers(folder: Path, preferred: Mapping[str, int], pairs_per_domain: int = 10) -> None:
    """In each domain the first ``preferred[value]`` pairs are answered as the value would; one more in ``art``."""
    folder.mkdir()
    rows = [
        answer(value, domain, index, index < preferred[value] + (domain == "art"))
        for value in preferred
        for domain in DOMAINS
        for index in range(pairs_per_domain)
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    """Two specs, two seeds; seed 1 of the America spec and the model fine-tuned without a spec are missing."""
    models: list[tuple[Arm, str | None, int, int, tuple[int, int] | None]] = [
        ("msm+aft", "america", 300, 1, None),
        ("msm+aft", "america", 300, 0, (4, 8)),
        ("msm+aft", "affordability", 300, 0, (9, 5)),
        ("msm+aft", "affordability", 300, 1, (8, 5)),
        ("aft", None, 300, 0, None),
        ("base", None, 0, 0, (5, 5)),
    ]
    cells, inputs = [], {}
    for index, (arm, spec, samples, seed, preferred) in enumerate(models):
        step = f"eval/{index:016x}"
        cells.append(Cell(arm=arm, spec=spec, aft_samples=samples, seed=seed, step=step))
        if preferred is not None:
            inputs[step] = tmp_path / f"eval-{index}"
            write_answers(inputs[step], dict(zip(VALUES, preferred, strict=True)))
    out = tmp_path / "out"
    out.mkdir()
    config = ReportConfig(title="Cheese [a] <demo>", cells=tuple(cells), notices=("Made by an offline generator.",))
    return Campaign(config, inputs, out)
