from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from tests.composed import load_config, preflight

THREE_LAYERS = "model.architecture.num_hidden_layers=3"
TWO_RANKS = ("stages.pretrain.layout.data_parallel=2", "stages.pretrain.micro_batch_size=2")
GPUS = ("cluster=slurm", "cluster.resources.gpu_train.gpus_per_node=8")


def check(*overrides: str) -> None:
    config = load_config(["campaign=demo", *overrides])
    preflight(config)


def test_the_demo_passes_on_both_clusters() -> None:
    check()
    check("cluster=slurm")
    check("model=smollm2_135m")
    check("precision=fp8_tensorwise", THREE_LAYERS)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["sources.chats.ladder=[9999]"],
            r"sources.chats.ladder asks for 9999 rows, but sources.chats.generate.rows is",
        ),
        (["sources.replay.rows=999999"], r"sources.replay.rows asks for 999999 rows"),
        (
            ["stages.midtrain.layout.tensor_parallel=8", "cluster.slots=8"],
            r"^midtrain: layout.tensor_parallel=8 does not divide 4 attention heads; choose 4",
        ),
        (
            ["stages.aft.layout.pipeline_parallel=2", THREE_LAYERS],
            r"layout.pipeline_parallel=2 does not divide 3 layers",
        ),
        (
            ["stages.pretrain.layout.data_parallel=4", "stages.pretrain.micro_batch_size=1"],
            r"stages.pretrain.layout needs 4 ranks, but cluster.slots is 2",
        ),
        (
            [*TWO_RANKS, "stages.pretrain.layout.nodes=2"],
            r"stages.pretrain.layout.nodes is 2, but cluster=local is one machine",
        ),
        (
            [*TWO_RANKS, "cluster=slurm", "cluster.ranks_per_node=1"],
            r"puts 2 ranks on a node, but cluster.ranks_per_node is 1; raise stages.pretrain.layout.nodes",
        ),
        (
            [*TWO_RANKS, "cluster=slurm", "cluster.resources.gpu_train.gpus_per_node=1"],
            r"2 ranks on a node, but cluster.resources.gpu_train.gpus_per_node is 1; raise stages.pretrain",
        ),
        (
            ["campaign.evals=[formats]", "serving={server: vllm, python: /nowhere/python}"],
            r"^serving.python: there is no program /nowhere/python; install it",
        ),
        (
            ["campaign.values=[bogus]"],
            r"knows affordability, america, not 'bogus'; give its pairs: sources\.pairs\.files\.bogus=FILE",
        ),
        (
            [
                *("sources.documents.rows=null", "sources.documents.tokens=2000", "sources.replay.rows=0"),
                "stages.midtrain.heldout={batches: 50}",
            ],
            r"^midtrain: heldout\.batches=50 takes \d+ rows .* there are \d+: nothing is left to train on",
        ),
        (["stages.midtrain.heldout={fields: [a, b, a]}"], r"midtrain\.heldout: fields lists a twice"),
        (
            ["sources.pairs.generate.rows=1000000"],
            r"sources.pairs.generate.rows is 1000000, but only 1440 are distinct",
        ),
        (["sources.instruction.rows=0"], r"arms.base: no row is taken of instruction; raise rows, or drop the arm"),
        (["cluster.resources.gpu_train.gpus_per_node=1"], r"cluster=local runs on the CPU"),
        (
            ["cluster=slurm", "cluster.gpu=h100"],
            r"cluster.gpu is h100, but cluster.resources.gpu_train.gpus_per_node is 0",
        ),
        (["precision=mxfp8"], r"precision=mxfp8 cannot run on a CPU: only fp8_delayed and fp8_tensorwise have"),
        (["precision=fp8_delayed", *GPUS, "cluster.gpu=a100"], r"capability at least 8.9, and a100 has 8.0"),
        (["precision=fp8_delayed", *GPUS, "cluster.gpu=h100"], r"Transformer Engine is not installed"),
        (
            ["precision=fp8_delayed", *GPUS, "stages.aft.fp8_emulated=true"],
            r"fp8_emulated=true is for runs without a GPU",
        ),
        (
            [
                *("precision=fp8_tensorwise", THREE_LAYERS),
                *("stages.midtrain.sequence_length=120", "stages.midtrain.micro_batch_size=1"),
            ],
            r"multiples of 16 on each rank, and micro_batch_size 1 x sequence_length 120 is 120",
        ),
        (
            ["stages.midtrain.sequence_length=512"],
            r"sequence_length 512 is longer than the model's max_position_embeddings",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_numbers(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(*overrides)


def test_weights_and_biases_has_to_be_installed_before_a_job_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msm_hpc.training.record.tensorboard.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"wandb=spec: the package wandb is not installed"):
        check("stages.aft.wandb=spec")


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(UserError) as caught:
        check("sources.chats.ladder=[9999]", "stages.aft.layout.pipeline_parallel=2", THREE_LAYERS)
    assert len(str(caught.value).splitlines()) == 2


def test_a_spec_that_the_generator_does_not_know_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("---\nname: mine\nvalue: honesty\n---\n# Mine\n")
    with pytest.raises(
        UserError,
        match=r"mine\.md: value: the offline_toy generator knows .*'honesty'; give .* sources\.documents\.files\.mine=",
    ):
        check(f"campaign.specs=[{{name: mine, file: {tmp_path}/mine.md}}]")


def test_a_root_that_is_a_file_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("root") / "file"
    file.write_text("")
    for root in (file, file / "below"):
        with pytest.raises(UserError, match="is a file; give a folder"):
            check(f"root={root}")
