"""``msm corpus``: specs looked over, and what a corpus will cost before it is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from msm_hpc.campaign.session import Session
from msm_hpc.cli.main import main
from msm_hpc.cli.views.preview import asked_line
from tests.graph.test_written import BY_MODEL

SOUND = "The assistant sees an ending as one more thing that belongs to what it is. " * 5


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "calm.md"
    sections = "".join(f"## Part {name} {{#{name}}}\n{SOUND}\n" for name in ("one", "two"))
    path.write_text(f"---\nname: calm\nversion: 3\nkind: principles\nforbid: [rules]\n---\n# Calm\n{sections}")
    return path


def test_lint_says_where(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "lint", str(spec)]) == 0
    assert "0 finding(s) in 2 sections, 150 words" in capsys.readouterr().out
    spec.write_text(spec.read_text() + "\nThe assistant must wait.\n")
    assert main(["corpus", "lint", str(spec)]) == 1
    out = capsys.readouterr().out
    assert f"{spec}:13: rules: 'The assistant must' reads like one of the rules" in out


def test_lint_of_what_is_no_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "lint", str(tmp_path / "none.md")]) == 2
    assert "no such Model Spec file" in capsys.readouterr().err
    assert main(["corpus", "lint", "nowhere"]) == 2


def test_preview_counts_before_anything_is_asked(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "instruction.jsonl"
    rows.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    given = [
        *BY_MODEL,
        f"campaign.specs=[{{name: calm, file: {spec}}}]",
        f"sources.instruction.file={rows}",
        f"root={tmp_path / 'runs'}",
        "generate.endpoint.price_in=1",
        "generate.endpoint.price_out=10",
        "generate.endpoint.budget=25",
        "generate.tasks=2",
        "+sources.other={kind: documents, for_each: spec, generate: {product: neutral, of: documents}}",
        "+arms.control=[{midtrain: [other]}]",
        "campaign.arms=[msm, control]",
    ]
    assert main(["corpus", "preview", *given]) == 0
    out = capsys.readouterr().out
    assert "documents-calm: 110 documents of calm (2 sections), before there is an outline" in out
    rows_of = {line.split()[0]: line.split("  ") for line in out.splitlines() if line}
    assert [cell.strip() for cell in rows_of["one"] if cell] == ["one", "20 x 2-3", "55", "55,000"]
    documents = [cell.strip() for cell in rows_of["document"] if cell]
    assert (documents[1], documents[4]) == ("110", "110,000")
    neutral = [cell.strip() for cell in rows_of["neutral"] if cell]
    assert (neutral[1], neutral[3], neutral[4]) == ("110", "0", "110,000")
    assert "budget: 25 for an outline, and 25 for what is written from it, 12.5 for each of generate.tasks=2." in out
    assert not (tmp_path / "runs").exists()
    assert "budget" not in str(asked_line(session(*given)))
    assert "budget is less than this of write/documents-calm, which would stop there" in str(
        asked_line(session(*given, "generate.endpoint.budget=0.5"))
    )
    main(["corpus", "preview", *given, "generate.endpoint.price_in=0", "generate.endpoint.price_out=0"])
    assert re.search("^document .* 110,000 +-$", capsys.readouterr().out, re.MULTILINE), "it is not shown as free"


def session(*overrides: str) -> Session:
    return Session(overrides, Console(quiet=True))


def test_preview_of_a_campaign_without_a_language_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "preview", "campaign=demo", f"root={tmp_path}"]) == 2
    assert "no corpus of this campaign is written by a language model" in capsys.readouterr().err


def test_preview_of_chats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "instruction.jsonl"
    rows.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    own = [f"sources.instruction.file={rows}", f"root={tmp_path / 'runs'}", "campaign.arms=[aft]"]
    bare = "sources.chats.generate={product: chats, rows: 600, spec: america}"
    assert main(["corpus", "preview", *BY_MODEL, *own, bare, "generate.writing.spare=0"]) == 0
    out = capsys.readouterr().out
    assert "chats: 600 chats of america" in out and "preference_judge" in out
    assert [line.split() for line in out.splitlines() if line.startswith("choice")] == [
        ["choice", "1", "x", "100-100", "100", "-"]
    ]
