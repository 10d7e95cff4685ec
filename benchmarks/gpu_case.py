"""One case of the GPU benchmark, run in a process of its own: real training steps on random documents."""

from __future__ import annotations

from dataclasses import dataclass

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import TrainConfig
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.precision import INSTALL_TE, installed_te, te_problem
from msm_hpc.planner.memory import worst_stage
from msm_hpc.planner.trial import trial
from msm_hpc.training.megatron.device import before_cuda, device_name, peak_memory


@dataclass(frozen=True)
class Device:
    """The GPU: its name and memory in bytes, and the versions of what drives it."""

    name: str
    memory: int
    software: str


@dataclass(frozen=True)
class Case:
    """``warmup`` steps and then ``steps`` that count, over rows of so many ``documents``, of random weights."""

    shape: str
    model: Transformer
    config: TrainConfig
    documents: int
    warmup: int
    steps: int


@dataclass(frozen=True)
class Measured:
    """Of the steps that count, on one rank.

    Attributes:
        device: what they ran on.
        seconds: of each step, until the device has finished it.
        tokens: of all steps.
        flops: of the model, by formula (:mod:`msm_hpc.model.flops`), of all steps.
        peak_memory: bytes that were allocated at most, while warming up too.
        planned_memory: bytes that the planner expects.
    """

    device: str
    seconds: tuple[float, ...]
    tokens: int
    flops: int
    peak_memory: int
    planned_memory: int

    @property
    def tokens_per_second(self) -> float:
        """Over all steps."""
        return self.tokens / sum(self.seconds)

    @property
    def flops_per_second(self) -> float:
        """Over all steps."""
        return self.flops / sum(self.seconds)


def look() -> Device:
    """The GPU of this machine.

    Raises:
        UserError: there is none, or Transformer Engine, whose layers are to be measured, cannot be used.
    """
    before_cuda()
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            f"no GPU: torch {torch.__version__} (CUDA {torch.version.cuda}) sees none, and this measures one; run it "
            "where nvidia-smi shows one, with a torch that is built for CUDA (see benchmarks/README.md), or measure a "
            "CPU: python -m benchmarks.training"
        )
    if problem := te_problem(installed_te()):
        raise UserError(f"{problem}: other layers would be measured than a campaign trains with. Run: {INSTALL_TE}")
    found = torch.cuda.get_device_properties(0)
    software = f"torch {torch.__version__}, Transformer Engine {installed_te()}"
    return Device(found.name, found.total_memory, software)


def measure(case: Case) -> Measured:
    """Run one case.

    Raises:
        UserError: the layout does not fit the model, or the precision is not supported here.
    """
    import torch

    steps = trial(case.config, case.model, case.warmup + case.steps, case.documents)[case.warmup :]
    return Measured(
        device=device_name(),
        seconds=tuple(step.seconds for step in steps),
        tokens=sum(step.tokens for step in steps),
        flops=sum(step.flops for step in steps),
        peak_memory=peak_memory(),
        planned_memory=worst_stage(case.config, case.model, torch.cuda.is_available()).total,
    )
