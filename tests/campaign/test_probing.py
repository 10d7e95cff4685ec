"""``msm probe`` on the CPU, with the real trainer, and what goes by its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.base.files import write_text
from msm_hpc.campaign.auto_layout import settle
from msm_hpc.campaign.probing import probe
from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.cli.main import main
from msm_hpc.graph.trainings import as_it_runs
from msm_hpc.planner.probe import TABLE, folder_of, read_table
from tests.campaign.shrunk import SHRUNK
from tests.composed import graph_of, load_config


@pytest.mark.slow
def test_a_probe_is_kept_and_auto_goes_by_it(tmp_path: Path) -> None:
    config = load_config([*SHRUNK, f"root={tmp_path}", "stages.midtrain.layout=auto", "cluster.slots=2"])
    graph = graph_of(config)
    assert "the fastest by forecast" in settle([config], lambda: graph).choices[0]
    folder, job = probe(config, graph, "midtrain", steps=2)
    table = read_table(folder)
    assert job is None and len(table) == 3 and all(seconds > 0 for seconds in table.values())
    settled = settle([config], lambda: graph)
    chosen = settled.configs[0].stages["midtrain"]
    assert table[chosen.layout, chosen.micro_batch_size] == min(table.values())
    assert "the fastest of 3 that a probe measured" in settled.choices[0]


def test_only_a_training_can_be_probed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "eval", "campaign=demo"]) == 2
    assert "which training? 'eval' is no stage of this campaign" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("precision=mxfp8", "precision=mxfp8 cannot run on a CPU"),
        ("stages.midtrain.layout.tensor_parallel=8", "tensor_parallel=8 does not divide 4 attention heads; choose 4"),
    ],
)
def test_what_cannot_run_is_not_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    assert main(["probe", "midtrain", *SHRUNK, f"root={tmp_path}", override]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "jobs").exists()


@pytest.mark.slow
def test_a_probe_that_fails_shows_the_end_of_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config([*SHRUNK, f"root={tmp_path}"])
    model = starting_model(config.model)
    assert model is not None
    training = as_it_runs(config.stages["midtrain"], config.cluster, 0)
    write_text(folder_of(tmp_path, training, model, config.cluster) / TABLE, "no table")
    assert main(["probe", "midtrain", *SHRUNK, f"root={tmp_path}"]) == 2
    shown = capsys.readouterr().err
    assert "the probe failed" in shown and "no table" in shown and "Traceback" not in shown
    assert Path(shown.splitlines()[-1].removeprefix("  log: ")).is_file()
