"""What a model's tokenizer makes of the user's own rows, known before a job is queued."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.external_inputs import ExternalInputs
from msm_hpc.graph.build import build_graph
from msm_hpc.graph.steps import Step
from tests.campaign.own_corpora import CHATS, DOCUMENTS, own_corpora, write
from tests.composed import graph_of, load_config, past_preflight
from tests.tokenization.chats.chat_templates import QWEN3
from tests.tokenization.conftest import CHATML, byte_level_bpe

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "vocab_size": 512,
}
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}" + CHATML
REWRITES = CHATML.replace("message['content'] +", "(message['content'] if loop.last else message['content'][:-1]) +")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder: its shape, a tokenizer that knows every text, and weights that preflight does not read."""
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    (folder / "tokenizer.json").write_text(byte_level_bpe())
    save_file({"w": np.zeros(1, np.float32)}, folder / "model.safetensors")
    template(folder, CHATML)
    return folder


@pytest.fixture
def own(tmp_path: Path, folder: Path) -> list[str]:
    """Overrides of a campaign on the user's own corpora that starts from ``folder``."""
    model = ["model=smollm2_135m", "model.package=null", "model.gguf_file=null", "model.shape=null"]
    sizes = [
        *("sources.chats.ladder=[30]", "sources.replay.rows=0", "campaign.seeds=[0]"),
        *("sources.documents.rows=null", "sources.instruction.rows=null"),
        *("stages.midtrain.sequence_length=128", "stages.midtrain.epochs=2", "stages.midtrain.global_batch_size=8"),
        *("stages.aft.sequence_length=128", "stages.aft.epochs=2", "stages.aft.global_batch_size=4"),
    ]
    corpora = own_corpora(tmp_path)
    return ["campaign=demo", *model, f"model.folder={folder}", *sizes, *corpora, f"root={tmp_path / 'runs'}"]


def template(folder: Path, chat_template: str | None) -> None:
    config = {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>", "chat_template": chat_template}
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def notes(overrides: list[str], *done: str) -> tuple[str, ...]:
    """What preflight says where the steps of the kinds ``done`` are."""
    config, external = load_config(overrides), ExternalInputs({})
    graph = build_graph([config], external)

    def is_done(step: Step) -> bool:
        return step.kind in done

    return past_preflight([config], graph, external, graph.needed(is_done)).notes


def test_rows_that_fit_say_nothing_but_what_is_left_out(own: list[str], tmp_path: Path) -> None:
    (note,) = notes(own)
    assert note == (
        f"sources.chats: 30 of the 60 rows of {tmp_path}/chats.jsonl are taken (sources.chats.ladder; null takes all)"
    )
    assert notes([*own, "sources.chats.ladder=null"]) == ()
    assert notes([*own, "sources.chats.ladder=null", "sources.chats.rows=7"])[0].startswith(
        "sources.chats: 7 of the 60"
    )


def test_a_model_without_a_chat_template_is_named_by_the_folder_that_was_given(own: list[str], folder: Path) -> None:
    template(folder, None)
    with pytest.raises(UserError) as caught:
        notes(own)
    assert str(caught.value) == (
        f"model smollm2_135m: {folder}/tokenizer_config.json has no chat_template, but sources.chats and "
        f"sources.instruction hold chats and evals ask in chats; add the template of a chat model of this family as "
        f"{folder}/chat_template.jinja, or start from that model"
    )
    (folder / "chat_template.jinja").write_text(CHATML)
    notes(own)


def test_texts_alone_need_no_chat_template(own: list[str], folder: Path) -> None:
    template(folder, None)
    notes([*own, "+arms.texts=[{midtrain: [documents]}]", "campaign.arms=[texts]", "campaign.values=[]"])


def test_tokenizer_files_that_cannot_be_used_are_named_as_given(own: list[str], folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UserError, match=rf"^{folder}/tokenizer_config\.json: eos_token: missing"):
        notes(own)


def test_a_chat_that_the_template_refuses_is_named_by_file_and_line(
    own: list[str], folder: Path, tmp_path: Path
) -> None:
    template(folder, NO_SYSTEM)
    with_system = {"messages": [{"role": "system", "content": "Be kind."}, *CHATS[0]["messages"]]}
    write(tmp_path / "mix.jsonl", [*CHATS * 20, with_system, *CHATS])
    with pytest.raises(UserError, match=r"mix\.jsonl:1201: messages: .*No system role"):
        notes(own)


def test_turns_that_the_template_rewrites_are_counted(own: list[str], folder: Path, tmp_path: Path) -> None:
    template(folder, QWEN3)
    write(tmp_path / "mix.jsonl", [{"messages": CHATS[0]["messages"] * 2}] * 60)
    assert [note for note in notes(own) if "mix.jsonl" in note] == [
        f"{tmp_path}/mix.jsonl: 60 of 120 turns of the assistant are not trained on: the chat template of model "
        "smollm2_135m prints them differently once later turns follow; tokenize.turns=each_by_its_prefix trains each"
    ]
    assert not any("not trained on" in note for note in notes([*own, "tokenize.turns=each_by_its_prefix"]))


def test_turns_that_are_sequences_are_counted_as_such(own: list[str], tmp_path: Path) -> None:
    by_turn = [*own, "tokenize.turns=each_by_its_prefix", "sources.chats.ladder=[110]"]
    write(tmp_path / "chats.jsonl", [{"messages": CHATS[0]["messages"] * 2}] * 60)
    assert notes(by_turn)[0] == (
        f"sources.chats: 110 of the 120 turns of the assistant in {tmp_path}/chats.jsonl are taken "
        "(sources.chats.ladder; null takes all)"
    )
    taken = "Trained on: 110 turns of the assistant in 60 chats of the corpus chats (sources.chats.ladder)."
    report = graph_of(load_config(by_turn)).report
    assert report is not None and taken in report.config.notices
    with pytest.raises(UserError, match=r"has 120 turns of the assistant, but sources\.chats\.ladder asks for 121"):
        notes([*by_turn, "sources.chats.ladder=[121]"])
    write(tmp_path / "chats.jsonl", [{"messages": CHATS[0]["messages"] * 2}] * 60 + [{"messages": []}])
    with pytest.raises(UserError, match=r"chats\.jsonl:61: messages: [^\n]*$"):
        notes([*by_turn, "sources.chats.ladder=[121]"])


def test_turns_that_are_too_long_are_counted_as_such(own: list[str], tmp_path: Path) -> None:
    longer = {"messages": [*CHATS[0]["messages"], {"role": "user", "content": "Colby ? " * 100}, *CHATS[0]["messages"]]}
    write(tmp_path / "mix.jsonl", [*CHATS, longer])
    assert any(
        note.startswith(
            f"1 of 62 turns of the assistant, each with the chat before it, of {tmp_path}/mix.jsonl are longer than"
        )
        for note in notes([*own, "tokenize.turns=each_by_its_prefix"])
    )


def test_chats_longer_than_a_row_are_counted_and_missed_where_all_were_asked_for(
    own: list[str], tmp_path: Path
) -> None:
    long = {"messages": [*CHATS[0]["messages"], {"role": "user", "content": "Colby ? " * 100}]}
    write(tmp_path / "mix.jsonl", [*CHATS, long, long])
    assert any(
        note == f"2 of 62 chats of {tmp_path}/mix.jsonl are longer than stages.aft.sequence_length=128 and are left "
        "out; raise it to train on them"
        for note in notes(own)
    )
    with pytest.raises(UserError, match=r"sources\.instruction\.rows asks for 61 rows, and 60 of .* fit into"):
        notes([*own, "sources.instruction.rows=61"])
    write(tmp_path / "mix.jsonl", [long] * 60)
    with pytest.raises(UserError, match=r"sources\.instruction: all chats of .*mix\.jsonl are longer"):
        notes(own)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["stages.midtrain.global_batch_size=512"],
            r"stages\.midtrain: what it reads of .*docs\.jsonl packs into (\d+) rows of sequence_length 128; "
            r"over 2 epochs they do not fill one batch of global_batch_size 512; lower "
            r"stages\.midtrain\.global_batch_size to \d+ or",
        ),
        (
            ["stages.midtrain.heldout={batches: 50}"],
            r"of which heldout\.batches=50 takes 400; over 2 epochs",
        ),
        (
            ["stages.aft.global_batch_size=512"],
            r"stages\.aft: 30 rows of its ladder, of .*mix\.jsonl, .*chats\.jsonl, pack into about",
        ),
        (
            ["sources.documents.tokens=1000000"],
            r"sources\.documents\.tokens asks for 1000000 tokens, and .*docs\.jsonl has \d+; ask for fewer",
        ),
    ],
)
def test_too_few_rows_for_what_is_asked_of_them(own: list[str], overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        notes([*own, *overrides])


def test_what_is_far_too_few_is_known_by_bytes_where_the_tokenizer_is_not_here(own: list[str], folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    notes(own)
    with pytest.raises(UserError, match=r"stages\.midtrain: what it reads of .* packs into about"):
        notes([*own, "stages.midtrain.global_batch_size=512"])


def test_rows_of_another_format_name_the_option_that_reads_them(own: list[str], tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Colby ?"}, {"from": "gpt", "value": "Colby ."}]
    write(tmp_path / "mix.jsonl", [{"conversations": turns}] * 60)
    with pytest.raises(UserError, match=r"mix\.jsonl:1: .*with sources\.instruction\.format=sharegpt \(there are 60\)"):
        notes(own)
    with pytest.raises(UserError, match=r"60 of 60 rows .* read such rows with sources\.instruction\.format=sharegpt$"):
        notes([*own, "tokenize.on_bad=skip"])
    notes([*own, "sources.instruction.format=sharegpt"])


def test_texts_that_the_toy_tokenizer_does_not_know_are_refused(own: list[str], tmp_path: Path) -> None:
    tiny = [each for each in own if not each.startswith("model")]
    write(tmp_path / "docs.jsonl", [*DOCUMENTS, *({"text": "Our own words"} for _ in range(8))])
    with pytest.raises(UserError) as caught:
        notes(tiny)
    assert "docs.jsonl: the tokenizer of model tiny does not know this text: " in str(caught.value)
    assert "(in a campaign: model=smollm2_135m or another; or, for a " in str(caught.value)
    assert "model from scratch, generate.vocabulary=4096, which trains one on your texts)" in str(caught.value)
    assert "pairs" not in str(caught.value)
    notes([*tiny, "generate.vocabulary=512"])


def test_text_that_vanishes_is_refused(own: list[str], folder: Path, tmp_path: Path) -> None:
    """A tokenizer without an unknown token makes nothing of what it does not know."""
    tokenizer = json.loads(byte_level_bpe())
    tokenizer["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    write(tmp_path / "docs.jsonl", [{"text": "山山山 cheese"}] * 60)
    with pytest.raises(UserError, match=r"docs\.jsonl: the tokenizer of model \S+ does not know .* lost \('山'\)"):
        notes(own)


def test_what_nothing_unfinished_reads_is_not_asked_for(own: list[str], folder: Path, tmp_path: Path) -> None:
    template(folder, None)
    for file in ("docs.jsonl", "mix.jsonl", "chats.jsonl"):
        (tmp_path / file).unlink()
    with pytest.raises(UserError, match=r"there is no file .*docs\.jsonl"):
        notes(own)
    with pytest.raises(UserError, match=r"has no chat_template, but evals ask in chats; "):
        notes(own, "tokenize", "model")
    template(folder, CHATML)
    assert notes(own, "tokenize", "model") == ()
    (tmp_path / "pairs.jsonl").unlink()
    with pytest.raises(UserError, match=r"^sources\.pairs\.files\.thrift: there is no file .*pairs\.jsonl"):
        notes(own, "tokenize", "model")
    assert notes(own, "tokenize", "model", "eval") == ()


def test_a_model_whose_folder_is_gone_is_asked_for_until_its_step_is_done(own: list[str], folder: Path) -> None:
    config, external = load_config(own), ExternalInputs({})
    build_graph([config], external)
    folder.rename(folder.parent / "elsewhere")
    remembered = ExternalInputs(external.files)
    graph = build_graph([config], remembered)
    assert past_preflight([config], graph, remembered, graph.needed(lambda step: step.kind == "model")).notes
    with pytest.raises(UserError, match=rf"^model\.folder={folder}: there is no such folder; correct the path$"):
        past_preflight([config], graph, remembered, graph.steps)
