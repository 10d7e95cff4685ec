"""Prints what the NeMo-Run launcher writes, as JSON; a process of its own, since NeMo-Run brings packages with it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Cluster, Container, NemoRun
from msm_hpc.launch.nemo_run import NemoRunLauncher
from msm_hpc.launch.request import ArrayRequest
from tests.launch.test_slurm_scripts import ARRAY, CELLS, CPU, GPU, LADDERS, ONE, WIDE

PLAIN = replace(GPU, launcher="nemo_run")
CONTAINER = Container(
    image="nvcr.io#nvidia/nemo:25.09",
    mounts=("/shared:/shared", "/etc/slurm:/etc/slurm:ro"),
    python="/opt/msm/bin/python",
)
IN_CONTAINER = replace(
    PLAIN,
    container=CONTAINER,
    environment={"NCCL_NET_GDR_LEVEL": "PHB"},
    nemo_run=NemoRun(executor={"segment": 16, "container_env": ("HF_HOME",), "srun_args": ("--mpi=pmix",)}),
)
SCRIPTS = {
    "one_on_cpus": (replace(CPU, launcher="nemo_run"), ONE),
    "eval_array": (PLAIN, ARRAY),
    "two_nodes_in_a_container": (IN_CONTAINER, WIDE),
    "cells_in_a_container": (IN_CONTAINER, CELLS),
    "ladders_in_a_container": (IN_CONTAINER, LADDERS),
}
REFUSED = {
    "unknown": replace(PLAIN, nemo_run=NemoRun(executor={"segments": 16})),
    "said elsewhere": replace(PLAIN, nemo_run=NemoRun(executor={"account": "me"})),
}


def written(cluster: Cluster, request: ArrayRequest, root: str = "/shared/my runs") -> str:
    try:
        script = NemoRunLauncher(cluster).render(Path(root) / "jobs", replace(request, given=(root,)))
    except UserError as error:
        return f"refused: {error}"
    return script.replace(sys.executable, "PYTHON")


if __name__ == "__main__":
    found = {name: written(*what) for name, what in SCRIPTS.items()}
    found |= {name: "\n".join(NemoRunLauncher(cluster).profile_problems()) for name, cluster in REFUSED.items()}
    found["its own folder"] = written(PLAIN, ONE, "/shared/nemo_run/x")
    found["its own folder in a container"] = written(IN_CONTAINER, ONE, "/shared/nemo_run/x")
    print(json.dumps(found))
