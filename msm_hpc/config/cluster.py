"""Where a campaign runs: the launcher, and the resources that each class of work gets.

A site is one file of ``configs/cluster/``. A class of work takes what it does not set from the class before it, so that
a site says each thing once::

    resources:
      cpu:       {account: alignment, partition: small}
      gpu_train: {partition: h100, gpus_per_node: 8, memory_gb: 60, time_minutes: 720}     # account: alignment
      gpu_eval:  {time_minutes: 60}                                        # and partition: h100, gpus_per_node: 8, ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import NonNegativeInt, PositiveInt, WrapValidator

from msm_hpc.config.schema import Rate, Strict

LauncherName = Literal["local", "slurm"]
WorkClass = Literal["cpu", "gpu_train", "gpu_eval"]
Gpu = Literal["a100", "l40s", "h100", "h200", "gh200", "b200", "gb200"]


@dataclass(frozen=True, kw_only=True)
class Resources(Strict):
    """What one class of work asks Slurm for; null is the site's default.

    ``memory_gb`` and ``cpus_per_rank`` are for each rank. A job of a class with ``gpus_per_node`` above 0 gets a GPU
    for each rank. ``sbatch`` holds further options of sbatch by their long names.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time_minutes: PositiveInt = 60
    memory_gb: Rate = 4.0
    cpus_per_rank: PositiveInt = 1
    gpus_per_node: NonNegativeInt = 0
    sbatch: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WorkClasses(Strict):
    """The resources of ``cpu`` (corpora, tokens, conversion, the report), ``gpu_train`` and ``gpu_eval`` work."""

    cpu: Resources = Resources()
    gpu_train: Resources = Resources()
    gpu_eval: Resources = Resources()

    def of(self, work: WorkClass) -> Resources:
        """The resources of one class."""
        resources: Resources = getattr(self, work)
        return resources


def _inherit(classes: Any, validate: Callable[[Any], WorkClasses]) -> WorkClasses:
    """Fill each class with the settings of the class before it; an invalid value is reported once, where it is set."""
    checked = validate(classes)
    if isinstance(classes, WorkClasses):
        return checked
    filled: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for work in get_args(WorkClass):
        settings = {**settings, **classes.get(work, {})}
        filled[work] = settings
    return validate(filled)


@dataclass(frozen=True, kw_only=True)
class Cluster(Strict):
    """Where steps run. ``slots`` limits how many ranks run at once on this machine; the rest is for Slurm.

    ``gpu`` says which GPUs a node has, so that what they cannot do is known before a job is queued. ``nodes`` is the
    most that ``layout=auto`` gives to one training, ``ranks_per_node`` the most ranks of a job that a node takes.
    ``setup`` are shell lines that a job runs first. Trainings that start from the same weights share a job as long as
    together they are forecast to take no more than ``bundle_minutes``.
    """

    launcher: LauncherName
    slots: PositiveInt = 2
    resources: Annotated[WorkClasses, WrapValidator(_inherit)] = WorkClasses()
    gpu: Gpu | None = None
    nodes: PositiveInt = 1
    ranks_per_node: PositiveInt = 8
    array_parallelism: PositiveInt = 256
    max_array_size: PositiveInt = 1001
    bundle_minutes: PositiveInt = 60
    setup: tuple[str, ...] = ()

    @property
    def trains_on_gpus(self) -> bool:
        """Whether trainings get GPUs; without any they run on CPUs."""
        return self.resources.gpu_train.gpus_per_node > 0
