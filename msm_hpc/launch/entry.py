"""What every rank of a job runs: a call that is spelled out on its command line.

::

    python -u -P -m msm_hpc.launch.entry LOGS msm_hpc.campaign.runner:run_step /shared/runs aft/1f3a…

So what a job calls is not taken from what somebody else could have written in a folder that a group shares: no pickle,
no file of calls and, by ``-P``, no module of the folder that it starts in.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FrameType

from msm_hpc.base.files import write_text
from msm_hpc.base.stopping import StopRequest

log = logging.getLogger(__name__)


def command(folder: Path, function: Callable[..., None], *arguments: str, python: str = sys.executable) -> str:
    """The shell line that calls ``function(*arguments)`` in a job whose logs are in ``folder``."""
    name = f"{function.__module__}:{function.__qualname__}"
    return shlex.join([python, "-u", "-P", "-m", __name__, str(folder), name, *arguments])


def main() -> None:
    """Make the call; a rank of a local job notes that it went well, for whoever waits for it.

    SIGTERM and SIGUSR2 are noted while modules are loaded, which takes seconds on a busy node. From then on, until a
    stage takes care of them itself, they end rank 0; the others end with it. If those ended at once, srun would kill
    rank 0 before it has recorded why.
    """
    request = StopRequest()
    _on_signals(request.note)
    import submitit  # here, with the signals noted

    folder, name, *arguments = sys.argv[1:]
    os.environ["SUBMITIT_FOLDER"] = folder
    job = submitit.JobEnvironment()
    module, _, function = name.partition(":")
    call = getattr(import_module(module), function)
    if job.global_rank == 0:
        _on_signals(request.stop)
    call(*arguments)
    if job.cluster == "local":
        write_text(ended_well(Path(folder), job.job_id, job.global_rank), "", durable=False)


def ended_well(folder: Path, job_id: str, rank: int) -> Path:
    """The file that is there once this rank of a local job has ended without an error."""
    return folder / f"{job_id}_{rank}_ended"


def _on_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGUSR2, handler)


if __name__ == "__main__":
    main()
