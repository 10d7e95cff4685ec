"""The store and the runner together: what a job leaves behind, however it ends."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from msm_hpc.base.code import code_commit
from msm_hpc.base.errors import UserError
from msm_hpc.campaign.external_inputs import identity_of
from msm_hpc.campaign.runner import run_step
from msm_hpc.campaign.step_inputs import UpstreamMissingError
from msm_hpc.config.stages import ExportConfig
from msm_hpc.graph import kinds
from msm_hpc.graph.steps import File, Step
from msm_hpc.launch.job import JobRef, local_job
from msm_hpc.store.attempts import AttemptFolder
from msm_hpc.store.folder import LeaseHeldError, StepFolder
from msm_hpc.store.records import Attempt, now
from msm_hpc.store.store import Store

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def use_stage(monkeypatch: pytest.MonkeyPatch) -> object:
    """Lets the kind ``export`` be made by a stage of ``stages.py``."""

    def use(name: str, resumable: bool = False, result: tuple[str, ...] = ()) -> None:
        carry_over = "stages:carry_over" if resumable else None
        version = kinds.KINDS["export"].version
        kind = kinds.Kind(version, ExportConfig, dict, f"stages:{name}", carry_over=carry_over, result=result)
        monkeypatch.setitem(kinds.KINDS, "export", kind)
        monkeypatch.syspath_prepend(str(Path(__file__).parent))

    return use


def step(*parents: Step, label: str = "x") -> Step:
    return Step("export", label, ExportConfig(), {f"input{i}": parent for i, parent in enumerate(parents)})


def make(store: Store, wanted: Step) -> StepFolder:
    store.register((wanted,))
    run_step(str(store.root), wanted.id)
    return store.of(wanted)


def ended_attempt() -> Attempt:
    return Attempt(JobRef("local", "1", "host"), "host", 1, None, "", now(), end=now(), cause="cancelled")


def killed(store: Store, wanted: Step) -> None:
    """Run the step in a process that is expected to die by SIGKILL."""
    process = FORK.Process(target=make, args=(store, wanted))
    process.start()
    process.join(60)
    assert process.exitcode == -9


def test_a_made_step_is_done_and_its_files_are_hashed(store: Store, use_stage) -> None:
    use_stage("write")
    folder = make(store, step())
    assert folder.done
    assert (folder.out / "result.txt").read_text() == "whole"
    files = json.loads((folder.path / "done.json").read_text())["files"]
    hashes = {"sha256": hashlib.sha256(b"whole").hexdigest(), "xxh3": xxhash.xxh3_128_hexdigest(b"whole")}
    assert files == {"result.txt": hashes | {"bytes": 5}}
    (attempt,) = folder.attempts()
    assert attempt.cause == "done"
    assert attempt.end is not None
    assert folder.lease() is None
    assert not folder.partial.exists()


def test_a_done_step_is_not_made_again(store: Store, use_stage) -> None:
    use_stage("write")
    folder = make(store, step())
    before = (folder.path / "done.json").stat().st_mtime_ns
    make(store, step())
    assert (folder.path / "done.json").stat().st_mtime_ns == before
    assert len(folder.attempts()) == 1


def test_a_step_is_not_made_before_those_that_it_is_made_after(store: Store, use_stage) -> None:
    use_stage("write")
    audit = replace(step(), config=ExportConfig(dtype="float32"))
    late = replace(step(), after=(audit,))
    assert late.identity == step().identity, "it reads nothing of them"
    with pytest.raises(UpstreamMissingError, match=rf"make its inputs first: {audit.id}"):
        make(store, late)
    (attempt,) = store.of(late).attempts()
    assert attempt.cause == "upstream"
    make(store, audit)
    assert make(store, late).done


def test_a_failed_stage_leaves_no_result_and_records_the_cause(store: Store, use_stage) -> None:
    use_stage("fail")
    with pytest.raises(RuntimeError, match="the stage broke"):
        make(store, step())
    folder = store.of(step())
    assert not folder.done
    assert not folder.out.exists()
    (attempt,) = folder.attempts()
    assert (attempt.cause, attempt.message) == ("code", "RuntimeError: the stage broke")
    assert folder.lease() is None
    use_stage("write")
    assert sorted(path.name for path in make(store, step()).out.iterdir()) == ["result.txt"]


def test_a_result_without_its_main_part_is_not_published(store: Store, use_stage) -> None:
    use_stage("write", result=("checkpoint", "result.txt"))
    with pytest.raises(UserError, match="lacks checkpoint, so it is no result"):
        make(store, step())
    assert not store.of(step()).done and not store.of(step()).out.exists()
    use_stage("write", result=("result.txt",))
    assert make(store, step()).done


def test_a_killed_stage_starts_again_on_an_empty_folder(store: Store, use_stage) -> None:
    use_stage("die")
    killed(store, step())
    assert not store.of(step()).done
    use_stage("write")
    folder = make(store, step())
    assert sorted(path.name for path in folder.out.iterdir()) == ["result.txt"]
    assert [attempt.cause for attempt in folder.attempts()] == [None, "done"]


def test_a_killed_resumable_stage_finds_what_it_wrote(store: Store, use_stage) -> None:
    use_stage("continue_or_die", resumable=True)
    killed(store, step())
    assert (make(store, step()).out / "result.txt").read_text() == "half and whole"


def test_what_was_finished_when_it_was_killed_is_published_by_the_next_job(
    store: Store, use_stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stage("write")
    rename = os.rename

    def die_at_publication(source: Path, target: Path) -> None:
        if Path(source).name == "out":
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("os.rename", die_at_publication)
        killed(store, step())
    folder = store.of(step())
    assert folder.attempt(1).sealed
    assert not folder.done
    use_stage("fail")  # which is not called
    assert (make(store, step()).out / "result.txt").read_text() == "whole"


def test_what_a_killed_writer_left_is_not_published(store: Store, use_stage) -> None:
    use_stage("write", resumable=True)
    folder = store.of(step())
    folder.write_attempt(1, ended_attempt())
    folder.attempt(1).begin()
    (folder.attempt(1).out / ".progress.json.abc").write_text("half")
    assert [path.name for path in make(store, step()).out.iterdir()] == ["result.txt"]


def test_a_missing_input_ends_the_attempt_as_upstream(store: Store, use_stage) -> None:
    use_stage("write")
    child = step(step())
    with pytest.raises(UpstreamMissingError, match=step().id):
        make(store, child)
    (attempt,) = store.of(child).attempts()
    assert attempt.cause == "upstream"


def test_a_living_lease_is_respected_and_a_dead_one_is_not(store: Store, use_stage) -> None:
    use_stage("write")
    folder = store.of(step())
    alive = FORK.Process(target=lambda: FORK.Event().wait(60))
    alive.start()
    folder.write_lease(local_job(alive.pid))
    with pytest.raises(LeaseHeldError, match=f"local job {alive.pid}"):
        make(store, step())
    alive.kill()
    alive.join()
    assert make(store, step()).done


def test_who_was_superseded_publishes_nothing_and_leaves_the_lease(
    store: Store, use_stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_stage("write")
    folder, other = store.of(step()), JobRef("local", "4242", "elsewhere", 1.0)

    def superseded(config: ExportConfig, inputs: object, out: Path) -> None:
        assert folder.attempt(2).take(replace(ended_attempt(), job=other, end=None, cause=None))
        folder.write_lease(other)

    monkeypatch.setattr(kinds.Kind, "load", lambda self: superseded)
    with pytest.raises(LeaseHeldError, match="attempt 2 took over, in local job 4242 on elsewhere; this one, attempt"):
        make(store, step())
    assert not folder.done
    assert folder.lease() == other
    assert [attempt.cause for attempt in folder.attempts()] == ["superseded", None]


def test_a_lease_of_another_process_with_the_same_id_is_dead(store: Store, use_stage) -> None:
    use_stage("write")
    mine = local_job(1)
    store.of(step()).write_lease(JobRef("local", mine.id, mine.host, mine.started - 1000))
    assert make(store, step()).done


def test_a_file_that_changed_since_planning_is_refused(store: Store, use_stage, tmp_path: Path) -> None:
    use_stage("write")
    spec = tmp_path / "spec.md"
    spec.write_text("before")
    wanted = Step("export", "x", ExportConfig(), {"spec": File(spec, identity_of(spec))})
    store.register((wanted,))
    spec.write_text("after")
    with pytest.raises(UserError, match="changed since the campaign was planned"):
        run_step(str(store.root), wanted.id)
    spec.unlink()
    with pytest.raises(UserError, match="is gone since the campaign was planned"):
        run_step(str(store.root), wanted.id)


def test_the_record_gives_back_the_config(store: Store) -> None:
    store.register((step(),))
    assert store.of(step()).read_record().typed_config() == ExportConfig()


@pytest.mark.parametrize("another_s", ["0", "1"])
def test_the_commit_of_the_running_code_is_recorded_whoever_owns_the_checkout(
    another_s: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    if answer.returncode:
        pytest.skip("not in a git checkout")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", another_s)
    assert (code_commit() or "").removesuffix("-dirty") == answer.stdout.strip()


def test_without_git_no_commit_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert code_commit() is None


def test_a_file_that_is_edited_while_it_is_read_makes_no_result(store: Store, use_stage, tmp_path: Path) -> None:
    use_stage("edit_what_is_read")
    file = tmp_path / "corpus.jsonl"
    file.write_text("first")
    wanted = Step("export", "x", ExportConfig(), {"corpus": File(file, identity_of(file))})
    with pytest.raises(
        UserError, match=r"changed while export/x read it, so that its result may mix both; leave it alone"
    ):
        make(store, wanted)
    assert not store.of(wanted).done


def test_a_full_disk_is_reported_with_what_to_do(store: Store, use_stage) -> None:
    use_stage("fill_the_disk")
    with pytest.raises(OSError):
        make(store, step())
    (attempt,) = store.of(step()).attempts()
    assert str(attempt.message).startswith("OSError: [Errno 28] No space left on device: ")
    assert str(attempt.message).endswith(
        "free space or fix the permissions there, and run `msm run` again: finished steps are kept, a training resumes "
        "from where it has saved, any other step is made again"
    )


def test_where_the_end_cannot_be_recorded_the_lease_is_dropped(
    store: Store, use_stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_stage("fill_the_disk")

    def full(folder: AttemptFolder, attempt: Attempt) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(AttemptFolder, "write", full)
    with pytest.raises(OSError, match=r"shard\.bin"):
        make(store, step())
    assert store.of(step()).lease() is None
    assert "could not be written" in caplog.text
