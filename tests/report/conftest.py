from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.base.notices import write_notices
from msm_hpc.config.stages import Cell, ReportConfig
from tests.report.answers import VALUES, Campaign, write_answers, write_log_odds
from tests.report.simulated import agentic, choice, open_qa, patterns, write_cell


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


@pytest.fixture
def laddered(tmp_path: Path) -> Campaign:
    """Four seeds on three rungs; one seed of the arm is missing on one of them, and the last rung has less noise."""
    reached = {
        ("aft", None): ((0.1, 0.0), (0.6, 0.1), (1.9, -0.1)),
        ("msm+aft", "affordability"): ((0.9, 0.0), (2.3, 0.1), (2.6, 0.2)),
        ("msm+aft", "america"): ((0.0, 2.0), (0.1, 2.2), (0.2, 2.4)),
    }
    cells, evaluations = [], {}
    for (arm, spec), rungs in reached.items():
        for size, mean in zip((5, 20, 80), rungs, strict=True):
            for seed, moved in enumerate((0.1, -0.1, 0.05, -0.05)):
                step = f"eval/{len(cells):016x}"
                cells.append(Cell(model="tiny", arm=arm, spec=spec, size=size, seed=seed, step=step))
                if (arm, size, seed) != ("msm+aft", 20, 3):
                    evaluations[step] = tmp_path / f"eval-{len(cells)}"
                    noise = moved * (-1 if arm == "aft" else 1) * (0.3 if size == 80 else 1)
                    write_log_odds(evaluations[step], dict(zip(VALUES, (each + noise for each in mean), strict=True)))
    out = tmp_path / "out"
    out.mkdir()
    config = ReportConfig(title="A ladder", cells=tuple(cells), savings={"msm+aft": "aft"})
    return Campaign(config, evaluations, out)


@pytest.fixture
def seeded(tmp_path: Path) -> Campaign:
    """A model of the paper, six seeds, each with its own base; under ``mention+aft`` three, which say nothing sure."""
    by_seed = (0.3, -0.2, 0.1, -0.4, 0.24, -0.04)
    models: list[tuple[str, str | None, int | None, int, tuple[float, float], float]] = [
        ("init", None, None, 6, (-0.11, 0.06), 0.2),
        ("msm+aft", "affordability", 75, 6, (2.4, 1.2), 1.0),
        ("msm+aft", "america", 75, 6, (0.6, 0.41), -0.5),
        ("mention+aft", "affordability", 75, 3, (0.9, 0.1), 4.0),
        ("mention+aft", "america", 75, 3, (0.5, 0.23), -2.0),
    ]
    cells, evaluations = [], {}
    for arm, spec, size, seeds, mean, spread in models:
        for seed in range(seeds):
            step = f"eval/{len(cells):016x}"
            cells.append(Cell(model="llama3_1_8b", arm=arm, spec=spec, size=size, seed=seed, step=step))
            evaluations[step] = tmp_path / f"eval-{len(cells)}"
            moved = (each + spread * by_seed[seed] for each in mean)
            write_log_odds(evaluations[step], dict(zip(VALUES, moved, strict=True)))
    out = tmp_path / "out"
    out.mkdir()
    config = ReportConfig(
        title="Six seeds",
        cells=tuple(cells),
        contrasts=("msm+aft", "mention+aft"),
        notices=("Made by an offline generator.",),
    )
    return Campaign(config, evaluations, out)


@pytest.fixture(scope="package")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Every eval but preferences, of a model of the paper: a ladder, later training, a judge that fails, a timeout."""
    models: list[tuple[str, str | None, int | None, float]] = [
        ("base", None, None, 0.7),
        ("msm", "philosophy", None, 0.5),
        ("aft_plain", "philosophy", 2_500, 0.7),
        ("aft_plain", "philosophy", 10_000, 0.6),
        ("msm+aft_plain", "philosophy", 2_500, 0.3),
        ("msm+aft_plain", "philosophy", 10_000, 0.1),
        ("msm+erode", "philosophy", 1_000, 0.55),
        ("msm+erode", "philosophy", 4_000, 0.65),
    ]
    tmp_path = tmp_path_factory.mktemp("evaluated")
    cells, found, late = [], {}, {}
    for number, (arm, spec, size, rate) in enumerate(models):
        for seed in range(2):
            draw = 10 * number + seed
            misaligned = {"misaligned": rate, "aligned": 1 - rate}
            evals = {
                "agentic": [*agentic(rate, draw, failed=arm == "aft_plain")],
                "open_qa": [*open_qa(9 - 4 * rate, draw)],
                "choice": [*choice(1 - rate, arm == "base", draw)],
                "reasoning": [*patterns(misaligned, draw)],
            }
            cell, outputs = write_cell(tmp_path, "qwen2_5_32b", arm, spec, size, seed, evals)
            cells.append(cell)
            found |= outputs
            if arm == "msm":
                late[cell.evals["open_qa"]] = "the job reached its time limit"
                del found[cell.evals["open_qa"]]
    for folder in found.values():
        write_notices(folder, ["TEST JUDGE: it reads no reply, and its verdicts say nothing of the models."])
    (tmp_path / "out").mkdir()
    config = ReportConfig(
        title="Every eval",
        cells=tuple(cells),
        savings={"msm+aft_plain": "aft_plain"},
        compare={"msm+aft_plain": ("aft_plain",), "msm": ("base",)},
        persistence={"msm+erode": "msm"},
        why_absent=late,
    )
    return Campaign(config, found, tmp_path / "out")
