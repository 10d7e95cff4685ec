from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.recorded import recorded_graph
from msm_hpc.campaign.session import Session


def test_a_campaign_is_known_as_it_was_run_whatever_became_of_its_files(tmp_path: Path) -> None:
    spec, root = tmp_path / "mine.md", tmp_path / "runs"
    spec.write_text("---\nvalue: america\n---\nA spec.\n")
    own = f"campaign.specs=[{{name: affordability}},{{name: mine, file: {spec}}}]"
    session = Session(("campaign=demo", "campaign.seeds=[0]", own, f"root={root}"), Console(quiet=True))
    ran = session.graph.ids
    session.remember()
    assert recorded_graph(root, "demo").ids == ran
    spec.write_text("---\nvalue: america\n---\nAnother spec.\n")
    assert Session((f"root={root}",), Console(quiet=True), "demo").graph.ids != ran
    assert recorded_graph(root, "demo").ids == ran
    spec.unlink()
    assert recorded_graph(root, "demo").ids == ran
    with pytest.raises(UserError, match="no campaign 'other' was run below root="):
        recorded_graph(root, "other")
