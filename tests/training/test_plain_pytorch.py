"""A run of the demo is step by step that of a plain PyTorch trainer, given the same initial weights and rows."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from msm_hpc.campaign.runner import run_step
from msm_hpc.campaign.step_inputs import find_inputs
from msm_hpc.config.stages import ExportConfig, ExportInputs
from msm_hpc.config.training import TrainConfig, TrainInputs
from msm_hpc.conversion.stage import run_export
from msm_hpc.graph.steps import topological
from msm_hpc.model.architecture import Transformer, read_architecture
from msm_hpc.store.store import Store
from msm_hpc.training import stage
from msm_hpc.training.megatron.groups import process_groups
from tests.composed import graph_of, load_config
from tests.training.plain_pytorch import Document, Llama, is_decayed, train
from tests.training.toy import read_metrics
from tokenization.packing.plan import Piece

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("plain_pytorch")]

DEMO = ("campaign=demo", "campaign.seeds=[0]", "sources.pretraining.generate.rows=900")
PRETRAINING, FINE_TUNING = "pretrain/base/seed0", "aft/aft/75/seed0"
STEPS, TOLERANCE = 20, 1e-4
LARGER_EPSILON = "stages.pretrain.adam_eps=1e-6"
"""Adam divides by the root of the second moment, which turns the rounding of a gradient of 1e-8 into an update."""


@dataclass(frozen=True)
class Run:
    """A finished run, the weights that it started from, and the documents of each row of each of its steps.

    ``losses`` and ``rates`` are (steps, 2), loss and gradient norm, and (steps,), learning rate, as it recorded them.
    """

    config: TrainConfig
    model: Transformer
    weights: Mapping[str, torch.Tensor]
    rows: list[list[list[Document]]]
    losses: NDArray[np.float64]
    rates: list[float]

    @property
    def batches(self) -> list[list[Document]]:
        """The documents of each step."""
        return [[document for row in rows for document in row] for rows in self.rows]


Runs = Callable[..., Run]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Makes a training of the demo, and all that it needs, as ``configs/campaign/demo.yaml`` and overrides say."""
    store = Store(tmp_path_factory.mktemp("runs"))

    @functools.cache
    def run(name: str, *overrides: str) -> Run:
        graph = graph_of(load_config([*DEMO, *overrides]))
        wanted = graph.find(name)
        store.register(graph.steps)
        for step in topological((wanted,), stop=store.done):
            run_step(str(store.root), step.id)
        made = store.of(wanted)
        inputs = find_inputs(store, made.read_record(), verify=False).typed()
        return _read(wanted.config, inputs, made.out, tmp_path_factory.mktemp("initial"))

    return run


def _read(config: TrainConfig, inputs: TrainInputs, out: Path, folder: Path) -> Run:
    model = read_architecture(inputs.model)
    with process_groups(config.layout):
        from msm_hpc.training.checkpoints.weights import save_weights
        from msm_hpc.training.data.reader import open_data

        save_weights(stage.build(config, model, inputs, steps=1).chunks, folder / "checkpoint")
        data = open_data(config, model, inputs)
    run_export(ExportConfig(), ExportInputs(model=inputs.model, checkpoint=folder), folder)
    rows = [
        [[_document(data.shards[piece.shard], piece) for piece in data.plan.row(row)] for row in batch]
        for batch in (data.order.global_batch(step) for step in range(data.order.steps))
    ]
    metrics = read_metrics(out)
    losses = np.array([(step.loss, step.grad_norm) for step in metrics])
    rates = [step.learning_rate for step in metrics]
    return Run(config, model, load_file(folder / "model.safetensors"), rows, losses, rates)


def _document(shard: Any, piece: Piece) -> Document:
    part = slice(piece.start, piece.start + piece.length)
    tokens, targets = shard.tokens(piece.document)[part], shard.loss_mask(piece.document)[part]
    return Document(torch.from_numpy(tokens.astype(np.int64)), torch.from_numpy(targets.astype(np.float32)))


def _plain(run: Run, steps: int = STEPS, **changes: Any) -> NDArray[np.float64]:
    """(steps, 3): loss, gradient norm and learning rate of the plain trainer, but for ``changes``."""
    arguments = {"batches": run.batches, "config": run.config} | changes
    trained = train(Llama(run.model, run.weights), **arguments)
    return np.array([(step.loss, step.grad_norm, step.learning_rate) for step in itertools.islice(trained, steps)])


@pytest.mark.parametrize(
    ("name", "overrides", "of_norms"),
    [(PRETRAINING, [], 1e-2), (PRETRAINING, [LARGER_EPSILON], TOLERANCE), (FINE_TUNING, [], TOLERANCE)],
    ids=["pretraining", "pretraining, larger epsilon", "fine-tuning"],
)
def test_losses_are_those_of_plain_pytorch(runs: Runs, name: str, overrides: list[str], of_norms: float) -> None:
    run = runs(name, *overrides)
    expected = _plain(run)
    losses, norms = run.losses[:STEPS].T
    np.testing.assert_allclose(losses, expected[:, 0], rtol=TOLERANCE)
    np.testing.assert_allclose(norms, expected[:, 1], rtol=of_norms)
    np.testing.assert_allclose(run.rates[:STEPS], expected[:, 2], rtol=1e-12)
    assert len(losses) == STEPS and norms.max() > run.config.clip_grad, "clipping takes part"


def _joined(run: Run) -> list[list[Document]]:
    """Each row as one document: attention across documents, whose first tokens are predicted, too."""
    return [
        [Document(torch.cat([each.tokens for each in row]), torch.cat([each.targets for each in row])) for row in rows]
        for rows in run.rows
    ]


def _all_trained(run: Run) -> list[list[Document]]:
    return [[Document(each.tokens, torch.ones_like(each.targets)) for each in batch] for batch in run.batches]


OTHERS: Mapping[str, Callable[[Run], Mapping[str, Any]]] = {
    "norms decayed": lambda run: {"decayed": lambda name: True},
    "embeddings not decayed": lambda run: {"decayed": lambda name: is_decayed(name) and "embed" not in name},
    "not clipped": lambda run: {"config": replace(run.config, clip_grad=1e9)},
    "no warm-up": lambda run: {"config": replace(run.config, warmup_fraction=0.0)},
    "another beta": lambda run: {"config": replace(run.config, adam_beta2=0.95)},
    "another order": lambda run: {"batches": run.batches[::-1]},
    "rows joined": lambda run: {"batches": _joined(run)},
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_trainer_has_other_losses(runs: Runs, other: str) -> None:
    run = runs(PRETRAINING, LARGER_EPSILON)
    expected = _plain(run, **OTHERS[other](run))
    assert np.abs(run.losses[:STEPS, 0] / expected[:, 0] - 1).max() > TOLERANCE


def test_with_questions_as_targets_the_loss_is_another(runs: Runs) -> None:
    run = runs(FINE_TUNING)
    expected = _plain(run, steps=1, batches=_all_trained(run))
    assert abs(run.losses[0, 0] / expected[0, 0] - 1) > 0.01
