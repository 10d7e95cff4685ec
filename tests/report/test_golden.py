"""What readers see of a report, held against golden files, so that a change of it is seen in review.

To accept a change: ``MSM_ACCEPT_GOLDEN=1 pytest tests/report``.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.report.answers import Campaign, report, shown
from tests.report.page import Page

GOLDEN = Path(__file__).parent / "golden"


def check(name: str, text: str) -> None:
    golden = GOLDEN / name
    if os.environ.get("MSM_ACCEPT_GOLDEN"):
        golden.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == golden.read_text(encoding="utf-8")


def lines(campaign: Campaign) -> str:
    report(campaign)
    return "\n".join(Page((campaign.out / "report.html").read_text(encoding="utf-8")).lines)


def test_a_campaign_with_missing_models(campaign: Campaign) -> None:
    check("missing_terminal.txt", shown(report(campaign), 80))
    check("missing_page.txt", lines(campaign))


def test_a_campaign_with_a_ladder(laddered: Campaign) -> None:
    check("ladder_terminal.txt", shown(report(laddered), 80))
    check("ladder_page.txt", lines(laddered))
    check("ladder_savings.csv", (laddered.out / "savings.csv").read_text().rstrip("\n"))


def test_a_campaign_of_six_seeds(seeded: Campaign) -> None:
    check("seeds_terminal.txt", shown(report(seeded), 80))
    check("seeds_pipe.txt", shown(report(seeded), 80, terminal=False))
    check("seeds_page.txt", lines(seeded))


def test_a_campaign_of_every_eval(evaluated: Campaign) -> None:
    check("evals_terminal.txt", shown(report(evaluated), 80))
    check("evals_page.txt", lines(evaluated))
    check("evals_comparisons.csv", (evaluated.out / "comparisons.csv").read_text().rstrip("\n"))
