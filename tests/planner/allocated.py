"""Peak bytes of the tensors of each rank of a trial, counted by torch's own allocator."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch._C._profiler import _EventType

from msm_hpc.config.training import TrainConfig
from msm_hpc.model.architecture import Transformer, parse_architecture
from tests.training.ranks import call_in_ranks


@dataclass(frozen=True)
class Trial:
    """What one job measures: a model of these ``config.json`` fields, and its training."""

    fields: dict[str, object]
    config: TrainConfig

    @property
    def model(self) -> Transformer:
        return parse_architecture("trial", self.fields)


def peaks(folder: Path, trial: Trial) -> list[int]:
    """Peak bytes of each rank over two optimizer steps."""
    folder.mkdir()
    (folder / "trial").write_bytes(pickle.dumps(trial))
    ranks = trial.config.layout.world_size
    call_in_ranks(folder, ranks, measure_rank, folder)
    return [int((folder / f"peak-{rank}").read_text()) for rank in range(ranks)]


def measure_rank(folder: str) -> None:
    from torch.profiler import ProfilerActivity, profile

    from msm_hpc.planner.trial import trial as run_trial

    trial: Trial = pickle.loads((Path(folder) / "trial").read_bytes())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run_trial(trial.config, trial.model, 2)
    (Path(folder) / f"peak-{os.environ['RANK']}").write_text(str(_most(recorded.profiler.kineto_results)))


def _most(recorded: Any) -> int:
    """The allocator's own count; a sum in the order of timestamps is wrong where threads disagree on the time."""
    events = list(recorded.experimental_event_tree())
    most = 0
    while events:
        event = events.pop()
        events += event.children
        if event.tag == _EventType.Allocation:
            most = max(most, event.extra_fields.total_allocated)
    return most
