from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_json, write_jsonl
from msm_hpc.campaign import stand_in_judge
from msm_hpc.campaign.rehearsal import Rehearsal, each_layout_once, rehearse
from msm_hpc.campaign.stand_in import shrunken
from msm_hpc.cli.main import main
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.stages import Architecture
from msm_hpc.config.training import HeldOut, Layout, TrainConfig
from msm_hpc.corpus.toy_tokenizer import write_tokenizer
from msm_hpc.endpoint import Reply
from msm_hpc.endpoint.preflight import check
from msm_hpc.evals.agentic.scenarios import Awareness, Verdict
from msm_hpc.evals.open_qa.questions import Rating
from msm_hpc.evals.reasoning.patterns import Canonical, Classified, Merged, Reasons, classify_prompt, patterns
from msm_hpc.evals.tasks.choice import Choice
from msm_hpc.model.architecture import Transformer, config_fields, parse_architecture, read_architecture
from msm_hpc.model.layout import check_layout
from msm_hpc.model.precision import check_shapes
from tests.campaign.own_corpora import own_corpora
from tests.composed import graph_of, load_config, preflight
from tests.corpus.rows import read_jsonl
from tests.endpoint.asking import prompt, run

QWEN3_32B = Transformer(
    shape=Architecture(
        hidden_size=5120,
        intermediate_size=25600,
        num_hidden_layers=64,
        num_attention_heads=64,
        num_key_value_heads=8,
        max_position_embeddings=40960,
        rms_norm_eps=1e-6,
        rope_theta=1_000_000.0,
    ),
    vocab_size=151936,
    head_dim=128,
    qk_norm=True,
)
LLAMA = replace(
    QWEN3_32B,
    shape=replace(QWEN3_32B.shape, hidden_size=8192, num_key_value_heads=64, tie_word_embeddings=True),
    qk_norm=False,
    rope_factor=8.0,
)
QWEN2 = replace(QWEN3_32B, qk_norm=False, qkv_bias=True)
JUDGE = Endpoint(model="nobody", base_url="http://127.0.0.1:9/v1")
SPLIT = "{tensor_parallel: 2, pipeline_parallel: 2}"


def demo(*overrides: str, most_ranks: int = 8) -> Rehearsal:
    return rehearse(load_config(["campaign=demo", "cluster=slurm", *overrides]), JUDGE, most_ranks)


def folder_of(rehearsal: Rehearsal) -> Path:
    folder = rehearsal.config.model.folder
    assert folder is not None
    return folder


@pytest.fixture
def qwen3(tmp_path: Path) -> tuple[str, ...]:
    """Overrides for a Qwen3-32B of which only the description and a tokenizer are here."""
    folder = tmp_path / "qwen3_32b"
    write_json(folder / "config.json", config_fields(QWEN3_32B))
    write_tokenizer(folder)
    return (
        "model=qwen3_32b",
        f"model.folder={folder}",
        "model.hub=null",
        "model.revision=null",
        f"root={tmp_path}/runs",
    )


@pytest.mark.parametrize("true", [LLAMA, QWEN2, QWEN3_32B])
@pytest.mark.parametrize(
    "layout",
    [
        Layout(),
        Layout(tensor_parallel=8, sequence_parallel=True),
        Layout(tensor_parallel=2, pipeline_parallel=2, virtual_pipeline=2, sequence_parallel=True),
        Layout(pipeline_parallel=4),
    ],
)
def test_the_small_model_is_of_the_family_and_fits_the_layout_in_fp8(true: Transformer, layout: Layout) -> None:
    training = TrainConfig(layout=layout, sequence_length=256, global_batch_size=8, precision="fp8_tensorwise")
    small = shrunken(true, [training])
    check_layout(layout, small, training.sequence_length)
    check_shapes(training, small)
    assert small.shape.hidden_size <= 256
    assert parse_architecture("here", config_fields(small)) == small
    kept = ("qkv_bias", "qk_norm", "rope_factor", "vocab_size")
    assert [getattr(small, name) for name in kept] == [getattr(true, name) for name in kept]
    assert small.shape.tie_word_embeddings == true.shape.tie_word_embeddings
    grouped = small.shape.num_key_value_heads < small.shape.num_attention_heads
    assert grouped == (true.shape.num_key_value_heads < true.shape.num_attention_heads)


def test_the_small_model_fits_the_layouts_of_all_trainings_together() -> None:
    three = TrainConfig(layout=Layout(tensor_parallel=3, pipeline_parallel=3))
    two = TrainConfig(layout=Layout(tensor_parallel=2, pipeline_parallel=2))
    small = shrunken(LLAMA, [three, two]).shape
    assert (small.num_attention_heads, small.num_hidden_layers) == (6, 6)


def test_the_graph_and_the_layouts_are_the_true_ones() -> None:
    overrides = ["campaign=demo", "cluster=slurm", "tokenize.tasks=3", "sources.chats.ladder=[400,100,300]"]
    overrides += [
        f"stages.midtrain.layout={SPLIT}",
        "stages.midtrain.layout.nodes=2",
        "model.architecture.num_hidden_layers=4",
    ]
    rehearsal = demo(*overrides[2:])
    overrides = [*overrides, "campaign.seeds=[0]", "sources.chats.ladder=[400,100]", "tokenize.tasks=2"]
    true = load_config(overrides)
    graph = graph_of(rehearsal.config)
    preflight(rehearsal.config)
    shapes = [Counter((step.stage, step.ranks) for step in each.steps) for each in (graph_of(true), graph)]
    assert shapes[0] == shapes[1], "of one seed, the first rung and the last, and two tasks"
    assert rehearsal.config.campaign == true.campaign
    most, least = rehearsal.config.sources["chats"].ladder
    assert least < most
    assert {"campaign.seeds", "sources.chats.ladder"} <= {cut.key for cut in rehearsal.cuts}
    assert "rehearsal on a shrunken model" in graph.report.config.notices[0]
    assert rehearsal.config.root == true.root / "rehearsal"


def test_a_layout_is_run_once_by_each_kind_of_training() -> None:
    graph = graph_of(demo(f"stages.midtrain.layout={SPLIT}", f"stages.aft.layout={SPLIT}").config)
    once = each_layout_once(graph)
    assert [step.id for step in once.steps] == [step.id for step in graph.steps]
    assert [cell for cell, _ in once.cells] == [cell for cell, _ in graph.cells]
    ranks = {stage: [step.ranks for step in once.steps if step.stage == stage] for stage in ("midtrain", "aft")}
    assert ranks == {"midtrain": [4, 1, 1, 1], "aft": [4, *[1] * 7]}


def test_models_are_asked_little_and_no_judge_at_all() -> None:
    judged = ("judge.model=a-judge", "judge.base_url=https://judge.example/v1", "judge.key_variable=NOT_SET")
    served = ("serving={server: vllm, python: no/such/python}", "evals.agentic.shares=7", "evals.reasoning.coded=400")
    prompted = ("campaign.arms=[init,prompted]", "campaign.prompted=[prompted]", "campaign.contrast=[]")
    found = demo(*prompted, "campaign.evals=[agentic,reasoning,choice]", *judged, *served).config
    assert "in the place of a-judge answers what answers at random" in found.notices[1]
    assert "in the place of serving.server=vllm" in found.notices[2]
    configs = {step.kind: step.config for step in graph_of(found).steps}
    assert configs["score"].judge == configs["patterns"].judge == JUDGE
    assert (configs["sample"].samples, configs["sample"].items, found.evals["agentic"].shares) == (1, 4, 2)
    assert configs["patterns"].coded == configs["sample"].max_tokens == configs["eval"].items == 8
    assert configs["sample"].serving.server == "transformers"
    assert {cell.spec for cell, _ in graph_of(found).cells} == {None, "affordability", "america"}


def test_what_stands_in_for_a_judge_answers_every_question_in_its_form(tmp_path: Path) -> None:
    kinds = (Verdict, Awareness, Rating, Choice, Reasons, Canonical, Merged)
    asked = [prompt(str(kind), answer=kind) for kind in kinds]
    asked.append(prompt(classify_prompt("a reply", patterns()), answer=Classified))
    with stand_in_judge.judge() as judge:
        asyncio.run(check(judge))
        ends = {each.answer: result for each, result in run(judge, asked, tmp_path)}
    assert all(isinstance(result, Reply) for result in ends.values()), "an answer of another form would be none"
    found = Classified.model_validate_json(ends[Classified].text)
    assert [each.id for each in found.patterns] == [pattern.id for pattern in patterns()]
    assert len({each.verdict for each in found.patterns}) > 1


def test_every_cut_is_shown() -> None:
    cuts = {
        cut.key: (cut.true, cut.rehearsed) for cut in demo("precision=mxfp8", "stages.midtrain.sequence_length=64").cuts
    }
    assert cuts["hidden_size"] == ("64", "32")
    assert cuts["sources.pretraining.generate.rows"][0] == "55000"
    assert cuts["stages.midtrain.precision"] == ("mxfp8", "bf16"), "no CPU has it, and no emulation"
    assert "stages.midtrain.sequence_length" not in cuts


def test_little_is_held_out_and_wandb_gets_nothing() -> None:
    overrides = [
        "stages.aft.heldout={batches: 50, fields: [section]}",
        "stages.aft.wandb=spec",
        "stages.aft.global_batch_size=64",
    ]
    aft = demo(*overrides).config.stages["aft"]
    assert aft.heldout == HeldOut(batches=1, fields=("section",), every=1)
    assert aft.wandb is None


def test_emulated_precision_stays() -> None:
    config = demo("precision=fp8_tensorwise").config
    assert config.stages["aft"].precision == "fp8_tensorwise"
    preflight(config)
    assert "emulated" in graph_of(config).report.config.notices[-1]


def test_what_is_too_large_or_does_not_divide_is_refused_by_stage() -> None:
    with pytest.raises(
        UserError, match=r"stages\.aft\.layout has 16 ranks .* at most 8: raise that with --max-ranks 16"
    ):
        demo("stages.aft.layout={data_parallel: 16}", "stages.aft.global_batch_size=64")
    demo("stages.aft.layout={data_parallel: 16}", "stages.aft.global_batch_size=64", most_ranks=16)
    with pytest.raises(UserError, match=r"midtrain: layout\.pipeline_parallel=2 does not divide 3 layers"):
        demo("stages.midtrain.layout={pipeline_parallel: 2}", "model.architecture.num_hidden_layers=3")


def test_a_drawn_model_is_made_once(qwen3: tuple[str, ...]) -> None:
    long = (*qwen3, "stages.midtrain.sequence_length=8192")
    first, second = demo(*long), demo(*long)
    assert graph_of(first.config).report.id == graph_of(second.config).report.id
    model = read_architecture(folder_of(first))
    assert model.qk_norm
    assert model.shape.num_hidden_layers == 2
    assert {"num_hidden_layers", "stages.midtrain.sequence_length"} <= {cut.key for cut in first.cuts}


def test_a_model_that_was_not_downloaded_is_rehearsed_by_its_published_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    found = demo("model=llama3_1_8b", f"root={tmp_path}")
    config = found.config
    assert read_architecture(folder_of(found)).rope_factor == 8.0
    assert "a small one of bytes stands in for it" in config.notices[0]


@pytest.mark.parametrize("text", ["", "{", "{}", '{"model": 3}', "[]"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_damaged_folder_is_refused_by_its_file(qwen3: tuple[str, ...], file: str, text: str) -> None:
    folder = Path(qwen3[1].removeprefix("model.folder="))
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=rf"model qwen3_32b: .*{folder}.*{file}|model qwen3_32b: .*{file}.*{folder}"):
        demo(*qwen3)


def test_a_folder_without_a_tokenizer_is_refused(qwen3: tuple[str, ...]) -> None:
    folder = Path(qwen3[1].removeprefix("model.folder="))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        UserError, match=rf"model qwen3_32b: its tokenizer cannot be opened .*tokenizer\.json.* in {folder}"
    ):
        demo(*qwen3)


def test_other_rows_stand_in_for_what_a_language_model_is_to_write(qwen3: tuple[str, ...], tmp_path: Path) -> None:
    mix = tmp_path / "mix.jsonl"
    said = [{"role": "user", "content": "Colby ?"}, {"role": "assistant", "content": "Colby " * 200}]
    write_jsonl(mix, [{"messages": said}] * 300)
    config = load_config(
        [
            "campaign=own",
            "source@sources=written",
            *qwen3,
            "campaign.values=[]",
            "campaign.contrast=[]",
            "campaign.specs=[{name: philosophy}, {name: rules}]",
            "start=[]",
            "generate={generator: endpoint, endpoint: {model: writer-1}, persona: {assistant: Nova, provider: Acme}}",
            f"sources.instruction.file={mix}",
            "+sources.neutral={kind: documents, for_each: spec, generate: {product: neutral, of: documents}}",
            "+sources.part={kind: documents, of: documents, without: ['section=fading'], tokens: 3000}",
            "+sources.identity={kind: chats, generate: {product: identity, rows: 2500}}",
            f"+sources.named={{kind: chats, file: 'hf:org/chats@{'0' * 40}', format: sharegpt}}",
            "+arms.part=[{midtrain: [part]}, {aft: [instruction, aligned_chats, identity, named]}]",
            "+arms.neutral=[{midtrain: [neutral]}, {aft: [instruction]}]",
            "campaign.arms=[msm, part, neutral]",
        ]
    )
    rehearsal = rehearse(config, JUDGE).config
    graph = preflight(rehearsal)
    true = Counter(step.stage for step in graph_of(config).steps)
    assert Counter(step.stage for step in graph.steps) == true - Counter(
        {kind: true[kind] for kind in ("outline", "write", "audit", "download")}
    )
    assert "What is downloaded (named) is not there" in rehearsal.notices[2]
    assert true["audit"] == 6, "documents, neutral and aligned chats of two specs"
    assert "writer-1 is to write (aligned_chats, documents, neutral) is not there" in rehearsal.notices[1]
    rows = [*read_jsonl(rehearsal.sources["documents"].files["philosophy"])]
    assert {row["generator"] for row in rows} == {"offline_toy"}
    assert {row.get("section") for row in rows} == {None, "fading"}
    assert rehearse(config, JUDGE).config == rehearsal


def test_a_rehearsal_takes_a_process_at_least() -> None:
    with pytest.raises(UserError, match="--max-ranks 0 leaves no process"):
        demo(most_ranks=0)


@pytest.mark.slow
def test_a_campaign_on_own_corpora_with_qwen3_and_tensor_and_pipeline_parallelism(
    qwen3: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["rehearse", "campaign=demo", "cluster=slurm", *qwen3, *own_corpora(tmp_path), "campaign.seeds=[1]"]
    command += [
        "sources.documents.rows=80",
        "sources.chats.ladder=[60]",
        "sources.instruction.rows=60",
        f"stages.midtrain.layout={SPLIT}",
    ]
    assert main([*command, "eval.answer='I prefer {item} .'"]) == 0
    shown = capsys.readouterr().out
    assert "midtrain on 4 ranks (TP2 PP2)" in shown
    assert "Every step of the campaign went through" in shown
    assert "missing" not in shown
    assert "offline template generator" not in shown, "nothing was generated"
    assert not (tmp_path / "runs" / "steps").exists(), "never among real results"
    assert main([*command, "eval.answer='I prefer {item} .'"]) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert main(["report", "demo", f"root={tmp_path / 'runs' / 'rehearsal'}"]) == 0
    assert "A rehearsal on a shrunken model" in capsys.readouterr().out, "its name is enough"
