"""What can be known to be wrong with the programs that steps start: servers, and lm-eval."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Sequence

from msm_hpc.config.cluster import Cluster
from msm_hpc.config.evals import CapabilityConfig
from msm_hpc.config.serving import Serving
from msm_hpc.graph.steps import Step


def serving_problems(needed: Sequence[Step], cluster: Cluster) -> Iterator[str]:
    """A line for each program that is not here, as on the nodes; what is in a container is not known."""
    if cluster.container is not None:
        return
    for key, program in dict.fromkeys(found for step in needed if (found := _started(step.config))):
        if shutil.which(program) is None:
            yield f"{key}: there is no program {program}; install it where jobs find it, or correct the path"


def _started(config: object) -> tuple[str, str] | None:
    """What a step starts, and the key that says so."""
    if isinstance(config, CapabilityConfig):
        return f"evals.{config.eval}.python", config.python
    serving = getattr(config, "serving", None)
    if not isinstance(serving, Serving) or serving.server == "transformers":
        return None
    if serving.server == "vllm":
        return "serving.python", serving.python
    return "serving.command", _first(serving.command)


def _first(command: str) -> str:
    return (shlex.split(command) or [""])[0]
