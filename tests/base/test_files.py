from __future__ import annotations

import resource
from pathlib import Path

import pytest

from msm_hpc.base.files import read_json, write_json, write_text


def test_what_has_no_room_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    write_json(file, {"step": 1})
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, usual[1]))  # Python ignores SIGXFSZ: writing fails instead
    try:
        with pytest.raises(OSError, match="File too large"):
            write_text(file, "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert list(tmp_path.iterdir()) == [file]
    assert read_json(file) == {"step": 1}
