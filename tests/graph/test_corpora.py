"""Where the rows of a campaign, and its tokenizer, come from."""

from __future__ import annotations

from collections.abc import Callable

from msm_hpc.graph.build import Graph

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
