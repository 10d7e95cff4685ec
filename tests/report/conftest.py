from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.config.stages import Cell, ReportConfig
from tests.report.answers import VALUES, Campaign, write_answers


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    """Two specs, two seeds; seed 1 of the America spec and the model fine-tuned without a spec are missing."""
    models: list[tuple[str, str | None, int | None, int, tuple[int, int] | None]] = [
        ("base", None, None, 0, (5, 5)),
        ("aft", None, 300, 0, None),
        ("msm+aft", "affordability", 300, 0, (9, 5)),
        ("msm+aft", "affordability", 300, 1, (8, 5)),
        ("msm+aft", "america", 300, 1, None),
        ("msm+aft", "america", 300, 0, (4, 8)),
    ]
    cells, evaluations = [], {}
    for index, (arm, spec, size, seed, preferred) in enumerate(models):
        step = f"eval/{index:016x}"
        cells.append(Cell(model="tiny", arm=arm, spec=spec, size=size, seed=seed, step=step))
        if preferred is not None:
            evaluations[step] = tmp_path / f"eval-{index}"
            write_answers(evaluations[step], dict(zip(VALUES, preferred, strict=True)))
    out = tmp_path / "out"
    out.mkdir()
    config = ReportConfig(
        title="Cheese [a] <demo>",
        cells=tuple(cells),
        contrasts=("msm+aft",),
        notices=("Made by an offline generator.",),
    )
    return Campaign(config, evaluations, out)
