"""Slurm's commands on a login node, by NeMo-Run's SSH tunnel, for a machine that shares the root folder but has none.

The tunnel is opened when the first command is called, and asks for a password or a second factor where it has to.
"""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from subprocess import CompletedProcess
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Cluster, Tunnel
from msm_hpc.launch import slurm_commands
from msm_hpc.launch.job import inside_job
from msm_hpc.launch.nemo_run import load


def reach_slurm_of(cluster: Cluster) -> None:
    """Have this process call Slurm's commands where the cluster's profile says: through its tunnel, or here.

    Jobs are there already.
    """
    tunnel = cluster.nemo_run.tunnel if cluster.launcher == "nemo_run" and not inside_job() else None
    slurm_commands.reach(_Remote(tunnel) if tunnel else None)


class _Remote:
    """Calls commands through a tunnel."""

    def __init__(self, tunnel: Tunnel) -> None:
        self.tunnel = tunnel

    def __call__(self, command: Sequence[str], given: str) -> CompletedProcess[str]:
        """Call a command there.

        Raises:
            UserError: the host cannot be reached, or lets nobody in.
        """
        try:
            answer = _ssh(self.tunnel).run(shlex.join(command), warn=True, in_stream=_Whole(given))
        except (OSError, SystemExit) as error:  # NeMo-Run exits where it is not let in
            where = f"{self.tunnel.user}@{self.tunnel.host}"
            raise UserError(
                f"cluster.nemo_run.tunnel: {where} cannot be reached, or does not let you in ({error}); "
                f"try `ssh {where}`"
            ) from error
        return CompletedProcess(command, answer.return_code, answer.stdout, answer.stderr)


class _Whole(io.StringIO):
    """An input that is read as a whole, where invoke asks for a character at a time and sleeps after each."""

    def read(self, size: int | None = -1) -> str:
        """All that is left."""
        return super().read()


@cache
def _ssh(tunnel: Tunnel) -> Any:
    identity = tunnel.identity and os.path.expanduser(tunnel.identity)
    return load().SSHTunnel(job_dir="", **asdict(replace(tunnel, identity=identity)))
