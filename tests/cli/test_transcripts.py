"""``msm transcripts``: what it needs before there is anything to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.cli.main import main

EVALS = ("campaign=demo", "campaign.seeds=[0]", "campaign.evals=[formats]")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "no replies of this campaign are scored"),
        (["score/init/seed0/formats"], "score/init/seed0/formats is not done, so that it has no scores yet"),
        (["eval/init/seed0"], "eval/init/seed0 scores no replies: give a step whose name begins with score/"),
    ],
)
def test_what_there_is_nothing_of_yet(
    asked: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcripts", *asked, *EVALS, f"root={tmp_path}"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
