"""``python -m tests.training.layout_table FOLDER``: the whole table of layouts against one rank, as Markdown.

Each run is 20 steps over packed documents, in float32. A cell is the largest difference of a step's loss, then of its
gradient norm, from those of one rank; tokens, targets and what else a step tells must be equal. About ten minutes on
two cores; the tests do a part of it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from msm_hpc.config.training import Layout
from msm_hpc.training.metrics import StepMetrics
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
MODELS = {"llama": {}} | FAMILIES


def main() -> None:
    root = Path(sys.argv[1])
    inputs = {model: write_inputs(root / model, Corpus(documents=90), **fields) for model, fields in MODELS.items()}
    for name, layout in LAYOUTS.items():
        config = replace(CONFIG, epochs=6, layout=layout)
        jobs = [Job(config, inputs[model], root / f"{name}.{model}") for model in MODELS]
        do_all(root, layout.world_size, jobs)
        if name == "one":
            print(f"| layout | {' | '.join(MODELS)} |\n|---|{'---|' * len(MODELS)}")
        print(f"| {name} | {' | '.join(_cell(root, name, model) for model in MODELS)} |", flush=True)


def _cell(root: Path, layout: str, model: str) -> str:
    one, found = (read_exact(root / f"{name}.{model}")[:STEPS] for name in ("one", layout))
    assert len(found) == STEPS and [_counts(step) for step in found] == [_counts(step) for step in one]
    pairs = list(zip(one, found, strict=True))
    loss = max(abs(step.loss - other.loss) for step, other in pairs)
    return f"{loss:.1e}, {max(abs(step.grad_norm - other.grad_norm) for step, other in pairs):.1e}"


def _counts(step: StepMetrics) -> StepMetrics:
    return replace(step, loss=0, grad_norm=0)


if __name__ == "__main__":
    main()
