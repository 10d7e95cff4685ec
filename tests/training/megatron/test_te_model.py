"""Transformer Engine's layers, as far as they can be built without a GPU, beside Megatron's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.config.training import Layout
from msm_hpc.training.megatron.groups import process_groups
from tests.training.te_model import FAMILIES, PRECISIONS, built
from tests.training.te_python import FOLDER

ROOT = Path(__file__).parents[3]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no Transformer Engine in {FOLDER}; `make test` puts it there"),
]


@pytest.fixture(scope="module")
def by_te() -> dict[str, Any]:
    """What the script prints, with Transformer Engine's Python layer and a GPU that is only pretended."""
    command = [sys.executable, "-m", "tests.training.te_model"]
    # Megatron leaves NVTE_… in a process that built a model: which attention Transformer Engine's layers are to use.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NVTE_")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def one_rank() -> Iterator[None]:
    with process_groups(Layout()):
        yield


@pytest.mark.parametrize("family", FAMILIES)
def test_both_kinds_of_layers_have_the_same_tensors(by_te: dict[str, Any], one_rank: None, family: str) -> None:
    """So that checkpoints, conversion and adapters know nothing of what the layers are."""
    own = built(FAMILIES[family], "bf16")
    assert own["attention"] == "auto" and own["linears"][0] == "ColumnParallelLinear"
    assert len(own["tensors"]) >= 23
    for precision in PRECISIONS:
        assert by_te[family][precision]["tensors"] == own["tensors"], precision


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_is_built_of_transformer_engines_layers(by_te: dict[str, Any], precision: str) -> None:
    for family in FAMILIES:
        found = by_te[family][precision]
        fused = "TELayerNormColumnParallelLinear"
        assert found["linears"] == [fused, "TERowParallelLinear", fused]
        assert found["attention"] == "fused", "of a Hopper"
