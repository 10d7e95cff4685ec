"""``python -m tests.training.layout_table FOLDER``: the whole table of layouts against one rank, as Markdown.

Each run is 20 steps in float32, over rows of several documents or, where a column says "unpacked", of one that fills
the row. A cell is the largest difference of a step's loss, then of its gradient norm, from those of one rank; tokens,
targets and all other metrics of a step must be equal. About ten minutes on two cores; the tests do a part of it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msm_hpc.config.training import Layout
from msm_hpc.training.record.metrics import StepMetrics
from tests.training.ranks import Job, do_all
from tests.training.test_layouts import CONFIG, FAMILIES
from tests.training.test_layouts import LAYOUTS as TESTED
from tests.training.toy import Corpus, read_exact, write_inputs

LAYOUTS = TESTED | {
    "tensor_interleaved": Layout(tensor_parallel=2, pipeline_parallel=2, virtual_pipeline=2),
    "sequence_interleaved": Layout(tensor_parallel=2, pipeline_parallel=2, virtual_pipeline=2, sequence_parallel=True),
    "tensor_context": Layout(tensor_parallel=2, context_parallel=2),
    "pipeline_context": Layout(pipeline_parallel=2, context_parallel=2),
    "context_data": Layout(context_parallel=2, data_parallel=2),
    "context_4": Layout(context_parallel=4),
}
STEPS = 20
PACKED, UNPACKED = Corpus(documents=90), Corpus(documents=30, shortest=32, longest=32)


@dataclass(frozen=True)
class Column:
    """A model, as fields of its ``config.json``, and what it is trained on."""

    corpus: Corpus
    fields: Mapping[str, Any]


COLUMNS = {"llama": Column(PACKED, {}), "llama, unpacked": Column(UNPACKED, {})} | {
    family: Column(PACKED, fields) for family, fields in FAMILIES.items()
}


def main() -> None:
    root = Path(sys.argv[1])
    inputs = {name: write_inputs(root / name, column.corpus, **column.fields) for name, column in COLUMNS.items()}
    for name, layout in LAYOUTS.items():
        config = replace(CONFIG, epochs=6, layout=layout)
        jobs = [Job(config, inputs[column], root / f"{name}.{column}") for column in COLUMNS]
        do_all(root, layout.world_size, jobs)
        if name == "one":
            print(f"| layout | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
        print(f"| {name} | {' | '.join(_cell(root, name, column) for column in COLUMNS)} |", flush=True)


def _cell(root: Path, layout: str, column: str) -> str:
    one, found = (read_exact(root / f"{name}.{column}")[:STEPS] for name in ("one", layout))
    assert len(found) == STEPS and [_counts(step) for step in found] == [_counts(step) for step in one]
    pairs = list(zip(one, found, strict=True))
    loss = max(abs(step.loss - other.loss) for step, other in pairs)
    return f"{loss:.1e}, {max(abs(step.grad_norm - other.grad_norm) for step, other in pairs):.1e}"


def _counts(step: StepMetrics) -> StepMetrics:
    return replace(step, loss=0, grad_norm=0)


if __name__ == "__main__":
    main()
