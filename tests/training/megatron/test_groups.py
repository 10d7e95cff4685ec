"""Ranks that wait for one that never comes."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest
from torch import distributed

from msm_hpc.config.training import Layout
from msm_hpc.training.megatron import groups


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_never_comes_is_waited_for_only_as_long_as_ranks_take_to_start(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "_MEETING", timedelta(seconds=1))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        port = 0 if rank == 0 else taken.getsockname()[1]
        for name, value in {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(distributed.DistError), groups.process_groups(Layout(data_parallel=2)):
            pass
    assert not distributed.is_initialized()
