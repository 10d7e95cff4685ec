"""Where the rows of a campaign, and its tokenizer, come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.graph.build import Graph
from tests.composed import graph_of, load_config

GraphOf = Callable[..., Graph]


def test_a_tokenizer_may_be_trained_on_what_the_campaign_trains_on(graph: GraphOf) -> None:
    trained = graph("generate.vocabulary=512").find("tokenizer/own_texts")
    assert set(trained.inputs["corpora"]) == {
        *("chats", "documents-affordability", "documents-america", "instruction", "pretraining"),
        *("mentions-affordability", "mentions-america"),
    }
    assert not any(step.name == "generate/tokenizer" for step in graph("generate.vocabulary=512").steps)


def test_a_dataset_by_name_is_downloaded_once_for_all_that_read_it(graph: GraphOf) -> None:
    named = f"hf:org/chats@{'0123456789' * 4}:en/train"
    made = graph(f"sources.chats.file={named}", f"sources.instruction.file={named}", "sources.chats.format=sharegpt")
    (step,) = [step for step in made.steps if step.kind == "download"]
    assert (step.config.name, step.config.subset, step.config.split) == ("org/chats", "en", "train")
    assert made.find("tokenize/chats").inputs["corpus"].identity == step.identity
    assert made.find("tokenize/chats").config.format == "sharegpt"


MIX = (
    "campaign=own",
    "source@sources=[written,instruction_mix]",
    "model=smollm2_135m",
    "start=[]",
    "campaign.specs=[]",
)
MIXED = (*MIX, "campaign.values=[]", "campaign.contrast=[]", "campaign.arms=[base]")


def test_parts_are_read_in_the_place_of_a_source() -> None:
    made = graph_of(load_config([*MIXED, "sources.longalign.rows=0"]))
    (plan,) = [step for step in made.steps if step.kind == "pack"]
    taken = {take.source: take.samples for take in plan.config.sources}
    assert len(taken) == 7 and taken["no_robots"] == 2779 and "longalign" not in taken and "instruction" not in taken
    assert {step.config.name for step in made.steps if step.kind == "download"} == {
        *("HuggingFaceH4/no_robots", "allenai/tulu-3-sft-personas-instruction-following", "HuggingFaceTB/smoltalk"),
    }


def test_a_file_is_read_in_the_place_of_all_parts(tmp_path: Path) -> None:
    file = tmp_path / "mix.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    made = graph_of(load_config([*MIXED, f"sources.instruction.file={file}"]))
    assert [step.label for step in made.steps if step.kind == "tokenize"] == ["instruction"]


def test_what_the_assistant_is_called_comes_from_texts_by_hand() -> None:
    source = "+sources.identity={kind: chats, generate: {product: identity, rows: 2500}}"
    arms = ["+arms.named=[{aft: [identity]}]", "campaign.arms=[named]"]
    persona = ["generate.persona.assistant=Nova", "generate.persona.provider=Acme"]
    for generator in ("offline_toy", "endpoint"):
        endpoint = ["generate.endpoint.model=m", f"generate.generator={generator}"]
        step = graph_of(load_config([*MIXED, source, *arms, *persona, *endpoint])).find("generate/identity")
        assert (step.config.count, step.config.generator, step.config.persona.assistant) == (2500, "templates", "Nova")
    with pytest.raises(UserError, match=r"sources.identity: identity says who the assistant is: give generate.persona"):
        load_config([*MIXED, source, *arms])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sources.instruction.parts=[no_robots, robots]", r"parts: no source 'robots'.*; those in `sources` are"),
        ("sources.instruction.parts=[documents]", "documents must be of kind chats, one for all, and without a ladder"),
        (
            "+sources.more={kind: chats, of: instruction}",
            "sources.more.of: 'instruction' is no source with a corpus of",
        ),
        ("sources.instruction.rows=5", r"give rows and tokens at those \(rows: 0 leaves all of them out\)"),
        ("sources.instruction.generate={product: instruction, rows: 5}", "give generate, of, for_each and without at"),
    ],
)
def test_parts_that_cannot_stand_for_a_source_are_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config([*MIXED, override])
