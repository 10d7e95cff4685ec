from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.compose import OWN_FOLDER, load_configs, root_of, shipped_folder, with_absolute_paths
from tests.composed import graph_of, load_config

CHOICES = [
    (group, path.stem)
    for group in ("campaign", "model", "cluster", "precision", "lora")
    for path in sorted((shipped_folder() / group).glob("*.yaml"))
]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_file_of_the_tree_composes(group: str, choice: str) -> None:
    load_configs([f"{group}={choice}"])


def test_overrides_reach_fields_that_no_file_mentions() -> None:
    assert load_config(["stages.midtrain.clip_grad=0.5"]).stages["midtrain"].clip_grad == 0.5
    assert load_config(["cluster.resources.cpu.sbatch.reservation=night"]).cluster.resources.gpu_eval.sbatch == {
        "reservation": "night"
    }
    assert load_config(["sources.chats.ladder=[1,2]"]).sources["chats"].ladder == (1, 2)
    assert load_config(["root=/elsewhere"]).root == Path("/elsewhere")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("arms.aft=[{eval: [chats]}]", r"arms.aft: a stage cannot be called eval, as a kind of step is"),
        (
            "start=[{pretrain: [pretraining, replay]}]",
            r"pretraining and replay take from pretraining twice",
        ),
        ("start=[{pretrain: [pretrainin]}]", r"start: no source 'pretrainin'"),
        ("sources.pairs.for_each=null", r"sources.pairs.for_each: pairs are for one value each; set it to value"),
        ("sources.pairs.rows=10", r"sources.pairs: evals ask all pairs; leave rows, tokens and ladder out"),
        ("~sources.pairs", r"campaign.values are asked about with pairs: give a source of kind pairs, or no values"),
        ("sources.chats.for_each=spec", r"sources.chats.for_each is spec, but product chats is generated once for all"),
        ("sources.chats.for_each=value", r"sources.chats.for_each is value, but arms.aft trains on it"),
        (
            "sources.documents.generate=null",
            r"sources.documents has no rows for affordability: give files",
        ),
        ("campaign.seeds=[-1]", r"campaign.seeds.0: input should be greater than or equal to 0"),
        ("tokenize.max_bad=2", r"tokenize.max_bad: input should be less than or equal to 1"),
        ("campaign.models=[tiny,tiny]", r"campaign.models lists tiny twice"),
        ("aft.learning_rate=1", r"unknown key 'aft.learning_rate'; did you mean 'stages.aft.learning_rate'"),
        ("stages.midtrian.epochs=1", r"unknown key 'stages.midtrian.epochs'; did you mean .*'stages.midtrain.epochs'"),
        ("sources.chats.ladder=3", r"sources.chats.ladder: write a list, such as \[3\], got 3"),
        (
            "sources.chats.ladder=100,200",
            r"sources.chats.ladder: write a list, 'sources.chats.ladder=\[100,200\]', got",
        ),
        ("sources.chats.ladder='[100,200]'", r"sources.chats.ladder: write a list, such as \[100,200\], got '\[1"),
        ("campaign.values=null", r"campaign.values: write a list, such as \[\], got None"),
        ("campaign.specs=[mine]", r"campaign.specs.0: give its fields, \{name: mine\}, got 'mine'"),
        ("campaign.specs={name: x}", r"campaign.specs: write a list, such as"),
        ("+arms.x={aft: [chats]}", r"arms.x: write a list, such as \[\{aft: \[chats\]\}\], got"),
        ("sources.chats=x.jsonl", r"sources.chats: give its fields, sources.chats.FIELD=VALUE, got 'x.jsonl'"),
        ("sources.documents.files=x.jsonl", r"give each by name, such as sources.documents.files.NAME=x.jsonl"),
        ("sources.chats.file=[a,b]", r"sources.chats.file: give one path, got \['a', 'b'\]"),
        ("sources.chats.file=hf:org/a", r"sources.chats: hf:org/a: give a commit, hf:org/a@COMMIT, so that"),
        ("sources.chats.file=hf:org/a@main:en/test", r"today's: git ls-remote https://huggingface.co/datasets/org/a H"),
        ("sources.pairs.files.america=hf:org/a", r"sources.pairs: hf:org/a: pairs are read from .jsonl files only"),
        ("sources.chats.format=alpaca", r"sources.chats: format or columns are given, but no file"),
        ("sources.chats.format=sharegt", r"sources.chats.format: .* got 'sharegt'; did you mean 'sharegpt'"),
        (
            "sources.documents={files: {america: x.jsonl}, format: alpaca}",
            r"sources.documents: format is alpaca, whose rows are chats, but kind is documents",
        ),
        ("sources.chats.columns={messages: m}", r"sources.chats: format or columns are given, but no file"),
        ("sources.chats={file: x.jsonl, columns: {mesages: m}}", r"columns: no field 'mesages' in rows of format"),
        ("sources.chats.rows=3", r"sources.chats: rows and ladder are given: give one of them"),
        (
            "sources.instruction={rows: null, ladder: [3]}",
            r"arms.aft: chats and instruction both have a ladder: give one of them rows",
        ),
        (
            "campaign.arms=[init,aftt]",
            r"campaign.arms: no arm 'aftt'; did you mean aft\?; those in `arms` are init, base, msm, aft, msm\+aft",
        ),
        ("campaign.contrast=[aft]", r"campaign.contrast: arms.aft reads no source for each spec"),
        ("+campaign.savings={msm+aft: base}", r"campaign.savings: arms.base reads no source with a ladder"),
        (
            "+campaign.savings={msm+aft: aftt}",
            r"campaign.savings: no arm 'aftt'; did you mean aft\?; those in `arms` are",
        ),
        (
            "+campaign.compare={msm+aft: [aftt]}",
            r"campaign.compare: no arm 'aftt'; did you mean aft\?; those in `arms` are",
        ),
        (
            "+campaign.compare={aft: [msm+aft]}",
            r"campaign.compare: aft has no spec, and msm\+aft has one: name them the other way round",
        ),
        (
            "+campaign.persistence={base: init}",
            r"campaign.persistence: the last stage of arms.base reads no source with",
        ),
        ("campaign.contrast=[aftt]", r"campaign.contrast: no arm 'aftt'; did you mean aft\?; those in `arms` are"),
        ("campaign.specs=[]", r"campaign.specs is empty, but arms.msm needs at least one spec"),
        (
            "arms.aft=[{aft: [chat]}]",
            r"arms.aft: no source 'chat'; did you mean chats\?; those in `sources` are .*chats",
        ),
        (
            "arms.aft=[{afft: [chats]}]",
            r"arms.aft: no stage 'afft'; did you mean aft\?; those in `stages` are pretrain, midtrain, aft",
        ),
        ("arms.aft=[{aft: [chats]},{aft: [chats]}]", r"arms.aft: stage aft comes twice: give the second one a name"),
        ("arms.aft=[{aft: [pairs]}]", r"arms.aft: pairs holds pairs for evals, and cannot be trained on"),
        ("arms.aft=[aft]", r"'aft' is no link of an arm: write a stage and its sources, such as \{aft: \[chats\]\}"),
        ("sources.instruction.rows=0", r"arms.base: no row is taken of instruction; raise rows, or drop the arm"),
        ("sources.replay.of=pretrainin", r"sources.replay.of: 'pretrainin' is no source with a corpus of its own"),
        (
            "sources.documents.file=x",
            r"sources.documents: file is given, but there is one for each spec: give files, each by its spec's name",
        ),
        ("sources.documents.files.x=y", r"sources.documents.files.x: the campaign's specs are affordability, america"),
        ("sources.chats.lader=[3]", r"unknown key 'sources.chats.lader'; did you mean 'sources.chats.ladder'"),
        ("stages.midtrain.lr=1", r"unknown key 'stages.midtrain.lr'; did you mean 'stages.midtrain.learning_rate'\?"),
        ("stages.midtrain.optimizer.lr=1", r"did you mean 'stages.midtrain.learning_rate'\?"),
        ("stages.aft.tp=2", r"did you mean 'stages.aft.layout.tensor_parallel'\?"),
        ("root=/my runs ü", r"cannot read the override .* quote the whole override for the shell"),
        ("+campaign.colour=red", r"unknown key 'campaign.colour'"),
        ("model=qwen2_5_14", r"^no model 'qwen2_5_14'; did you mean qwen2_5_14b\?; there are .*smollm2_135m.*tiny"),
        ("campaign=demoo", r"^no campaign 'demoo'; did you mean demo\?; there are agentic, "),
        ("cluster=h20", r"^no cluster 'h20'; did you mean h200\?; there are h200, local, "),
        ("source@sources=writen", r"^no source 'writen'; did you mean written\?; there are "),
        ("judge.model=null", r"^judge\.model: it has no value \(null\); give it one$"),
        ("sources.chats.ladder=[1,x]", r"sources.chats.ladder.1: input should be a valid integer, .* got 'x'"),
        ("precision=fp8", r"no precision 'fp8'.*; there are bf16, fp32, fp8_blockwise"),
        (
            "stages.midtrain.precision=fp16",
            r"stages.midtrain.precision: input should be 'fp32', .* got 'fp16'; did you mean 'bf16'",
        ),
        ("stages.aft.precision=fp8_tensor", r"got 'fp8_tensor'; did you mean 'fp8_tensorwise'"),
        ("stages.aft.fp8_emulated=true", r"fp8_emulated is set, but precision is fp32: there is nothing to emulate"),
        ("cluster.gpu=h10", r"cluster.gpu: input should be 'a100', .* got 'h10'; did you mean 'h100'"),
        ("nonsense", r"'nonsense' is not an override; write key=value"),
        ("campaign.seeds=[0", r"cannot read the override 'campaign.seeds=\[0'"),
        ("campaign.seeds=[]", r"campaign: campaign.seeds is empty"),
        ("campaign.seeds=[0,1,0]", r"campaign: campaign.seeds lists 0 twice: remove one"),
        ("campaign.arms=[aft,aft]", r"campaign.arms lists aft twice"),
        ("campaign.specs=[{name: a},{name: a}]", r"campaign.specs lists a twice"),
        ("sources.chats.ladder=[]", r"sources.chats: ladder is empty: give at least one"),
        ("eval.answer=yes", r"eval: answer 'yes' has no place for the option"),
        ("eval.tokens_per_batch=0", r"eval.tokens_per_batch: input should be greater than 0"),
        ("stages.aft.learning_rate=inf", r"stages.aft.learning_rate: input should be a finite number"),
        ("tokenize.tasks=0", r"tokenize.tasks: input should be greater than 0, got 0"),
        ("campaign.name=../x", r"campaign.name: string should match pattern"),
        ("campaign=null", r"must be a string or a list"),
        ("model.architecture.num_attention_heads=3", r"model.architecture: num_attention_heads 3 does not divide"),
        ("model.architecture.num_key_value_heads=3", r"num_key_value_heads 3 does not divide num_attention_heads 4"),
        ("start=[]", r"a model from scratch needs a stage in `start`"),
        (
            "stages.pretrain.lora={rank: 8}",
            r"stages.pretrain.lora is set, but it starts from no model",
        ),
        (
            "stages.midtrain.lora={rank: 8}",
            r"stages.midtrain.lora is Lora\(rank=8, .* and stages.aft.lora is None, but aft continues",
        ),
        (
            "stages.midtrain.micro_batch_size=3",
            r"midtrain: global_batch_size 2 is not a multiple of micro_batch_size 3",
        ),
        ("stages.aft.seed=3", r"aft: seed is 3, but this stage is run once for each of campaign.seeds"),
        ("stages.aft.layout.nodes=2", r"stages.aft.layout: 1 rank cannot be spread evenly over layout.nodes=2"),
        (
            "stages.aft.layout.tensor_parallel=0",
            r"stages.aft.layout.tensor_parallel: input should be greater than 0, got 0",
        ),
        ("cluster.resources.cpu.memory_gb=inf", r"^cluster.resources.cpu.memory_gb: [^\n]* should be a finite number"),
        ("stages.midtrain.layout=autoo", r"stages.midtrain.layout: 'autoo' is no layout: give auto, or its parts"),
        (
            "layout=auto",
            r"unknown key 'layout'; did you mean 'stages.pretrain.layout' or 'stages.midtrain.layout'",
        ),
        ("stages.midtrain.wandb=''", r"stages.midtrain.wandb: string should have at least 1 character"),
        ("stages.aft.layout.sequence_parallel=true", r"sequence_parallel needs layout.tensor_parallel of at least 2"),
    ],
)
def test_what_is_wrong_is_refused_in_one_clear_line(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(["campaign=demo", override])


HUB = ("model=smollm2_135m", "model.package=null", "model.gguf_file=null")


def test_weights_on_the_hub_need_a_commit() -> None:
    with pytest.raises(UserError, match=r"model.hub=org/name has no revision: give model.revision, a commit"):
        load_config([*HUB, "model.hub=org/name"])
    assert load_config([*HUB, "model.hub=org/name", "model.revision=abc"]).model.hub == "org/name"


@pytest.mark.parametrize("path", ["/no/such", "./such", "../such", "~/such"])
def test_a_path_is_not_a_hub_id(path: str) -> None:
    with pytest.raises(UserError, match=rf"model.hub={path} is a path, not a hub id; give model.folder instead"):
        load_config([*HUB, f"model.hub='{path}'", "model.revision=abc"])


def test_a_model_starts_in_exactly_one_way() -> None:
    with pytest.raises(UserError, match=r"exactly one of .*set the others to null; given: model.hub, model.package"):
        load_config(["model=smollm2_135m", "model.hub=org/name", "model.revision=abc"])
    with pytest.raises(UserError, match=r"exactly one of .*; given: none"):
        load_config(["model=smollm2_135m", "model.package=null"])


def test_the_schema_does_not_ask_the_disk() -> None:
    assert load_config([*HUB, "model.folder=/no/such"]).model.folder == Path("/no/such")


def test_a_file_that_is_half_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "configs"
    shutil.copytree(shipped_folder(), tree)
    (tree / "campaign" / "half.yaml").write_text("# @package _global_\ncampaign:\n  arms: [init, base")
    monkeypatch.setattr("msm_hpc.config.compose.shipped_folder", lambda: tree)
    with pytest.raises(UserError, match=r"(?s)is not valid YAML; fix it: .*half\.yaml\", line 3"):
        load_config(["campaign=half"])


def test_an_unknown_key_in_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "configs"
    shutil.copytree(shipped_folder(), tree)
    with (tree / "cluster" / "local.yaml").open("a") as file:
        file.write("slotz: 3\n")
    monkeypatch.setattr("msm_hpc.config.compose.shipped_folder", lambda: tree)
    with pytest.raises(UserError, match=r"cluster.slotz: unknown key; did you mean 'cluster.slots'"):
        load_config([])


def test_a_path_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load_config(["root=~/runs", "sources.chats.file=~/chats.jsonl"])
    assert (config.root, config.sources["chats"].file) == (tmp_path / "runs", tmp_path / "chats.jsonl")
    assert root_of(["root=~/runs"]) == tmp_path / "runs"


def test_names_are_added_to_a_table_in_overrides() -> None:
    config = load_config(["campaign=demo", "+arms.chats_only=[{aft: [chats]}]", "campaign.arms=[chats_only]"])
    assert [link.sources for link in config.arms["chats_only"]] == [("chats",)]


def test_models_of_one_campaign_have_names_of_their_own_and_one_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    tiny = (shipped_folder() / "model" / "tiny.yaml").read_text()
    (folder / "twin.yaml").write_text(tiny)
    (folder / "wide.yaml").write_text(tiny.replace("name: tiny", "name: wide") + "cluster: {nodes: 4}\n")
    monkeypatch.setenv(OWN_FOLDER, str(tmp_path))
    with pytest.raises(UserError, match=r"campaign.models: model.name lists tiny twice"):
        load_configs(["campaign=demo", "campaign.models=[tiny,twin]"])
    with pytest.raises(UserError, match=r"model=wide changes cluster or root, but all models of a campaign share them"):
        load_configs(["campaign=demo", "campaign.models=[tiny,wide]"])


def test_a_path_in_an_override_is_remembered_for_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ("sources.documents.files.a=d.jsonl", "campaign.specs=[{name: a, file: a.md}]", "root=runs", "model=tiny")
    assert with_absolute_paths(given) == (
        f"sources.documents.files.a={tmp_path}/d.jsonl",
        f"campaign.specs=[{{name: a, file: {tmp_path}/a.md}}]",
        "model=tiny",
    )


def test_a_file_for_each_may_be_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ['sources.documents.file="corpora/{each}.jsonl"', "sources.documents.files.america=usa.jsonl"]
    files = load_config(["campaign=demo", *given]).sources["documents"].files
    assert files == {"affordability": tmp_path / "corpora/affordability.jsonl", "america": tmp_path / "usa.jsonl"}
    assert with_absolute_paths(given[:1]) == (f'sources.documents.file="{tmp_path}/corpora/{{each}}.jsonl"',)
    items = load_config(["campaign=demo", 'sources.pairs.file="${shipped:evals/items}/{each}.jsonl"']).sources["pairs"]
    assert all(file.is_file() for file in items.files.values())


CROSSED = (
    "campaign=own",
    "campaign.specs=[{name: a}, {name: b}]",
    "campaign.values=[]",
    "campaign.contrast=[]",
    'sources.documents.file="{each}.jsonl"',
    'sources.value_chats={kind: chats, for_each: spec, file: "{each}-chats.jsonl"}',
    "+sources.chats_of_b={kind: chats, of: value_chats, spec: b}",
    "+arms.crossed=[{midtrain: [documents]}, {aft: [chats_of_b]}]",
    "+arms.matched=[{midtrain: [documents]}, {aft: [value_chats]}]",
    "campaign.arms=[matched,crossed]",
)


def test_an_arm_may_read_the_corpus_of_one_spec_whatever_it_is_trained_on() -> None:
    config = load_config(CROSSED)
    assert [corpus.name for corpus in config.corpora("chats_of_b")] == ["value_chats-b"]
    assert config.corpus("chats_of_b", "a") == config.corpus("value_chats", "b"), "one corpus, not two"
    steps = {(cell.arm, cell.spec): step for cell, step in graph_of(config).cells}
    assert steps["crossed", "b"] is steps["matched", "b"], "the same training"
    assert len(set(steps.values())) == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "+sources.new={kind: chats, of: value_chats, spec: c}",
            r"sources.new.spec is c: name one of campaign.specs, a, b",
        ),
        (
            "+sources.new={kind: chats, of: chats, spec: b}",
            r"sources.new.spec is b, but what it takes from is the same",
        ),
        ("sources.chats.spec=b", r"sources.chats: spec=b chooses a corpus of another source: give that source as of"),
    ],
)
def test_a_spec_that_there_is_not_is_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config([*CROSSED, override])
