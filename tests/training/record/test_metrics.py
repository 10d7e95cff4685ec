from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.training.record.metrics import FieldLoss, HeldOutFile, MetricsFile, StepMetrics, recorded_steps
from tests.training.toy import read_metrics


def _step(number: int) -> StepMetrics:
    return StepMetrics(number, 1 / number, 0.5, 1e-3, 100, 60, 4 * number, 10**6, 0.1)


def test_resuming_drops_what_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    killed = MetricsFile(path, done=0)
    for number in range(1, 6):
        killed.append(_step(number))
    killed.close()
    with path.open("a") as file:
        file.write('{"step": 6, "loss"')

    assert recorded_steps(tmp_path) == 5
    resumed = MetricsFile(path, done=3)
    assert resumed.steps == [_step(1), _step(2), _step(3)]
    resumed.append(_step(4))
    resumed.close()
    assert read_metrics(tmp_path) == [_step(number) for number in range(1, 5)]


@pytest.mark.parametrize("damage", [("loss", "lose"), ('"step": 4', '"step": 5')])
def test_a_damaged_line_ends_the_file_as_a_torn_one_does(tmp_path: Path, damage: tuple[str, str]) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, done=0)
    for number in range(1, 7):
        metrics.append(_step(number))
    metrics.close()
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace(*damage)
    path.write_text("\n".join(lines) + "\n")
    assert recorded_steps(tmp_path) == 3


def test_starting_again_from_nothing_empties_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("torn")
    MetricsFile(path, done=0).close()
    assert path.read_text() == ""


@pytest.mark.parametrize(
    ("name", "keep", "steps"),
    [
        ("metrics.jsonl", 1.0, 6),
        ("metrics.jsonl", 0.6, 3),
        ("metrics.jsonl", 0.0, 0),
        ("heldout.jsonl", 0.9, 3),
        ("heldout.jsonl", 0.5, 1),
        ("heldout.jsonl", 0.0, 0),
    ],
)
def test_a_torn_file_records_the_steps_before(tmp_path: Path, name: str, keep: float, steps: int) -> None:
    metrics, held_out = MetricsFile(tmp_path / "metrics.jsonl", 0), HeldOutFile(tmp_path / "heldout.jsonl", 0)
    for step in range(1, 7):
        metrics.append(_step(step))
    metrics.close()
    for step in (0, 2, 4, 6):
        held_out.append([FieldLoss(step, None, None, 1.0, 9)])
    file = tmp_path / name
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep * len(whole))] + bytes(64) * (0 < keep < 1))
    assert recorded_steps(tmp_path) == steps
    assert len(MetricsFile(tmp_path / "metrics.jsonl", steps).steps) == steps


def test_where_nothing_is_held_out_there_is_no_file_of_it(tmp_path: Path) -> None:
    assert recorded_steps(tmp_path) == 0
    file = MetricsFile(tmp_path / "metrics.jsonl", 0)
    file.append(_step(1))
    file.close()
    assert recorded_steps(tmp_path) == 1
