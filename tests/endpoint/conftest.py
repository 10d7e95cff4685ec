from __future__ import annotations

from collections.abc import Iterator

import pytest

from msm_hpc.endpoint import failures
from tests.endpoint.faulty_model_server import FaultyModelServer, serving


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "LONGEST_DELAY_S", 0.01)


@pytest.fixture
def server() -> Iterator[FaultyModelServer]:
    with serving() as running:
        yield running
