"""A campaign that trains adapters, to its report: what is stored of them, and that merging changes no answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.cli.main import main
from msm_hpc.config.stages import EvalConfig, EvalInputs, ExportConfig, ExportInputs
from msm_hpc.conversion.stage import run_export
from msm_hpc.evals import stage as evals
from msm_hpc.graph.steps import Step
from msm_hpc.store.store import Store
from tests.campaign.shrunk import SHRUNK
from tests.composed import graph_of, load_config


@pytest.mark.slow
def test_adapters_are_stored_alone_and_measured_on_their_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*SHRUNK, "campaign.arms=[msm+aft]", "campaign.specs=[{name: america}]", "campaign.contrast=[]"]
    overrides += ["stages.pretrain.layout.data_parallel=1"]
    adapter = "{rank: 4, alpha: 256}"
    overrides += [f"stages.midtrain.lora={adapter}", f"stages.aft.lora={adapter}", f"root={tmp_path}"]
    assert main(["run", *overrides]) == 0
    assert "missing" not in capsys.readouterr().out
    graph, store = graph_of(load_config(overrides)), Store(tmp_path)
    cell = graph.find("eval/america/msm+aft/30/seed0")
    (base, export), trained = (cell.inputs["model"], cell.inputs["adapter"]), graph.find("aft/america/msm+aft/30/seed0")
    assert isinstance(base, Step) and isinstance(export, Step)

    def out(step: Step) -> Path:
        return store.of(step).out

    assert _bytes(out(trained) / "checkpoint") < _bytes(out(graph.find("pretrain/base")) / "checkpoint") / 2
    config = json.loads((out(export) / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(out(base))

    merged, again = tmp_path / "merged", tmp_path / "again"
    for folder in (merged, again):
        folder.mkdir()
    model = out(graph.find("model/tiny"))
    inputs = ExportInputs(model=model, checkpoint=out(trained), base=out(graph.find("pretrain/base")))
    run_export(ExportConfig(merge=True), inputs, merged)
    pairs = {name: out(step) for name, step in cell.inputs["pairs"].items()}  # type: ignore[union-attr, arg-type]
    files = {name: folder / "pairs.jsonl" if folder.is_dir() else folder for name, folder in pairs.items()}
    evals.run(EvalConfig(**vars(cell.config)), EvalInputs(model=merged, pairs=files), again)
    margins, on_its_base = ([answer["margin"] for answer in _answers(folder)] for folder in (again, out(cell)))
    assert margins == pytest.approx(on_its_base, abs=1e-4), "the merged weights compute the same but for rounding"


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.distcp"))


def _answers(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
