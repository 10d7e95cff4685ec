"""What a report says of the corpora that a language model wrote, and of what the campaign took."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from msm_hpc.config.stages import Audited, Hours
from msm_hpc.report.stage import run
from tests.report.answers import Campaign
from tests.report.page import Page

NONE = "\N{EN DASH}"
AUDITED = (
    Audited(corpus="documents-america", step="audit/1", page="../../../audit/1/out/corpus.html"),
    Audited(corpus="chats-america", step="audit/2"),
    Audited(corpus="mentions-america", step="audit/3"),
)


def gate(name: str, found: int, of: int, limit: float) -> dict[str, object]:
    share = found / of
    about = {"gate": name, "passed": share <= limit, "share": share, "limit": limit}
    return {**about, "found": found, "of": of, "unit": "rows", "examples": []}


def page(campaign: Campaign, folder: Path) -> Page:
    """Of three corpora, of which the third has no audit."""
    audits = {"audit/1": folder / "a", "audit/2": folder / "b"}
    of = (
        [gate("dates", 31, 1000, 0.02), gate("unnamed", 0, 1000, 0.01), gate("near_duplicates", 1, 1000, 0.02)],
        [gate("near_duplicates", 2, 1000, 0.03), gate("opaque", 1, 1000, 0.01)],
    )
    for out, gates in zip(audits.values(), of, strict=True):
        out.mkdir()
        (out / "audit.json").write_text(json.dumps({"on_gates": "report", "rows": 1000, "gates": gates}))
    why = {"audit/3": "failed (user: dates: …)"}
    config = replace(campaign.config, audited=AUDITED, why_absent=why)
    run(config, replace(campaign.inputs, audits=audits), campaign.out)
    return Page((campaign.out / "report.html").read_text(encoding="utf-8"))


def test_each_corpus_has_a_line_with_what_is_over_its_limit(campaign: Campaign, tmp_path: Path) -> None:
    lines = page(campaign, tmp_path).lines
    first = lines.index("Is what was written any good?")
    assert lines[first + 1 : first + 5] == [
        "corpus | rows | gates passed | over the limit | audit",
        "documents-america | 1,000 | 2 of 3 | dates 3.1% limit 2.0% | audit/1",
        f"chats-america | 1,000 | 2 of 2 | {NONE} | audit/2",
        "mentions-america | missing: failed (user: dates: …) | audit/3",
    ]


def test_all_gates_stand_side_by_side(campaign: Campaign, tmp_path: Path) -> None:
    lines = page(campaign, tmp_path).lines
    first = lines.index("All gates")
    assert lines[first + 1 : first + 6] == [
        "gate | documents-america | chats-america | limit",
        f"dates | 3.1% | {NONE} | 2.0%",
        f"unnamed | 0% | {NONE} | 1.0%",
        "near duplicates | 0.10% | 0.20% | 2.0%, 3.0%",
        f"opaque | {NONE} | 0.10% | 1.0%",
    ]


def test_what_has_a_page_is_linked(campaign: Campaign, tmp_path: Path) -> None:
    links = [attributes["href"] for tag, attributes in page(campaign, tmp_path).tags if tag == "a"]
    assert links == ["../../../audit/1/out/corpus.html"]


def test_hours_are_added_up(campaign: Campaign) -> None:
    by_arm = {"msm": {"training": 2.5, "load": 0.25}, "several arms": {"training": 120.0, "lost to restart": 0.0004}}
    run(replace(campaign.config, hours=Hours(unit="GPU-hours", by_arm=by_arm)), campaign.inputs, campaign.out)
    lines = Page((campaign.out / "report.html").read_text(encoding="utf-8")).lines
    first = lines.index("What it took")
    assert lines[first + 1 : first + 5] == [
        "GPU-hours | training | load | lost to restart | in all",
        f"msm | 2.5 | 0.2 | {NONE} | 2.8",
        f"several arms | 120.0 | {NONE} | <0.1 | 120.0",
        "in all | 122.5 | 0.2 | <0.1 | 122.8",
    ]
    caption = lines[first + 5]
    assert caption.endswith("is in none of theirs.")
    by_arm["msm"]["idle in allocation"] = 1.0
    run(replace(campaign.config, hours=Hours(unit="GPU-hours", by_arm=by_arm)), campaign.inputs, campaign.out)
    lines = Page((campaign.out / "report.html").read_text(encoding="utf-8")).lines
    assert any(line.startswith(f"{caption} Idle in allocation is what jobs held") for line in lines)


def test_a_campaign_without_either_says_nothing_of_them(campaign: Campaign) -> None:
    run(campaign.config, campaign.inputs, campaign.out)
    text = Page((campaign.out / "report.html").read_text(encoding="utf-8")).text
    assert "What it took" not in text and "any good" not in text
