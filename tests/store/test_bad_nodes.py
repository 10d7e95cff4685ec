"""The nodes that jobs are not to run on: for a day, or until somebody deletes the file."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from msm_hpc.store import bad_nodes as module
from msm_hpc.store.bad_nodes import bad_nodes, file_of, report_bad_node


def names(root: Path) -> list[str]:
    return [node.name for node in bad_nodes(root)]


def test_a_reported_node_is_left_out_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(tmp_path) == []
    report_bad_node(tmp_path, "n2.cluster.example", "2 of 8 GPUs answer")
    (node,) = bad_nodes(tmp_path)
    assert (node.name, node.reason) == ("n2", "2 of 8 GPUs answer")
    began = time.time()
    monkeypatch.setattr(time, "time", lambda: began + 23 * 3600)
    assert names(tmp_path) == ["n2"]
    monkeypatch.setattr(time, "time", lambda: began + 24 * 3600 + 1)
    assert names(tmp_path) == []


def test_the_last_reported_comes_first_and_a_second_report_counts_from_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for second, name in enumerate(("n1", "n2", "n1")):
        monkeypatch.setattr(module.time, "time", lambda second=second: 1000.0 + second)
        report_bad_node(tmp_path, name, "again")
    assert names(tmp_path) == ["n1", "n2"]


def test_deleting_its_file_takes_a_node_back(tmp_path: Path) -> None:
    report_bad_node(tmp_path, "n1", "lost")
    report_bad_node(tmp_path, "n2", "lost")
    file_of(tmp_path, "n1").unlink()
    file_of(tmp_path, "n3").write_text("{")  # torn
    assert names(tmp_path) == ["n2"]


@pytest.mark.parametrize("host", ["", ".", "../n1", "n1;reboot", "n1\nn2", "-rf", "n[1-9]"])
def test_what_is_no_name_of_a_node_is_left(tmp_path: Path, host: str) -> None:
    report_bad_node(tmp_path, host, "lost")
    assert list(tmp_path.iterdir()) == []


def test_the_group_of_the_root_may_report_and_take_back(tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        tmp_path.chmod(0o2770)
        report_bad_node(tmp_path, "n1", "lost")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "bad_nodes").stat().st_mode) == 0o2770
    assert file_of(tmp_path, "n1").stat().st_mode & stat.S_IRGRP
