"""``msm gc``: what no campaign needs is shown, then deleted; never what one needs or a job holds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from msm_hpc.campaign.garbage import find_garbage
from msm_hpc.campaign.session import Session
from msm_hpc.cli.main import main
from msm_hpc.graph.build import Graph
from msm_hpc.graph.kinds import KINDS
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef, local_job, user_name
from msm_hpc.store.journal import Journal, Submission, new_token
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store
from msm_hpc.store.trash import Trash
from tests.toy_slurm import ToySlurm, in_the_path
from tests.toy_steps import make

SMALL = ("campaign.seeds=[0]", "campaign.arms=[init,base]")
CHANGED = (*SMALL, "stages.pretrain.learning_rate=1e-3")
STAMP = "2026-01-01T00:00:00.000+00:00"
ATTEMPT = Attempt(JobRef("local", "1"), "here", 1, None, "", STAMP, STAMP, "done")


def remember(store: Store, *overrides: str) -> Graph:
    session = Session(("campaign=demo", *overrides, f"root={store.root}"), Console(quiet=True))
    session.remember()
    return session.graph


def age(store: Store) -> None:
    """Let all that is there be a month old."""
    month_ago = time.time() - 30 * 86400
    for path in (store.root / "steps").rglob("*"):
        os.utime(path, (month_ago, month_ago))


@pytest.fixture
def changed(store: Store) -> tuple[set[str], set[str]]:
    """All of a campaign was made, then it was changed and made again: the ids of the steps before that, and now."""
    graphs = [remember(store, *SMALL), remember(store, *CHANGED)]
    for step in {step.identity: step for graph in graphs for step in graph.steps}.values():
        make(store, step, ATTEMPT)
    age(store)
    before, now = ({step.id for step in graph.steps} for graph in graphs)
    return before - now, now


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToySlurm]:
    with in_the_path(tmp_path / "slurm", monkeypatch) as toy:
        yield toy


@pytest.fixture
def gc(store: Store, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def call(*arguments: str, code: int = 0) -> str:
        assert main(["gc", f"root={store.root}", *arguments]) == code
        shown = capsys.readouterr()
        return shown.err if code else shown.out

    return call


def there(store: Store) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in (store.root / "steps").glob("[!.]*/*")}


def test_what_a_change_has_replaced_is_shown_and_then_deleted(
    store: Store, changed: tuple[set[str], set[str]], gc: Callable[..., str]
) -> None:
    replaced, needed = changed
    assert replaced and needed
    said = gc()
    assert "no campaign (demo) needs:" in said and " 15 B" not in said
    assert f"Nothing was deleted yet: `msm gc root={store.root} --days 7 --yes` does." in said
    assert there(store) == replaced | needed
    said = gc("--yes")
    assert there(store) == needed and not Trash(store.root).folder.exists()
    assert "Deleted; " in said and not (store.root / "submitting.json").exists()
    assert "there is nothing that no campaign (demo) needs" in gc()


def test_a_step_that_another_campaign_reads_stays(
    store: Store, changed: tuple[set[str], set[str]], gc: Callable[..., str]
) -> None:
    remember(store, *SMALL, "campaign.name=other")
    gc("--yes")
    assert there(store) == changed[0] | changed[1]


def test_what_is_new_stays(store: Store, changed: tuple[set[str], set[str]], gc: Callable[..., str]) -> None:
    replaced, needed = changed
    newest = next(iter(sorted(replaced)))
    os.utime(store.folder(newest).path / "step.json")
    assert "1 more steps are of no campaign, but newer than 7 days" in gc("--yes")
    assert there(store) == needed | {newest}
    gc("--yes", "--days", "0")
    assert there(store) == needed


def test_what_a_job_holds_and_reads_stays(
    store: Store, changed: tuple[set[str], set[str]], slurm: ToySlurm, gc: Callable[..., str]
) -> None:
    """A job of the campaign as it was before, still in the queue."""
    replaced, needed = changed
    export = next(each for each in sorted(replaced) if each.startswith("export/"))
    journal = Journal(store.root)
    journal.rewrite(
        [Submission(new_token(), "msm-demo-export", ((export,),), user_name(), "", "demo", "ada-1", 1.0, "64")]
    )
    (slurm.folder / "queue").write_text("64 token\n")
    said = gc("--yes")
    record = store.folder(export).record
    assert record is not None
    kept = there(store) - needed
    assert {export, *record.reads} - needed <= kept < replaced
    assert f"{len(kept)} more steps are of no campaign, but jobs make them or read them" in said
    slurm.end("64")
    gc("--yes")
    assert there(store) == needed


def test_a_running_attempt_without_a_lease_holds_its_step(
    store: Store, changed: tuple[set[str], set[str]], gc: Callable[..., str]
) -> None:
    replaced, _ = changed
    training = next(each for each in sorted(replaced) if each.startswith("train/"))
    (store.folder(training).path / "done.json").unlink()
    store.folder(training).write_attempt(2, replace(ATTEMPT, job=local_job(), end=None, cause=None))
    age(store)
    gc("--yes")
    assert training in there(store)


def test_where_slurm_cannot_be_asked_nothing_is_deleted(
    store: Store, changed: tuple[set[str], set[str]], gc: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = there(store)
    step = next(iter(sorted(changed[0])))
    journal = Journal(store.root)
    journal.rewrite([Submission(new_token(), "msm-demo-x", ((step,),), user_name(), "", "demo", "ada-1", 1.0, "64")])
    monkeypatch.setenv("PATH", "")
    assert "squeue is not on the PATH" in gc("--yes", code=2)
    assert there(store) == before


def test_where_a_campaign_cannot_be_read_nothing_is_deleted(
    store: Store, changed: tuple[set[str], set[str]], gc: Callable[..., str]
) -> None:
    before = there(store)
    (store.root / "campaigns" / "torn.json").write_text("{")
    said = gc("--yes", code=2)
    assert "torn.json is damaged" in said and "what it needs is not known, and nothing is deleted" in said
    for record in (store.root / "campaigns").iterdir():
        record.unlink()
    assert "no campaign was run below root=" in gc("--yes", code=2)
    assert there(store) == before


def test_what_attempts_left_goes_but_what_a_training_resumes_from(store: Store, gc: Callable[..., str]) -> None:
    found = remember(store, *SMALL)

    def failed(name: str) -> Step:
        step = found.find(name)
        make(store, step, replace(ATTEMPT, cause="code"), "x" * 1000)
        return step

    done, export, training = failed("generate/instruction"), failed("export/base/seed0"), failed("pretrain/base/seed0")
    make(store, done, ATTEMPT)
    (store.of(done).attempt(1).out).mkdir()
    (store.of(done).attempt(1).out / "left").write_text("x" * 500)
    hours = store.of(done).attempt(2).path / "progress.json"
    hours.write_text("{}")
    torn = store.of(done).path / "attempts" / ".003.0123"
    torn.mkdir()
    assert "nothing that no campaign" in gc(), "they are new"
    age(store)
    said = gc("--yes")
    assert "left by attempts" in said and "1.5 kB in all" in said
    assert not store.of(done).attempt(1).out.exists() and not torn.exists()
    assert not store.of(export).attempt(1).out.exists()
    assert store.of(training).attempt(1).out.exists()
    assert [attempt.cause for attempt in store.of(done).attempts()] == ["code", "done"], "their records stay"
    assert hours.exists(), "the ledger counts by it"
    assert store.done(done)


def test_a_file_with_several_names_is_freed_with_the_last(store: Store) -> None:
    remember(store, *SMALL)
    step = remember(store, *CHANGED).find("pretrain/base/seed0")
    make(store, step, ATTEMPT, "x" * 3000)
    os.link(store.of(step).out / "result.txt", store.root / "elsewhere")
    os.link(store.of(step).out / "result.txt", store.of(step).out / "again")
    remember(store, *SMALL)
    age(store)
    before = find_garbage(store, 7).bytes
    (store.root / "elsewhere").unlink()
    assert find_garbage(store, 7).bytes == before + 3000


class Killed(BaseException):
    pass


def test_a_kill_in_the_middle_leaves_whole_steps_and_the_next_continues(
    store: Store,
    changed: tuple[set[str], set[str]],
    gc: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replaced, needed = changed
    taken: list[Path] = []
    take = Trash.take

    def dying(self: Trash, path: Path) -> bool:
        assert (store.root / "submitting.json").exists(), "no run begins meanwhile"
        if len(taken) == 2:
            raise Killed
        taken.append(path)
        return take(self, path)

    with monkeypatch.context() as killed:
        killed.setattr(Trash, "take", dying)
        with pytest.raises(Killed):
            main(["gc", f"root={store.root}", "--yes"])
    assert len(there(store)) == len(replaced | needed) - 2
    assert all(store.folder(step).done for step in there(store))
    assert "of a deletion that was stopped" in gc()
    gc("--yes")
    assert there(store) == needed and not Trash(store.root).folder.exists()


def test_what_is_another_users_is_named(
    store: Store,
    changed: tuple[set[str], set[str]],
    gc: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "rename", lambda self, target: (_ for _ in ()).throw(PermissionError(13, "no")))
    said = gc("--yes")
    assert "You may not delete " in said and "let their owner run `msm gc`" in said
    assert there(store) == changed[0] | changed[1]


@pytest.mark.parametrize("argument", ["demo", "campaign=demo", "+x=1"])
def test_it_looks_at_all_campaigns(argument: str, gc: Callable[..., str]) -> None:
    assert "gc looks at all campaigns below a root: give root=FOLDER alone" in gc(argument, code=2)


def test_a_copy_of_the_code_goes_with_the_last_job_that_runs_it(
    store: Store, changed: tuple[set[str], set[str]], slurm: ToySlurm, gc: Callable[..., str]
) -> None:
    used, unused, new = (store.root / "code" / f"ada-{number}" for number in (1, 2, 3))
    for copy in (used, unused, new):
        (copy / "msm_hpc").mkdir(parents=True)
        (copy / "msm_hpc" / "x.py").write_text("x")
        (copy / "msm_hpc").chmod(0o555)
        copy.chmod(0o555)
    for copy in (used, unused):
        os.utime(copy, (1e9, 1e9))
    step = min(changed[1])
    journal = Journal(store.root)
    journal.rewrite([Submission(new_token(), "msm-demo-x", ((step,),), user_name(), "", "demo", used.name, 1.0, "64")])
    (slurm.folder / "queue").write_text("64 token\n")
    assert "copies of the code" in gc("--yes")
    assert sorted((store.root / "code").iterdir()) == [used, new] and not Trash(store.root).folder.exists()
    slurm.end("64")
    gc("--yes")
    assert sorted((store.root / "code").iterdir()) == [new]


def test_steps_of_a_campaign_stay_whatever_a_new_version_would_call_them(
    store: Store, changed: tuple[set[str], set[str]], gc: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = {name: replace(kind, version=kind.version + 1) for name, kind in KINDS.items()}
    monkeypatch.setattr("msm_hpc.graph.steps.KINDS", newer)
    gc("--yes")
    assert there(store) == changed[1]
