"""The servers of a job: where they are noted, and how they end with it."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from msm_hpc.base.files import read_json
from msm_hpc.serving import keeper

FOLDER = "MSM_SERVERS"
"""The variable with the process that the job's servers end with, when that started, and the folder of addresses."""
SECONDS_TO_END = 30.0
SECONDS_BETWEEN_LOOKS = 0.05


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Servers that are started while this is open, here or in a process that this one starts, stay until its end."""
    before = os.environ.get(FOLDER)
    with tempfile.TemporaryDirectory(prefix="msm-servers-", ignore_cleanup_errors=True) as folder:
        os.environ[FOLDER] = f"{os.getpid()} {keeper.start_of(os.getpid())} {folder}"
        try:
            yield
        finally:
            for file in Path(folder).glob("*.address"):
                end(file)
            if before is None:
                del os.environ[FOLDER]
            else:
                os.environ[FOLDER] = before


@dataclass(frozen=True)
class Address:
    """A server: where it answers, under which name, and of what it is (a hash).

    ``keeper`` and ``started`` are the process that looks after it.
    """

    url: str
    name: str
    serves: str
    adapters: bool
    keeper: int
    started: str

    @property
    def alive(self) -> bool:
        """Whether the process that looks after it runs."""
        return keeper.start_of(self.keeper) == self.started


def end(file: Path) -> None:
    """End the server at an address, and wait until it has."""
    server = Address(**read_json(file))
    file.unlink()
    deadline = time.monotonic() + SECONDS_TO_END
    while server.alive and time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_LOOKS)
