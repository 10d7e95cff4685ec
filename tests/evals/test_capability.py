"""lm-eval, by a program in its place that writes what lm-eval 0.4.13 writes; and the real one, where there is one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_jsonl
from msm_hpc.base.notices import read_notices
from msm_hpc.base.scores import read_scores
from msm_hpc.config.evals import CapabilityConfig, CapabilityInputs
from msm_hpc.evals import capability

WRITES = """#!{python}
import json, sys
from pathlib import Path
given = sys.argv[1:]
assert given[:4] == ["-m", "lm_eval", "run", "--config"], given
asked = json.loads(Path(given[4]).read_text())
asked["given"] = given[5:]
Path(asked["output_path"]).with_name("seen.json").write_text(json.dumps(asked))
{then}
"""
RESULTS = {
    "results": {
        "arc": {"name": "arc", "sample_len": 2, "acc,none": 0.5, "acc_stderr,none": 0.1},
        "arc_easy": {"acc,none": 1.0, "bleu,none": 12.5, "mcc,none": float("nan"), "exact_match,strict": 0.0},
        "all": {"acc,none": 0.75},
    },
    "group_subtasks": {"all": ["arc", "arc_easy"], "arc": []},
    "versions": {"arc": 1.0, "arc_easy": 2},
    "lm_eval_version": "0.4.13",
}
SAMPLES = {
    "arc": [
        {"doc_id": 0, "filter": "none", "metrics": ["acc"], "acc": 1.0},
        {"doc_id": 1, "filter": "none", "metrics": ["acc"], "acc": False},
    ],
    "arc_easy": [
        {"doc_id": 7, "filter": "none", "metrics": ["acc", "bleu", "mcc"], "acc": 1, "bleu": ["a", "b"], "mcc": 1.0},
        {"doc_id": 7, "filter": "strict", "metrics": ["exact_match"], "exact_match": 0.0},
    ],
}


def program(tmp_path: Path, then: str) -> str:
    """A Python that is asked for lm-eval, and does ``then``."""
    path = tmp_path / "python"
    path.write_text(WRITES.format(python=sys.executable, then=then))
    path.chmod(0o755)
    return str(path)


def scored(tmp_path: Path, python: str, adapter: Path | None = None, **fields: Any) -> list[dict[str, Any]]:
    out = tmp_path / "out"
    out.mkdir()
    config = CapabilityConfig(eval="able", python=python, **{"tasks": ("arc", "arc_easy"), **fields})
    capability.run(config, CapabilityInputs(model=tmp_path / "a, model", adapter=adapter), out)
    rows: list[dict[str, Any]] = read_scores(out).to_pylist()
    return rows


@pytest.fixture
def answers(tmp_path: Path) -> str:
    """A program that writes ``RESULTS`` and ``SAMPLES``."""
    write_jsonl(tmp_path / "arc.jsonl", SAMPLES["arc"])
    write_jsonl(tmp_path / "arc_easy.jsonl", SAMPLES["arc_easy"])
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    then = f"""
import shutil
to, at = Path(asked["output_path"]).parent, "2026-11-29T07-47-49.882567"
shutil.copy("{tmp_path}/results.json", to / f"results_{{at}}.json")
for task in ("arc", "arc_easy"):
    shutil.copy(f"{tmp_path}/{{task}}.jsonl", to / f"samples_{{task}}_{{at}}.jsonl")
"""
    return program(tmp_path, then)


def test_a_row_a_document_where_the_figure_is_their_mean_and_else_one(tmp_path: Path, answers: str) -> None:
    rows = scored(tmp_path, answers)
    assert {(row["task"], row["sample"]) for row in rows} == {("able", 0)}
    found = [(row["metric"], row["group"], row["item"], row["value"], row["missing"]) for row in rows]
    assert found == [
        ("acc", "arc", "0", 1.0, None),
        ("acc", "arc", "1", 0.0, None),
        ("acc", "arc_easy", "7", 1.0, None),
        ("bleu", "arc_easy", "arc_easy", 12.5, None),
        ("mcc", "arc_easy", "arc_easy", None, "no_number"),
        ("exact_match,strict", "arc_easy", "7", 0.0, None),
    ]
    assert read_notices(tmp_path / "out") == ("able is of lm-eval 0.4.13: arc (version 1.0), arc_easy (version 2).",)


def test_what_lm_eval_is_given(tmp_path: Path, answers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setenv("PYTHONPATH", "/ours")
    scored(tmp_path, answers, tmp_path / "adapter", arguments=("--limit=2",), tuning=("--batch_size=auto",))
    seen = json.loads((tmp_path / "out/lm_eval/seen.json").read_text())
    model = {"pretrained": f"{tmp_path}/a, model", "peft": f"{tmp_path}/adapter", "parallelize": True}
    assert (seen["model_args"], seen["tasks"], seen["log_samples"]) == (model, ["arc", "arc_easy"], True)
    assert seen["given"] == ["--limit=2", "--batch_size=auto"]


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("sys.exit('no task arcc')", r"lm-eval ended with status 1; the end of .*lm_eval\.log:\n  no task arcc"),
        ("print('Could not save results aggregated')", r"wrote no results; .*\n  Could not save results aggregated"),
    ],
)
def test_where_lm_eval_fails_its_last_lines_say_why(tmp_path: Path, then: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        scored(tmp_path, program(tmp_path, then))


LM_EVAL, MODEL = os.environ.get("MSM_LM_EVAL"), os.environ.get("MSM_LM_EVAL_MODEL")


@pytest.mark.slow  # lm-eval imports torch and loads a model
@pytest.mark.skipif(not (LM_EVAL and MODEL), reason="MSM_LM_EVAL: a python with lm-eval; MSM_LM_EVAL_MODEL: a model")
def test_the_real_one_on_a_task_of_our_own(tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "facts.jsonl", [{"q": "Bees make", "c": ["honey", "sand"]}, {"q": "Ice is", "c": ["x", "cold"]}]
    )
    task = {
        "task": "facts",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "facts.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{c}}",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    (tmp_path / "facts.yaml").write_text(json.dumps(task))
    (tmp_path / "out").mkdir()
    assert LM_EVAL and MODEL
    given = (f"--include_path={tmp_path}", "--device=cpu")
    config = CapabilityConfig(eval="able", python=LM_EVAL, tasks=("facts",), arguments=given)
    capability.run(config, CapabilityInputs(model=Path(MODEL)), tmp_path / "out")
    rows = read_scores(tmp_path / "out").to_pylist()
    assert [(row["metric"], row["item"]) for row in rows] == [(m, i) for m in ("acc", "acc_norm") for i in "01"]
