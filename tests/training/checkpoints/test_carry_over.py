"""What a resumed run takes over from the folders of earlier attempts, whose processes may still write there."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.training.checkpoints import carry_over as module
from msm_hpc.training.checkpoints.carry_over import carry_over
from msm_hpc.training.checkpoints.hashes import write_hashes

FILES = (".metadata", "__0_0.distcp", "hashes.json")


def checkpoint(folder: Path, step: int) -> Path:
    folder.mkdir(parents=True)
    for name in FILES[:-1]:
        (folder / name).write_text(f"{name} of {step}")
    write_hashes(folder, {})
    return folder


def finished(folder: Path) -> Path:
    checkpoint(folder / "checkpoint", 9)
    (folder / "summary.json").write_text("{}")
    return folder


def attempt(folder: Path, *steps: int) -> Path:
    for step in steps:
        checkpoint(folder / "resume" / f"step-{step:09}", step)
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
    parts = {f"resume/step-{step:09}/{name}" for step in (2, 4) for name in FILES}
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
    carry_over([finished(tmp_path / "finished"), attempt(tmp_path / "other", 2)], out)
    assert files(out) == {"summary.json", *(f"checkpoint/{name}" for name in FILES)}


@pytest.mark.parametrize("name", FILES)
def test_of_a_result_that_is_being_deleted_nothing_says_that_it_is_finished(
    tmp_path: Path, out: Path, name: str
) -> None:
    before = finished(attempt(tmp_path / "before", 4))
    (before / "checkpoint" / name).unlink()
    carry_over([before], out)
    assert "metrics.jsonl" in files(out) and not files(out) & {"summary.json", f"checkpoint/{FILES[1]}"}


def test_a_run_that_finishes_meanwhile_does_not_leave_a_summary_alone(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, link = attempt(tmp_path / "before", 2), os.link

    def finish_first(source: Path, target: Path) -> None:
        if not (before / "summary.json").exists():
            finished(before)
        link(source, target)

    monkeypatch.setattr(os, "link", finish_first)
    carry_over([before], out)
    assert "metrics.jsonl" in files(out) and "summary.json" not in files(out)


def test_a_run_that_finishes_and_deletes_all_else_meanwhile_is_looked_at_again(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, link = attempt(tmp_path / "before", 2), os.link

    def finish_first(source: Path, target: Path) -> None:
        if not (before / "summary.json").exists():
            finished(before)
            shutil.rmtree(before / "resume")
        link(source, target)

    monkeypatch.setattr(os, "link", finish_first)
    carry_over([before], out)
    assert {"summary.json", "metrics.jsonl", f"checkpoint/{FILES[1]}"} <= files(out) and not list(out.glob("resume/*"))


@pytest.mark.parametrize("finish", [finished, lambda folder: folder])
def test_of_two_that_got_as_far_the_older_may_be_half_deleted(tmp_path: Path, out: Path, finish: Any) -> None:
    older, newer = (finish(attempt(tmp_path / name, 4)) for name in ("older", "newer"))
    (older / "metrics.jsonl").unlink()
    carry_over([older, newer], out)
    assert "metrics.jsonl" in files(out)


def test_a_half_deleted_resume_checkpoint_counts_for_nothing(tmp_path: Path, out: Path) -> None:
    older, newer = attempt(tmp_path / "older", 2), attempt(tmp_path / "newer", 1, 4)
    (newer / "resume" / "step-000000004" / FILES[1]).unlink()
    carry_over([older, newer], out)
    assert [path.name for path in (out / "resume").iterdir()] == ["step-000000002"]


def test_copies_and_names_are_on_disk_before_the_originals_are_deleted(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[Path, set[str]] = {}

    def note(path: Path) -> None:
        synced[path] = {each.name for each in path.iterdir()} if path.is_dir() else {path.read_text()}

    monkeypatch.setattr(module, "sync", note)
    carry_over([attempt(tmp_path / "before", 2)], out)
    folders = [out, *(path for path in out.rglob("*") if path.is_dir())]
    copies = [out / "metrics.jsonl", out / "tensorboard" / "events"]
    assert synced == {path: {each.name for each in path.iterdir()} for path in folders} | {
        path: {path.read_text()} for path in copies
    }


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
