"""Work that was begun on one result of an input: it is never mixed with another result of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from msm_hpc.campaign.step_inputs import UpstreamMissingError
from msm_hpc.config.stages import ExportConfig
from msm_hpc.store.store import Store
from tests.store.conftest import Make, step, write

PARENT, CHILD = step(), step(step(), label="child")
Inputs = dict[str, Path]


def make_parent_again(store: Store, make: Make) -> None:
    (store.of(PARENT).out / "result").write_text("damaged")
    assert store.of(PARENT).verify("the test")
    make(PARENT, write)


def fail_half_way(config: ExportConfig, inputs: Inputs, out: Path) -> None:
    (out / "saved").write_text("first half, of an earlier attempt")
    raise RuntimeError("the stage broke")


@pytest.mark.parametrize("again", [False, True])
def test_work_is_resumed_on_the_same_input_only(
    again: bool, store: Store, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    make(PARENT, write)
    with pytest.raises(RuntimeError):
        make(CHILD, fail_half_way)
    if again:
        make_parent_again(store, make)
    result = (make(CHILD, write).out / "result").read_text()
    assert result == f"first half{'' if again else ', of an earlier attempt'}, second half"
    assert ("starts from the beginning" in caplog.text) == again
    read = [attempt.inputs[PARENT.id][0] for attempt in store.of(CHILD).attempts()]
    assert read == [1, 2 if again else 1]


@pytest.mark.parametrize("again", [False, True])
def test_what_was_finished_is_published_on_the_same_input_only(
    again: bool, store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def stop_at_publication(source: Path, target: Path) -> None:
        if Path(source).name == "out":
            raise KeyboardInterrupt
        rename(source, target)

    make(PARENT, write)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "rename", stop_at_publication)
        make(CHILD, lambda config, inputs, out: (out / "saved").write_text("of the first attempt"))
    assert store.of(CHILD).attempt(1).sealed
    if again:
        make_parent_again(store, make)
    folder = make(CHILD, write)
    assert (folder.out / "saved").read_text() == ("first half" if again else "of the first attempt")
    assert folder.verify("the test") is None


def test_an_input_that_is_made_again_while_it_is_read_makes_no_result(store: Store, make: Make) -> None:
    def read_both(config: ExportConfig, inputs: Inputs, out: Path) -> None:
        write(config, inputs, out)
        make_parent_again(store, make)

    make(PARENT, write)
    with pytest.raises(UpstreamMissingError, match=f"{PARENT.id} was made again while export/child read it"):
        make(CHILD, read_both)
    assert not store.of(CHILD).done
    assert [attempt.cause for attempt in store.of(CHILD).attempts()] == ["upstream"]
    make(CHILD, write)
    assert store.of(CHILD).done


def test_an_input_that_is_deleted_while_it_is_read_was_there(store: Store, make: Make) -> None:
    def read_and_delete(config: ExportConfig, inputs: Inputs, out: Path) -> None:
        write(config, inputs, out)
        (store.of(PARENT).path / "done.json").unlink()

    make(PARENT, write)
    assert make(CHILD, read_and_delete).done
