"""``msm probe``: one job that measures the best few layouts of a training section."""

from __future__ import annotations

from pathlib import Path

from msm_hpc.campaign.automatic import SECTIONS
from msm_hpc.campaign.graph import as_it_runs
from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.config.campaign import Config
from msm_hpc.errors import UserError
from msm_hpc.launch.local import start_local
from msm_hpc.launch.slurm import ArrayRequest, submit
from msm_hpc.planner.choose import best_few
from msm_hpc.planner.probe import FEW, STEPS, Probe, folder_of, prepare, run_rank


def probe(config: Config, section: str, steps: int = STEPS) -> tuple[Path, str | None]:
    """Measure here, or submit the job that will.

    Returns:
        The folder of the table, and the id of the Slurm job, or None where it is measured already.

    Raises:
        UserError: there is no such section, the model's shape is not known, or nothing fits.
    """
    training = getattr(config, section, None) if section in SECTIONS else None
    if training is None:
        raise UserError(f"which training? {section!r} is none of this campaign; give one of {', '.join(SECTIONS)}")
    model = starting_model(config.model)
    if model is None:
        raise UserError("a probe needs the model's shape: set model.shape (the fields of its config.json)")
    root, cluster = config.root.resolve(), config.cluster
    training = as_it_runs(training, cluster, training.seed)
    candidates = best_few(training, model, cluster, FEW)
    folder = folder_of(root, training, model, cluster)
    prepare(folder, Probe(model, candidates, steps))
    layout = candidates[0].layout
    if cluster.kind == "local":
        start_local(root / "jobs", layout.world_size, run_rank, str(folder)).results()
        return folder, None
    request = ArrayRequest(
        name="probe",
        elements=1,
        nodes=layout.nodes,
        ranks_per_node=layout.world_size // layout.nodes,
        gpus_per_node=layout.world_size // layout.nodes if cluster.gpus_per_node else 0,
        dependency="",
    )
    (job,) = submit(root / "jobs", cluster, request, run_rank, [(str(folder),)])
    return folder, job.id
