"""What a resumed run takes over from the folders of earlier attempts, whose processes may still write there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from msm_hpc.training.checkpoints.carry_over import carry_over


def attempt(folder: Path, *steps: int) -> Path:
    for step in steps:
        checkpoint = folder / "resume" / f"step-{step:09}"
        checkpoint.mkdir(parents=True)
        for name in (".metadata", "__0_0.distcp"):
            (checkpoint / name).write_text(f"{name} of {step}")
    (folder / "resume" / f".step-{steps[-1] + 1:09}.partial").mkdir()
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events").write_text("first events")
    (folder / "metrics.jsonl").write_text("a line a step\n" * steps[-1])
    (folder / "progress.json").write_text("{}")
    (folder / ".progress.json.12.partial").write_text("{")
    return folder


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    out.mkdir()
    return out


def test_checkpoints_are_linked_and_what_is_appended_to_is_copied(tmp_path: Path, out: Path) -> None:
    before = attempt(tmp_path / "before", 2, 4)
    carry_over([before], out)
    parts = {f"resume/step-{step:09}/{name}" for step in (2, 4) for name in (".metadata", "__0_0.distcp")}
    assert files(out) == {*parts, "metrics.jsonl", "tensorboard/events"}
    assert all((out / part).samefile(before / part) for part in parts)
    for name in ("metrics.jsonl", "tensorboard/events"):
        with (before / name).open("a") as old:
            old.write("written by the process of before")
        assert "written by" not in (out / name).read_text()


def test_the_attempt_that_got_furthest_counts(tmp_path: Path, out: Path) -> None:
    """The process of the first one lived on, and is ahead of the second by now."""
    carry_over([attempt(tmp_path / "first", 6, 8), attempt(tmp_path / "second", 4)], out)
    assert sorted(path.name for path in (out / "resume").iterdir()) == ["step-000000006", "step-000000008"]


def test_a_finished_one_gets_furthest(tmp_path: Path, out: Path) -> None:
    finished = tmp_path / "finished"
    (finished / "checkpoint").mkdir(parents=True)
    (finished / "checkpoint" / "__0_0.distcp").write_text("weights")
    (finished / "summary.json").write_text("{}")
    carry_over([attempt(tmp_path / "other", 2), finished], out)
    assert files(out) == {"summary.json", "checkpoint/__0_0.distcp"}


def test_where_nothing_was_saved_the_run_starts_again(tmp_path: Path, out: Path) -> None:
    empty = attempt(tmp_path / "nothing_saved", 0)
    for file in (empty / "resume" / "step-000000000").iterdir():
        file.unlink()
    (empty / "resume" / "step-000000000").rmdir()
    carry_over([], out)
    carry_over([empty], out)
    assert not files(out)


def test_a_checkpoint_that_is_deleted_meanwhile_is_left_out(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, link = attempt(tmp_path / "before", 2, 4), os.link

    def deleted_first(source: Path, target: Path) -> None:
        if "step-000000002" in str(source):
            Path(source).unlink()
        link(source, target)

    monkeypatch.setattr(os, "link", deleted_first)
    carry_over([before], out)
    assert [path.name for path in (out / "resume").iterdir()] == ["step-000000004"]


def test_a_file_system_without_links_gets_copies(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    carry_over([attempt(tmp_path / "before", 2)], out)
    assert (out / "resume" / "step-000000002" / "__0_0.distcp").read_text() == "__0_0.distcp of 2"
