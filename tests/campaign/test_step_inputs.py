"""Which files of a result are hashed before a step reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from msm_hpc.campaign.step_inputs import StepInputs, UpstreamMissingError, find_inputs
from msm_hpc.config.stages import ExportConfig, GenerateConfig
from msm_hpc.graph import kinds
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store
from msm_hpc.training.checkpoints.kept import Label, keep, known, weights_kept

MODEL = Step("generate", "model", GenerateConfig(product="pairs", count=1), {})
PARENT = Step("generate", "parent", GenerateConfig(product="pairs", count=2), {})
READER = Step("export", "reader", ExportConfig(), {"model": MODEL, "start": PARENT})
FILES = ("checkpoint/__0_0.distcp", "checkpoint/.metadata", "config.json")


@pytest.fixture(autouse=True)
def made(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both inputs have weights; the reader starts from those of one and reads none of the other."""
    kind = kinds.Kind(1, ExportConfig, dict, "", starts_from=("start",), no_weights_of=("model",))
    monkeypatch.setitem(kinds.KINDS, "export", kind)
    store.register((MODEL, PARENT, READER))
    for step in (MODEL, PARENT):
        folder = store.of(step)
        own = folder.attempt(1)
        assert own.take(Attempt(JobRef("local", "1"), "host", 1, None, "", "2026-01-01T00:00:00+00:00"))
        own.begin()
        (own.out / "checkpoint").mkdir()
        for name in FILES:
            (own.out / name).write_text(f"{name} of {step.label}")
        folder.publish(own)
    with weights_kept(1e9):
        yield


def find(store: Store) -> StepInputs:
    return find_inputs(store, store.of(READER).read_record(), verify=True)


def keep_what_was_read(store: Store) -> None:
    """As a training that has loaded the weights of the parent."""
    find(store)
    checkpoint = known(store.of(PARENT).out / "checkpoint")
    assert checkpoint
    keep(Label(checkpoint.content, "part"), 1, lambda file: None)


def damage(store: Store, step: Step, name: str) -> None:
    (store.of(step).out / name).write_text("damaged")


@pytest.mark.parametrize("name", FILES)
def test_what_a_step_starts_from_is_hashed(store: Store, name: str) -> None:
    damage(store, PARENT, name)
    assert name in find(store).damaged[0] and not store.done(PARENT)


@pytest.mark.parametrize(("name", "found"), [(FILES[0], False), (FILES[1], False), (FILES[2], True)])
def test_weights_of_which_nothing_is_read_are_not_hashed(store: Store, name: str, found: bool) -> None:
    damage(store, MODEL, name)
    assert bool(find(store).damaged) == found


def test_weights_in_memory_are_not_hashed_until_they_are_read_after_all(store: Store) -> None:
    keep_what_was_read(store)
    (store.of(PARENT).out / FILES[0]).unlink()
    inputs = find(store)
    assert inputs.roles["start"] == store.of(PARENT).out and not inputs.damaged
    checkpoint = known(store.of(PARENT).out / "checkpoint")
    with pytest.raises(UpstreamMissingError, match=r"__0_0.distcp is damaged: .* makes it again"):
        checkpoint.check()  # type: ignore[union-attr]
    assert not store.done(PARENT)


@pytest.mark.parametrize("name", FILES[1:])
def test_what_lies_beside_weights_in_memory_is_hashed(store: Store, name: str) -> None:
    keep_what_was_read(store)
    damage(store, PARENT, name)
    assert find(store).damaged


def test_where_the_parent_was_made_again_its_weights_are_hashed(store: Store, tmp_path: Path) -> None:
    keep_what_was_read(store)
    damage(store, PARENT, FILES[2])
    assert find(store).damaged
    folder = store.of(PARENT)
    own = folder.attempt(2)
    assert own.take(Attempt(JobRef("local", "1"), "host", 1, None, "", "2026-01-01T00:00:00+00:00"))
    own.begin()
    (own.out / "checkpoint").mkdir()
    for name in FILES:
        (own.out / name).write_text(f"another {name}")
    folder.publish(own)
    damage(store, PARENT, FILES[0])
    assert FILES[0] in find(store).damaged[0]
