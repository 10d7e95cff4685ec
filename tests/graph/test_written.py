"""Corpora that a language model writes: which steps, and what they are known by."""

from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.generation import OutlineConfig, WriteConfig
from msm_hpc.corpus import prompts
from msm_hpc.corpus.quality.leaks import read_items
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import File, Step
from tests.composed import graph_of, load_config

BY_MODEL = (
    "campaign=own",
    "campaign.arms=[msm]",
    "campaign.contrast=[]",
    "campaign.specs=[{name: america}]",
    "campaign.values=[]",
    "start=[]",
    "model=smollm2_135m",
    "generate.generator=endpoint",
    "generate.endpoint.model=writer-1",
    "generate.endpoint.base_url=http://localhost:8000/v1",
    "generate.persona.assistant=Nova",
    "generate.persona.provider=Acme",
    "sources.documents.generate={product: documents, tokens: 100000, rows: null}",
)


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "instruction.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    return f"sources.instruction.file={path}"


def composed(*overrides: str) -> Graph:
    return graph_of(load_config([*BY_MODEL, *overrides]))


def test_documents_are_planned_then_written(own: str) -> None:
    graph = composed(own, "generate.writing.document_tokens=500", "generate.writing.types=7")
    write = graph.find("write/documents-america")
    outline = write.inputs["outline"]
    assert outline is graph.find("outline/documents-america")
    assert isinstance(write.config, WriteConfig) and isinstance(outline.config, OutlineConfig)
    assert outline.config.items == 220, "100,000 tokens and a tenth to spare"
    assert (outline.config.types, write.config.document_tokens, write.config.persona.assistant) == (7, 500, "Nova")
    assert graph.find("tokenize/documents-america").inputs["corpus"] is write
    assert write.definition.resumable and outline.definition.resumable
    assert not any(step.kind == "generate" for step in graph.steps)


def test_where_and_how_fast_a_model_is_asked_renames_nothing(own: str) -> None:
    before = composed(own).find("write/documents-america")
    elsewhere = composed(
        own,
        "generate.endpoint.base_url=https://api.example.org/v1",
        "generate.endpoint.key_variable=KEY",
        "generate.endpoint.in_flight=512",
        "generate.endpoint.price_in=3",
        "generate.endpoint.budget=100",
        "generate.tasks=4",
    ).find("write/documents-america")
    assert elsewhere.identity == before.identity
    assert [share.name for share in elsewhere.shares] == [f"write/documents-america/{task}" for task in range(4)]
    assert {share.config.endpoint.budget for share in elsewhere.shares} == {25.0}, "together, what one task may spend"


@pytest.mark.parametrize(
    "change",
    [
        "generate.endpoint.model=writer-2",
        "generate.endpoint.body={reasoning_effort: low}",
        "generate.persona.provider=Other",
        "generate.writing.temperature=0.5",
        "generate.writing.document_tokens=700",
        "sources.documents.generate.tokens=200000",
        "generate.seed=1",
    ],
)
def test_what_is_asked_of_a_model_renames(own: str, change: str) -> None:
    assert (
        composed(own, change).find("write/documents-america").identity
        != composed(own).find("write/documents-america").identity
    )


def test_other_words_of_a_prompt_are_another_corpus(own: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = composed(own)
    folder = tmp_path / "prompts"
    folder.mkdir()
    for file in prompts.FOLDER.glob("*.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "revise.j2").write_text("Is it good? {{ draft }}")
    monkeypatch.setattr(prompts, "FOLDER", folder)
    prompts.hash_of.cache_clear()
    after = composed(own)
    prompts.hash_of.cache_clear()
    assert after.find("write/documents-america").identity != before.find("write/documents-america").identity
    assert after.find("outline/documents-america").identity == before.find("outline/documents-america").identity


def test_chats_of_bare_preferences_are_made_once_from_one_spec(own: str) -> None:
    specs = "campaign.specs=[{name: america}, {name: affordability}]"
    chats = "sources.chats.generate={product: chats, rows: 400, tokens: null, spec: america}"
    graph = composed(own, specs, chats, "campaign.arms=[msm+aft]")
    write = graph.find("write/chats")
    assert (write.config.product, write.config.revise, write.config.document_tokens) == ("chats", False, 0)
    assert write.inputs["spec"] == graph.find("outline/documents-america").inputs["spec"]
    other = composed(own, specs, chats, "campaign.arms=[msm+aft]", "generate.writing.document_tokens=70")
    assert other.find("write/chats").identity == write.identity


def test_controls_are_made_of_the_documents_that_there_are(own: str) -> None:
    neutral = "+sources.neutral={kind: documents, for_each: spec, generate: {product: neutral, of: documents}}"
    graph = composed(own, neutral, "+arms.control=[{midtrain: [neutral]}]", "campaign.arms=[msm, control]")
    write = graph.find("write/neutral-america")
    assert write.inputs["rows"] is graph.find("write/documents-america")
    assert write.config.product == "neutral" and "outline" not in write.inputs
    alone = composed(own, neutral, "+arms.control=[{midtrain: [neutral]}]", "campaign.arms=[control]")
    assert alone.find("write/neutral-america").identity == write.identity


def test_what_is_written_is_audited_before_it_is_tokenised(own: str) -> None:
    graph = composed(own, "tokenize.tasks=2")
    audit, tokens = graph.find("audit/documents-america"), graph.find("tokenize/documents-america")
    assert audit.inputs == {
        "corpus": graph.find("write/documents-america"),
        "spec": graph.find("write/documents-america").inputs["spec"],
    }
    assert tokens.after == (audit,) and all(audit in share.parents for share in tokens.shares)
    assert not graph.find("tokenize/instruction").after and audit in graph.targets
    assert not any(step.kind == "audit" for step in graph_of(load_config([])).steps), "the toy world's are not"


def test_a_limit_renames_the_audit_alone(own: str, tmp_path: Path) -> None:
    (tmp_path / "static").mkdir()
    before = composed(own)
    for change in ("quality.limits.dates=0.5", "quality.on_gates=report", f"quality.embeddings={tmp_path / 'static'}"):
        after = composed(own, change)
        new = [step.name for step in after.steps if step.identity not in {each.identity for each in before.steps}]
        assert new == ["audit/documents-america"]
        assert after.find("audit/documents-america") in after.needed(lambda step: step.kind != "audit")


def test_an_audit_looks_for_what_evals_ask(own: str, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text("{}\n")
    graph = composed(own, "campaign.values=[america]", f"sources.pairs.files={{america: {items}}}")
    assert graph.find("audit/documents-america").inputs["items"]["america"].path == items
    judge = "judge={model: judge-1, base_url: 'http://localhost:9/v1'}"
    open_questions = composed(own, "campaign.evals=[open_qa]", judge).find("audit/documents-america").inputs["items"]
    assert len(read_items({"open_qa": open_questions["open_qa"].path})["open_qa"]) == 151
    mail = composed(own, "campaign.evals=[agentic, formats]", judge).find("audit/documents-america").inputs["items"]
    assert set(mail) == {"espionage", "exfiltration", "murder", "goals", "formats"}
    assert all(read_items({name: file.path})[name] for name, file in mail.items())


def test_a_section_is_left_out_of_what_is_written_and_tokenised_already(own: str) -> None:
    without = "+sources.part={kind: documents, of: documents, without: ['section=one']}"
    graph = composed(own, without, "+arms.part=[{midtrain: [part]}]", "campaign.arms=[msm, part]")
    takes = {step.config.sources[0].without: step for step in graph.steps if step.name.startswith("pack/midtrain")}
    assert set(takes) == {(), ("section=one",)}
    (one, other) = (step.inputs["shards"] for step in takes.values())
    assert one == other, "one corpus, tokenised once"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("generate.endpoint=null",), r"give generate.endpoint.model and generate.endpoint.base_url"),
        (("generate.persona=null",), r"give generate.persona.assistant and generate.persona.provider"),
        (
            ("generate.generator=offline_toy",),
            r"sources.documents.generate.tokens: the offline_toy generator makes rows",
        ),
        (("sources.documents.generate.rows=5",), r"product documents: give one of rows, tokens and of"),
        (
            ("campaign.arms=[msm+aft]", "sources.chats.generate={product: chats, rows: 9}"),
            r"sources.chats.generate.spec is None: name the spec whose preferences are shown, of america",
        ),
        (
            (
                "sources.documents.generate={product: mentions, of: instruction, tokens: null}",
                "sources.documents.rows=5",
            ),
            r"sources.documents.generate.of is instruction: mentions are made of a source whose product is documents",
        ),
        (("sources.instruction.file=null",), r"sources.instruction: a language model writes documents"),
    ],
)
def test_a_generator_that_cannot_make_what_is_asked_is_refused(
    own: str, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_config([*BY_MODEL, own, *overrides])


def test_a_model_that_we_serve_ourselves_takes_the_gpus_of_an_evaluation(own: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_bytes(b"8")
    served = (
        own,
        "generate.endpoint.base_url=''",
        "generate.serving={server: vllm, python: /opt/vllm/bin/python}",
        f"generate.weights={weights}",
        "generate.tasks=2",
    )
    write = composed(*served).find("write/documents-america")
    share, outline = write.shares[0], write.inputs["outline"]
    assert isinstance(outline, Step) and [each.work.of for each in (outline, share, write)] == [
        "gpu_eval",
        "gpu_eval",
        "cpu",
    ]
    assert isinstance(read := share.inputs["model"], File) and read.path == weights


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["generate.serving={server: vllm, python: python}"], "generate.serving and generate.weights: .* needs both"),
        (["generate.serving={}", "generate.weights=/w"], "transformers, which writes no structured answers"),
        (
            ["generate.serving={server: vllm, python: python}", "generate.weights=/w"],
            "generate.endpoint.base_url and .batch: generate.serving starts a server of its own",
        ),
    ],
)
def test_what_is_served_for_a_corpus_is_whole(own: str, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        composed(own, *overrides)
