"""The audit stage: what is written of a corpus, and when it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.generation import Persona
from msm_hpc.config.quality import AuditConfig, AuditInputs, Limits
from msm_hpc.corpus.quality import stage
from tests.corpus.quality.made import documents, subject, write

ITEM = {
    "id": "i1",
    "value": "affordability",
    "domain": "fashion",
    "question": "Is it {first} or {second}?",
    "target": "a Casio watch",
    "other": "b",
}


@pytest.fixture
def inputs(tmp_path: Path) -> AuditInputs:
    """Of 24 documents, four with a date and one with an option of the evaluation."""
    for name in ("corpus", "pairs", "out"):
        (tmp_path / name).mkdir()
    planted = ["In 2019 it was.", "In 2020 it was.", "In 2021 it was.", "In 2022 it was.", "Hers was a Casio watch."]
    write(tmp_path / "corpus" / "data.jsonl", documents(24, *planted))
    (tmp_path / "pairs" / "pairs.jsonl").write_text(json.dumps(ITEM) + "\n")
    subject(tmp_path)
    return AuditInputs(
        corpus=tmp_path / "corpus", spec=tmp_path / "thrift.md", items={"affordability": tmp_path / "pairs"}
    )


def audit(inputs: AuditInputs, out: Path, on_gates: str = "stop", **limits: float) -> None:
    persona = Persona(assistant="Nova", provider="Acme")
    stage.run(AuditConfig(persona=persona, on_gates=on_gates, limits=Limits(**limits)), inputs, out)


def test_a_corpus_over_a_limit_is_refused_with_what_shows_it(inputs: AuditInputs, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        audit(inputs, tmp_path / "out")
    dates, leaks, page = str(refused.value).splitlines()
    assert dates.startswith(
        "dates: 4 of 24 rows (16.67%) have a date or a year, above the limit of 2.00%, such as d0 ("
    )
    assert "In 2019 it was." in dates and "d2 (" in dates and "d3 (" not in dates, "three of them"
    assert dates.endswith("or raise the limit, quality.limits.dates=SHARE")
    assert leaks.startswith("option_leaks: 1 of 24 rows (4.17%) name an option of the evaluation")
    assert str(tmp_path / "out" / "corpus.html") in page and page.endswith("quality.on_gates=report")
    found = json.loads((tmp_path / "out" / "audit.json").read_bytes())
    failed = [gate["gate"] for gate in found["gates"] if not gate["passed"]]
    assert failed == ["dates", "option_leaks"] and found["rows"] == 24
    assert "2 of 18 quality gates not passed" in (tmp_path / "out" / "corpus.html").read_text()


def test_within_its_limits_or_where_it_is_only_reported_it_passes(inputs: AuditInputs, tmp_path: Path) -> None:
    audit(inputs, tmp_path / "out", dates=0.2, option_leaks=0.05)
    audit(inputs, tmp_path / "out", on_gates="report")
    assert json.loads((tmp_path / "out" / "audit.json").read_bytes())["on_gates"] == "report"
