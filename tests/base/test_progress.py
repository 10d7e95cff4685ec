from __future__ import annotations

from pathlib import Path

from msm_hpc.base.progress import FILE, Progress, ProgressFile, read_progress


def test_progress_is_written_at_most_twice_a_second_and_when_it_is_to_be_exact(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path, 400, "optimizer steps")
    file.update(1)
    file.update(2)
    assert read_progress(tmp_path) == Progress(1, 400, "optimizer steps")
    file.flush()
    assert read_progress(tmp_path) == Progress(2, 400, "optimizer steps")
    file.update(400)
    assert read_progress(tmp_path) == Progress(400, 400, "optimizer steps")


def test_no_progress_and_a_torn_file_are_none(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    (tmp_path / FILE).write_text("")
    assert read_progress(tmp_path) is None
