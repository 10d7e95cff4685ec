"""Files of a step that a machine left empty or cut short when it lost power: no traceback, and none counts as done."""

from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.base.progress import read_progress
from msm_hpc.campaign.runner import run_step
from msm_hpc.cli.main import main
from msm_hpc.launch.job import local_job
from msm_hpc.store.store import Store
from tests.store.conftest import Make, step, write

TORN = ("step.json", "lease.json", "done.json", "damaged.json", "attempts/001/attempt.json", "attempts/001/done.json")
CONTENTS = {"empty": b"", "cut short": b'{"files": {"res', "zeros": bytes(40), "of another kind": b"[]\n"}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", TORN)
def test_a_step_with_a_torn_file_is_made_as_if_it_were_not_there(
    name: str, content: str, store: Store, make: Make
) -> None:
    folder = make(step(), write)
    if name != "damaged.json":
        (folder.path / "done.json").unlink()
    folder.write_lease(local_job(1))
    (folder.path / name).write_bytes(CONTENTS[content])
    assert len(folder.attempts()) == 1
    assert len(list(store.records("export"))) == (name != "step.json")
    assert folder.done == (name == "damaged.json")
    if name == "lease.json":
        assert folder.lease() is None
    folder.drop_lease()
    assert make(step(), write).done
    assert folder.verify("the test") is None


def test_a_torn_record_is_named_where_it_is_needed(store: Store) -> None:
    folder = store.of(step())
    store.register((step(),))
    (folder.path / "step.json").write_text("{")
    with pytest.raises(UserError, match=r"step\.json is missing or damaged; `msm run` of its campaign writes it again"):
        run_step(str(store.root), step().id)


def test_torn_progress_is_none(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text("")
    assert read_progress(tmp_path) is None


@pytest.mark.parametrize("content", ["empty", "cut short"])
def test_questions_answer_beside_torn_files(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["campaign=demo", f"root={tmp_path}"]
    assert main(["stage", "generate/tokenizer", *where]) == 0
    (folder,) = (tmp_path / "steps" / "generate").iterdir()
    for name in TORN:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(CONTENTS[content])
    capsys.readouterr()
    for question in (["status"], ["why"], ["why", "generate/tokenizer"]):
        assert main([*question, *where]) == 0
        shown = capsys.readouterr().out
        assert "done.json is damaged: it is empty or cut short" in shown, question
    assert main(["logs", "generate/tokenizer", *where]) in (0, 2)
    assert main(["stage", "generate/tokenizer", *where]) == 0
    assert main(["why", "generate/tokenizer", *where]) == 0
    assert "Nothing will run: done." in capsys.readouterr().out
