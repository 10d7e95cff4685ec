from __future__ import annotations

from pathlib import Path

import pytest

from tests.slurm_tools import Slurm, why_no_cluster


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    """The cluster in the environment; skips the test where there is none."""
    if reason := why_no_cluster():
        pytest.skip(reason)
    return Slurm(tmp_path)
