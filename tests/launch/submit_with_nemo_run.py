"""Submits an array of two ranks through NeMo-Run; prints its jobs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from msm_hpc.config.cluster import Cluster, Resources, Work, WorkClasses
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.launch.request import ArrayRequest
from tests.launch.test_nemo_run import note

CLUSTER = Cluster(launcher="nemo_run", resources=WorkClasses(cpu=Resources(memory_gb=0.5, time_minutes=5)))

if __name__ == "__main__":
    root = Path(sys.argv[1])
    request = ArrayRequest(
        name="msm-demo-x", work=Work("cpu"), function=note, given=(str(root),), each=(("a",), ("b",)), ranks_per_node=2
    )
    print(json.dumps([asdict(job) for job in launcher_of(CLUSTER).submit(root / "jobs", request)]))
