from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from msm_hpc.campaign.runner import run_step
from msm_hpc.config.stages import ExportConfig
from msm_hpc.graph import kinds
from msm_hpc.graph.steps import Step
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.store import Store

Stage = Callable[[ExportConfig, dict[str, Path], Path], None]
Make = Callable[[Step, Stage], StepFolder]


@pytest.fixture
def make(store: Store, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a step of kind ``export`` by any function, which may resume: earlier output is linked into the new one."""

    def carry_over(earlier: list[Path], out: Path) -> None:
        for file in earlier[-1].iterdir() if earlier else ():
            (out / file.name).hardlink_to(file)

    def make(step: Step, stage: Stage) -> StepFolder:
        monkeypatch.setitem(
            kinds.KINDS,
            "export",
            kinds.Kind(kinds.KINDS["export"].version, ExportConfig, dict, "", carry_over="of this test"),
        )
        monkeypatch.setattr(kinds.Kind, "load", lambda kind: stage)
        monkeypatch.setattr(kinds.Kind, "load_carry_over", lambda kind: carry_over)
        store.register((step,))
        run_step(str(store.root), step.id)
        return store.of(step)

    return make


def step(*parents: Step, label: str = "x") -> Step:
    return Step("export", label, ExportConfig(), {f"input{i}": parent for i, parent in enumerate(parents)})


def write(config: ExportConfig, inputs: dict[str, Path], out: Path) -> None:
    """A stage that saves one file, resumes from it and then writes another."""
    if not (out / "saved").exists():
        (out / ".saved").write_text("first half")
        (out / ".saved").rename(out / "saved")
    (out / "result").write_text((out / "saved").read_text() + ", second half")
