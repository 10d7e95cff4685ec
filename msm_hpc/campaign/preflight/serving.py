"""What can be known to be wrong with the servers that steps start."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Sequence

from msm_hpc.config.cluster import Cluster
from msm_hpc.config.serving import Serving
from msm_hpc.graph.steps import Step


def serving_problems(needed: Sequence[Step], cluster: Cluster) -> Iterator[str]:
    """A line for each program of a server that is not here, as on the nodes; what is in a container is not known."""
    if cluster.container is not None:
        return
    for step in needed:
        serving = getattr(step.config, "serving", None)
        if not isinstance(serving, Serving) or serving.server == "transformers":
            continue
        key, program = ("python", serving.python) if serving.server == "vllm" else ("command", _first(serving.command))
        if shutil.which(program) is None:
            yield f"serving.{key}: there is no program {program}; install it where jobs find it, or correct the path"


def _first(command: str) -> str:
    return (shlex.split(command) or [""])[0]
