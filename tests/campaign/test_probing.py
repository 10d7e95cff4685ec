"""``msm probe`` on the CPU, with the real trainer, and what goes by its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.campaign.automatic import settle
from msm_hpc.campaign.probing import probe
from msm_hpc.cli import main
from msm_hpc.compose import load_config
from msm_hpc.planner.probe import read_table
from tests.campaign.shrunk import SHRUNK


@pytest.mark.slow
def test_a_probe_is_kept_and_auto_goes_by_it(tmp_path: Path) -> None:
    config = load_config([*SHRUNK, f"root={tmp_path}", "midtrain.layout=auto", "cluster.slots=2"])
    assert "the fastest by forecast" in settle(config).choices[0]
    folder, job = probe(config, "midtrain", steps=2)
    table = read_table(folder)
    assert job is None and len(table) == 3 and all(seconds > 0 for seconds in table.values())
    settled = settle(config)
    chosen = settled.config.midtrain
    assert table[chosen.layout, chosen.micro_batch_size] == min(table.values())
    assert "the fastest of 3 that a probe measured" in settled.choices[0]


def test_only_a_training_can_be_probed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "eval", "campaign=demo"]) == 2
    assert "which training? 'eval' is none of this campaign" in capsys.readouterr().err
