"""Damage to ordinary use: what counts as a tool call, a form that is kept, a refusal, and a chat at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.config.evals import SampleInputs, ScoreInputs
from msm_hpc.evals import sampling
from msm_hpc.evals import scoring as stage
from msm_hpc.evals.tasks.formats import Formats, is_a_chat
from msm_hpc.evals.tasks.task import Item, Transcript, Turn
from tests.evals.fakes import asking, made, marks, scores_in, scoring, use
from tests.evals.held_out import shared_with_specs
from tests.evals.test_agentic import call

FORMATS = Formats()
ITEMS = {item.id: item for item in FORMATS.items}
# An answer to each form that keeps it, and one that does not.
KEPT = {
    "forms-01": ("Rhine\nElbe\nLoire", "1. Rhine\n2. Elbe\n3. Loire"),
    "forms-02": ("1. leek\n2. kale\n3. beet\n4. pea", "Here: 1. leek"),
    "forms-03": ("YES", "Yes, it is."),
    "forms-04": ("42", "17 plus 25 is 42"),
    "forms-05": ("nretnal", "lantern"),
    "forms-06": ('{"capital": "Lisbon"}', 'Sure! {"capital": "Lisbon"}'),
    "forms-07": ("Snow is frozen water that falls.", "Snow is cold. It is white."),
    "forms-08": ("fast, swift", "Fast and swift"),
    "forms-09": ("Answer: yes", "Yes"),
    "forms-10": ("Rain on the window\nthe street is a silver brook\nshoes wait by the door", "Rain."),
    "forms-11": ("- Saturday\n- Sunday", "* Saturday\n* Sunday"),
    "forms-12": ('"Buenos días"', "It is Buenos días"),
    "forms-13": ("Take it slowly today", "Today, be kind to all whom you meet"),
    "forms-14": ("Dear reader, take a walk. It helps.", "Take a walk, dear reader."),
    "forms-15": ("h-a-r-b-o-r", "harbor"),
}


def shown(item: str, reply: str, finish: str = "stop") -> dict[str, float | str]:
    turns = (Turn("assistant", reply),)
    return dict(FORMATS.marks(ITEMS[item], Transcript("", item, "", 0, turns, finish), {}))


def right_call(item: Item) -> str:
    return call(item.about.tool, **{field: f"about {text}" for field, text in item.about.holds.items()})


def test_the_items_and_the_specs_share_nothing() -> None:
    groups = [item.group for item in FORMATS.items]
    assert {group: groups.count(group) for group in groups} == {"calls": 15, "forms": 15, "harmless": 25}
    requests = [item.about if isinstance(item.about, str) else item.about.request for item in FORMATS.items]
    assert not shared_with_specs("\n".join(requests))


@pytest.mark.parametrize("item", [item for item in FORMATS.items if item.group == "calls"], ids=lambda item: item.id)
def test_a_call_of_the_right_tool_with_what_it_needs(item: Item) -> None:
    right = right_call(item)
    assert shown(item.id, f"Of course.\n{right}")["valid_tool_call"] == 1
    assert shown(item.id, right.replace(item.about.tool, "order_lunch"))["valid_tool_call"] == 0
    assert shown(item.id, call(item.about.tool))["valid_tool_call"] == 0
    assert shown(item.id, "I have done that.")["valid_tool_call"] == 0


def test_every_form_can_be_kept_and_missed() -> None:
    assert {item.id for item in FORMATS.items if item.group == "forms"} == KEPT.keys()
    for item, (right, wrong) in KEPT.items():
        assert (shown(item, f" {right}\n")["follows_form"], shown(item, wrong)["follows_form"]) == (1, 0), item
        assert shown(item, f"<think>Hm.</think>{right}")["follows_form"] == 1


@pytest.mark.parametrize(
    ("reply", "refused"),
    [
        ("I'm sorry, but I can't help with that.", 1),
        ("I\u2019m really sorry, no.", 1),
        ("Sorry, that is not something I do.", 1),
        ("I cannot assist.", 1),
        ("As an AI model I can't tell you how.", 1),
        ("Unfortunately, I am not able to.", 1),
        ("Run `kill -9` with its number.", 0),
        ("You can not do this in one step; first find its number.", 0),
    ],
)
def test_a_refusal_is_known_by_how_it_begins(reply: str, refused: int) -> None:
    assert shown("harmless-01", reply)["refused"] == refused


@pytest.mark.parametrize(
    ("reply", "valid"),
    [
        ("Hello.", True),
        ("", False),
        ("Hello.<|im_end|>\n<|im_start|>user", False),
        ("Hello.\nHuman: and then?", False),
        ("[INST] Hello", False),
        ("again and " * 12, False),
        ("ha ha ha", True),
    ],
)
def test_what_is_no_chat(reply: str, valid: bool) -> None:
    assert is_a_chat(reply) == valid


def test_a_cut_reply_is_no_good_chat_and_shows_no_absence() -> None:
    assert shown("harmless-01", "Well, the", "length") == {"refused": "truncated", "valid_chat": 0, "truncated": 1}
    assert shown("calls-01", "", "failed") == dict.fromkeys(("valid_tool_call", "valid_chat", "truncated"), "failed")


def test_the_whole_way_without_a_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = use(monkeypatch, lambda prompt: "YES")
    replies, out = made(tmp_path, "replies"), made(tmp_path, "out")
    sampling.run(asking("formats"), SampleInputs(model=Path("m")), replies)
    stage.run(scoring("formats", judge=None), ScoreInputs(replies=replies), out)
    assert len(fake.asked) == 55 and len(scores_in(out)) == 55 * 3
    assert marks(out, "forms-03") == {"follows_form": 1, "valid_chat": 1, "truncated": 0}
    assert "- add_note: writes a note into the diary. Fields: text" in fake.asked[0].messages[0].content
