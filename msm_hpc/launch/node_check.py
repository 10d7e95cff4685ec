"""What ``node_check.sh`` beside this file finds wrong with the node that this runs on; without torch."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.launch.job import current_node

SCRIPT = Path(__file__).with_name("node_check.sh")
FAIL = "FAIL  "
log = logging.getLogger(__name__)


def failed_checks(root: Path) -> tuple[str, ...]:
    """The checks that this node fails, each with the fix: the root folder, the clock, the GPUs that the job has on it.

    How much room the folder has is no matter of a node, and is not asked. GPUs are not looked at where the job has
    none, or the node no ``nvidia-smi``.

    Raises:
        UserError: the script ended without a verdict.
    """
    host, gpus = current_node(), _gpus()
    asked = subprocess.run(
        ["bash", SCRIPT, root, "--free", "0", "--gpus", str(gpus)], capture_output=True, text=True, check=False
    )
    lines = asked.stdout.splitlines()
    for line in lines:
        log.info("%s: %s", host, line)
    failed = tuple(line.removeprefix(FAIL) for line in lines if line.startswith(FAIL))
    if asked.returncode and not failed:
        raise UserError(
            f"{SCRIPT.name} broke off on {host} with status {asked.returncode}: {asked.stderr.strip()}; fix that, or "
            "set cluster.health_check=false"
        )
    return failed


def _gpus() -> int:
    """How many GPUs are to answer; 0 where they are not looked at."""
    given = int(os.environ.get("SLURM_GPUS_ON_NODE", "0"))
    if given and shutil.which("nvidia-smi"):
        return given
    why = "nvidia-smi is not there" if given else "the job has none"
    log.info("%s: GPUs are not looked at: %s", current_node(), why)
    return 0
