from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import TrainConfig
from msm_hpc.training.stage import run
from msm_hpc.training.watch import spikes
from msm_hpc.training.watch.spikes import WINDOW, is_spike
from tests.training.toy import Corpus, read_metrics, write_inputs

CONFIG = TrainConfig(
    sequence_length=32,
    global_batch_size=4,
    micro_batch_size=2,
    epochs=3,
    learning_rate=1e-2,
    precision="fp32",
    save_every=10,
)


def test_a_spike_stands_out_of_the_noise_and_the_level() -> None:
    noisy = (2 + 0.1 * np.random.default_rng(0).standard_normal(WINDOW)).tolist()
    assert not is_spike(2.9, noisy) and is_spike(3.2, noisy)
    flat = [2.0] * WINDOW
    assert not is_spike(2.9, flat) and is_spike(3.1, flat)
    assert not is_spike(9.0, flat[1:]), "too little to compare with"
    assert is_spike(9.0, [20.0] * WINDOW + flat), "only the last losses count"


@pytest.mark.slow
def test_a_spike_stops_the_run_and_the_fix_of_its_message_resumes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inputs = write_inputs(tmp_path, Corpus(documents=60))
    out = tmp_path / "out"
    out.mkdir()
    with (
        patch.multiple(spikes, WINDOW=5, DEVIATIONS=-9, RISE=-9.0),  # every loss is a spike after five
        caplog.at_level(logging.INFO, "msm_hpc"),
    ):
        with pytest.raises(
            UserError, match=r"loss jumped .* at optimizer step 6 .*rank 0, micro-batch \d: .*chats/0#\d+"
        ) as error:
            run(replace(CONFIG, save_every=3), inputs, out)
        assert "stop_on_spike=false" in str(error.value)
        assert len(re.findall(r"step 6 rank 0 micro-batch [01] loss [\d.]+: chats/0#", caplog.text)) == 2
        run(replace(CONFIG, save_every=3, stop_on_spike=False), inputs, out)
    assert [step.step for step in read_metrics(out)] == list(range(1, len(read_metrics(out)) + 1))
    assert json.loads((out / "summary.json").read_text())["skipped_steps"] == []
