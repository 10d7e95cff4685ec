from __future__ import annotations

from pathlib import Path

from msm_hpc.training.record.metrics import MetricsFile, StepMetrics
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

    resumed = MetricsFile(path, done=3)
    assert resumed.steps == [_step(1), _step(2), _step(3)]
    resumed.append(_step(4))
    resumed.close()
    assert read_metrics(tmp_path) == [_step(number) for number in range(1, 5)]


def test_starting_again_from_nothing_empties_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("torn")
    MetricsFile(path, done=0).close()
    assert path.read_text() == ""
