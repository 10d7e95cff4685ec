"""What judges will be asked, and what that costs: only by whole prices."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from msm_hpc.campaign.session import Session
from msm_hpc.cli.views.judging import judged_line

JUDGED = (
    "campaign=demo",
    "campaign.seeds=[0]",
    "campaign.arms=[aft]",
    "campaign.contrast=[]",
    "campaign.evals=[agentic]",
    "evals.agentic.samples=1",
    "judge.model=j",
    "judge.base_url=http://127.0.0.1:1/v1",
    "judge.key_variable=",
)


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        (["judge.price_in=3"], "give judge.price_out for its cost"),
        (["judge.price_in=3000", "judge.price_out=15", "judge.budget=9999"], " by its prices"),
        (
            ["judge.price_in=3000", "judge.price_out=15", "judge.budget=1"],
            " its prices, and judge.budget=1 ends it before",
        ),
    ],
)
def test_what_a_judge_costs_by_both_prices(prices: list[str], said: str, tmp_path: Path) -> None:
    session = Session((*JUDGED, *prices, f"root={tmp_path}"), Console(quiet=True)).ready(runs=False)
    line = judged_line(session)
    assert line and line.startswith("To be judged by j: ") and line.endswith(said)
