"""Where a campaign runs: the launcher, and the resources that each class of work gets.

A site is one file of ``configs/cluster/``. A class of work takes what it does not set from the class before it, so that
a site says each thing once::

    resources:
      cpu:       {account: alignment, partition: small}
      gpu_train: {partition: h100, gpus_per_node: 8, memory_gb: 60, time_minutes: 720}     # account: alignment
      gpu_eval:  {time_minutes: 60}                                        # and partition: h100, gpus_per_node: 8, ...

What one stage (or kind of step), or one model, needs otherwise is said beside the classes. It holds for that alone, and
the model's word before the stage's::

      of_stage: {aft: {time_minutes: 120}, tokenize: {memory_gb: 16}}
      of_model: {qwen2_5_32b: {cpu: {memory_gb: 160}, midtrain: {time_minutes: 2880}}}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, NonNegativeInt, PositiveInt, WrapValidator, with_config
from typing_extensions import TypedDict

from msm_hpc.base.errors import UserError
from msm_hpc.config.schema import Name, Rate, Strict

LauncherName = Literal["local", "slurm", "nemo_run"]
WorkClass = Literal["cpu", "gpu_train", "gpu_eval"]
Gpu = Literal["a100", "l40s", "h100", "h200", "gh200", "b200", "gb200"]
Sbatch = Mapping[str, str | int | bool]
Line = Annotated[str, Field(pattern=r"^[^\n]+$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]


@dataclass(frozen=True)
class Work:
    """What a job does, as far as its resources go: its class, its stage (or kind of step) and its model, if any."""

    of: WorkClass
    stage: str = ""
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class Resources(Strict):
    """What one class of work asks Slurm for; null is the site's default.

    ``memory_gb`` and ``cpus_per_rank`` are for each rank. A job of a class with ``gpus_per_node`` above 0 gets
    ``gpus_per_rank`` for each rank: one, or more for the server of a model that is too large for one. ``sbatch`` holds
    further options of sbatch by their long names; true is an option without a value.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time_minutes: PositiveInt = 60
    memory_gb: Rate = 4.0
    cpus_per_rank: PositiveInt = 1
    gpus_per_node: NonNegativeInt = 0
    gpus_per_rank: PositiveInt = 1
    sbatch: Sbatch = field(default_factory=dict, hash=False)


@with_config(extra="forbid")
class Changes(TypedDict, total=False):
    """Those of :class:`Resources` that a stage or a model has instead of its class's.

    Whether it gets GPUs is its class's: results are made for them.
    """

    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    time_minutes: PositiveInt
    memory_gb: Rate
    cpus_per_rank: PositiveInt
    gpus_per_rank: PositiveInt
    sbatch: Sbatch


@dataclass(frozen=True, kw_only=True)
class WorkClasses(Strict):
    """The resources of ``cpu`` (corpora, tokens, conversion, the report), ``gpu_train`` and ``gpu_eval`` work.

    Attributes:
        of_stage: what a stage, or a kind of step, has instead.
        of_model: likewise a model, for a class or a stage.
    """

    cpu: Resources = Resources()
    gpu_train: Resources = Resources()
    gpu_eval: Resources = Resources()
    of_stage: Mapping[Name, Changes] = field(default_factory=dict)
    of_model: Mapping[Name, Mapping[Name, Changes]] = field(default_factory=dict)

    def of(self, work: Work) -> Resources:
        """The resources of a job."""
        resources: Resources = getattr(self, work.of)
        for changes in self._changes(work).values():
            resources = replace(resources, **changes)
        return resources

    def key(self, work: Work, item: str) -> str:
        """The key of the configuration that sets a field of the resources of ``work``."""
        setting = [section for section, changes in self._changes(work).items() if item in changes]
        return f"cluster.resources.{[work.of, *setting][-1]}.{item}"

    def _changes(self, work: Work) -> dict[str, Changes]:
        """What holds instead of the class's, by where it is said; the last has the last word."""
        if not (self.of_stage or self.of_model):  # asked for each of ten thousand steps
            return {}
        of_model = self.of_model.get(work.model, {})
        found = {
            f"of_stage.{work.stage}": self.of_stage.get(work.stage),
            f"of_model.{work.model}.{work.of}": of_model.get(work.of),
            f"of_model.{work.model}.{work.stage}": of_model.get(work.stage),
        }
        return {section: changes for section, changes in found.items() if changes}


def _inherit(classes: Any, validate: Callable[[Any], WorkClasses]) -> WorkClasses:
    """Fill each class with the settings of the class before it; an invalid value is reported once, where it is set."""
    checked = validate(classes)
    if isinstance(classes, WorkClasses):
        return checked
    filled: dict[str, Any] = dict(classes)
    settings: dict[str, Any] = {}
    for work in get_args(WorkClass):
        settings = {**settings, **classes.get(work, {})}
        filled[work] = settings
    return validate(filled)


@dataclass(frozen=True, kw_only=True)
class Container(Strict):
    """An image that jobs run in, through Pyxis; ``python`` is the interpreter in it that has msm_hpc.

    ``mounts`` are ``FOLDER:FOLDER_INSIDE``; the root folder has its own path inside, too.
    """

    image: Line
    mounts: tuple[Annotated[str, Field(pattern=r"^/[^:,\n]*:/[^:,\n]*(:[\w+-]+)?$")], ...] = ()
    python: Line = "python"

    def holds(self, path: Path) -> bool:
        """Whether an absolute path is the same inside."""
        parts = (mount.split(":") for mount in self.mounts)
        return any(outside == inside and path.is_relative_to(outside) for outside, inside, *_ in parts)


@dataclass(frozen=True, kw_only=True)
class Tunnel(Strict):
    """The login node where Slurm's commands are run, by SSH; ``pre_command`` is said ahead of each.

    The root folder is the same there and here: what is shared goes through files, and not through the tunnel.
    """

    host: Line
    user: Line
    port: PositiveInt | None = None
    identity: Line | None = None
    pre_command: Line | None = None


@dataclass(frozen=True, kw_only=True)
class NemoRun(Strict):
    """What NeMo-Run is told that no other launcher is: further fields of its ``SlurmExecutor``, by their names."""

    tunnel: Tunnel | None = None
    executor: Mapping[str, bool | int | Line | tuple[Line, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class Cluster(Strict):
    """Where steps run. ``slots`` limits how many ranks run at once on this machine; the rest is for Slurm.

    ``gpu`` says which GPUs a node has, so that what they cannot do is known before a job is queued. ``nodes`` are
    those that trainings can count on: ``layout=auto`` shares them out, and forecasts of wall time go by them; Slurm is
    not asked to hold to that. ``ranks_per_node`` is the most ranks of a job that a node takes.
    ``budget_gpu_hours`` is what all campaigns below a root may take together (of ranks, where trainings get no GPUs):
    nothing is run that would exceed it by forecast. ``max_array_size`` null is Slurm's own. Trainings that start from
    the same weights share a job as long as together they are forecast to take no more than ``bundle_minutes``, and no
    room for another job is left idle by that.
    ``exclusive`` says that jobs get whole nodes: what needs less than one then shares a job, ``ranks_per_node`` ranks.
    ``setup`` are shell lines that a job runs first, and ``environment`` variables that it then sets: they are written
    into scripts, so that keys have no place there. ``health_check`` has a training leave unfit nodes.
    """

    launcher: LauncherName
    slots: PositiveInt = 2
    resources: Annotated[WorkClasses, WrapValidator(_inherit)] = WorkClasses()
    gpu: Gpu | None = None
    nodes: PositiveInt = 1
    ranks_per_node: PositiveInt = 8
    array_parallelism: PositiveInt = 256
    budget_gpu_hours: Rate | None = None
    max_array_size: PositiveInt | None = None
    bundle_minutes: PositiveInt = 60
    exclusive: bool = False
    setup: tuple[str, ...] = ()
    environment: Mapping[Variable, str] = field(default_factory=dict)
    container: Container | None = None
    nemo_run: NemoRun = NemoRun()
    health_check: bool = False

    def __post_init__(self) -> None:
        for name in self.environment:
            if re.search(r"(KEY|TOKEN|SECRET|PASSWORD)$", name, re.IGNORECASE):
                raise UserError(
                    f"environment.{name}: a key would stand in scripts that others read: export it in the shell that "
                    "runs `msm run`, whose environment jobs get"
                )

    @property
    def trains_on_gpus(self) -> bool:
        """Whether trainings get GPUs; without any they run on CPUs."""
        return self.gives_gpus("gpu_train")

    def gives_gpus(self, work: WorkClass) -> bool:
        """Whether work of a class gets GPUs."""
        resources: Resources = getattr(self.resources, work)
        return resources.gpus_per_node > 0
