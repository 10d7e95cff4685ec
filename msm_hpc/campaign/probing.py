"""``msm probe``: one job that measures the best few layouts of a training."""

from __future__ import annotations

from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.auto_layout import trainings_like
from msm_hpc.campaign.starting_model import starting_model
from msm_hpc.config.campaign import Config
from msm_hpc.config.cluster import Work
from msm_hpc.config.training import TrainConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.trainings import as_it_runs
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.launch.local import failed_ranks, start_local
from msm_hpc.launch.logs import tail
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.layout import check_layout
from msm_hpc.model.precision import check_precision, installed_te
from msm_hpc.planner.choose import best_few
from msm_hpc.planner.probe import FEW, STEPS, Probe, folder_of, prepare, run_rank


def probe(config: Config, graph: Graph, stage: str, steps: int = STEPS) -> tuple[Path, str | None]:
    """Measure here, or submit the job that will.

    Returns:
        The folder of the table, and the id of the queued job, or None where it is measured already.

    Raises:
        UserError: there is no such stage, the model's shape is not known, its precision or layout cannot run, nothing
            fits, or what ran here failed.
    """
    training, model = _checked(config, stage)
    root, cluster = config.root.resolve(), config.cluster
    work = Work("gpu_train", stage, config.model.name)
    candidates = best_few(training, model, cluster, work, FEW, trainings_like(work, graph))
    folder = folder_of(root, training, model, cluster)
    prepare(folder, Probe(model, candidates, steps))
    layout = candidates[0].layout
    launcher = launcher_of(cluster)
    if not launcher.queues:
        if failed := failed_ranks(start_local(root / "jobs", layout.world_size, run_rank, str(folder))):
            said = "".join(f"\n  | {line}" for line in tail(failed[0]))
            raise UserError(f"the probe failed; what was measured before is kept{said}\n  log: {failed[0]}")
        return folder, None
    request = ArrayRequest(
        name=f"msm-{config.campaign.name}-probe",
        work=work,
        function=run_rank,
        each=((str(folder),),),
        nodes=layout.nodes,
        ranks_per_node=layout.world_size // layout.nodes,
    )
    (job,) = launcher.submit(root / "jobs", request)
    return folder, job.id


def _checked(config: Config, name: str) -> tuple[TrainConfig, Transformer]:
    """The training of a stage as it runs, and its model, once it is known that they can run."""
    if name not in config.stages_used:
        known = ", ".join(config.stages_used)
        raise UserError(f"which training? {name!r} is no stage of this campaign; give one of {known}")
    model = starting_model(config.model)
    if model is None:
        raise UserError("a probe needs the model's shape: set model.shape (the fields of its config.json)")
    cluster = config.cluster
    training = as_it_runs(config.stages[name], cluster, config.stages[name].seed)
    check_precision(training, cluster.trains_on_gpus, cluster.gpu, installed_te())
    if not training.layout.auto:
        check_layout(training.layout, model, training.sequence_length)
    return training, model
