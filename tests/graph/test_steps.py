from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from msm_hpc.config.arms import KINDS_OF_STEP
from msm_hpc.config.schema import PLACEMENT
from msm_hpc.config.stages import ExportConfig
from msm_hpc.config.training import Layout, TrainConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.kinds import KINDS
from msm_hpc.graph.steps import File, Step, default_of, result_fields, topological
from tokenization.packing.pack import PackConfig
from tokenization.packing.selection import Take

GOLDEN = Path(__file__).parent / "golden" / "identities.json"


def step(**changes: object) -> Step:
    return Step("train", "x", replace(TrainConfig(), **changes), {})


@pytest.mark.parametrize(
    "changes",
    [
        {"layout": Layout(tensor_parallel=2, pipeline_parallel=2)},
        {"micro_batch_size": 2},
        {"save_every": 7},
        {"log_every": 7},
    ],
)
def test_placement_is_no_part_of_the_identity(changes: dict[str, object]) -> None:
    assert step(**changes).identity == step().identity


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "fp32"},
        {"seed": 1},
        {"global_batch_size": 32},
        {"sequence_length": 4096},
        {"learning_rate": 2e-4},
    ],
)
def test_what_decides_the_result_is_in_the_identity(changes: dict[str, object]) -> None:
    assert step(**changes).identity != step().identity


def test_the_label_is_no_part_of_the_identity_and_the_kind_is() -> None:
    assert replace(step(), label="y", recipe="erode").identity == step().identity
    assert replace(step(), kind="export").identity != step().identity


def test_an_input_counts_by_its_content_not_by_its_path() -> None:
    files = [File(Path(name), content) for name, content in (("a", "same"), ("b", "same"), ("c", "other"))]
    a, b, c = (Step("export", "x", ExportConfig(), {"model": file}) for file in files)
    assert a.identity == b.identity != c.identity


def test_several_inputs_count_by_their_names() -> None:
    def pack(**shards: Step) -> Step:
        return Step("pack", "x", PackConfig(sequence_length=8, sources=()), {"shards": shards})

    one, other = step(seed=0), step(seed=1)
    assert pack(a=one, b=other).identity == pack(b=other, a=one).identity != pack(a=other, b=one).identity
    assert pack(a=one, b=other).parents == (one, other)


def test_a_changed_input_changes_all_that_follows() -> None:
    def chain(seed: int) -> Step:
        return Step("export", "x", ExportConfig(), {"checkpoint": step(seed=seed)})

    assert chain(0).identity == chain(0).identity != chain(1).identity


def test_topological_order_has_inputs_first_and_each_identity_once(graph: Callable[..., Graph]) -> None:
    steps = graph().steps
    seen: set[str] = set()
    for one in steps:
        assert one.identity not in seen
        assert all(parent.identity in seen for parent in one.parents)
        seen.add(one.identity)
    assert topological((steps[-1], steps[-1])) == topological((steps[-1],))


@dataclass(frozen=True)
class Later(ExportConfig):
    """A config that has got one more option since."""

    compress: bool = False


def test_a_new_option_with_a_default_renames_nothing() -> None:
    before = Step("export", "x", ExportConfig(dtype="bfloat16"), {"checkpoint": step()})
    assert replace(before, config=Later(dtype="bfloat16")).identity == before.identity
    assert replace(before, config=Later(dtype="bfloat16", compress=True)).identity != before.identity


def test_a_step_is_known_by_the_whole_however_it_is_cut_into_shares(graph: Callable[..., Graph]) -> None:
    one, many = graph(), graph("tokenize.tasks=3")
    assert many.report.identity == one.report.identity
    whole = many.find("tokenize/chats")
    assert whole.identity == one.find("tokenize/chats").identity
    assert [share.name for share in whole.parents] == ["tokenize/chats/0", "tokenize/chats/1", "tokenize/chats/2"]
    assert len({whole.identity, *(share.identity for share in whole.shares)}) == 4


def test_what_is_done_or_what_nothing_unfinished_needs_is_not_made(graph: Callable[..., Graph]) -> None:
    made = graph("tokenize.tasks=2")
    assert made.needed(lambda step: False) == made.steps
    assert made.needed(lambda step: step.kind == "report") == ()
    needed = made.needed(lambda step: step.name in ("tokenize/chats", "pretrain/base"))
    names = {step.name for step in needed}
    assert "tokenize/chats/0" not in names and "generate/chats" not in names
    assert "tokenize/pretraining/0" in names, "midtraining replays it"


def test_adding_an_option_or_changing_a_default_is_a_decision() -> None:
    """What a kind's config is by default, and a few identities, as they were last accepted.

    A field that equals its default is no part of an identity. Whoever changes a default has to raise the kind's
    version, else finished steps would silently stand for other work than they did.
    """
    known = {
        name: {"version": kind.version, "defaults": {each.__name__: _defaults(each) for each in _schemas(kind.config)}}
        for name, kind in sorted(KINDS.items())
    }
    examples = {
        "train": step(learning_rate=5e-4, seed=1, layout=Layout(tensor_parallel=2)).id,
        "export": Step("export", "x", ExportConfig(), {"checkpoint": step()}).id,
        "pack": Step("pack", "x", PackConfig(sequence_length=64, sources=(Take(source="a", samples=2),)), {}).id,
    }
    text = json.dumps({"kinds": known, "identities": examples}, indent=2, sort_keys=True) + "\n"
    if os.environ.get("MSM_ACCEPT_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "a default or a rule of identity changed: see this test's docstring"


def _schemas(hint: Any) -> Iterator[type[Any]]:
    """The dataclasses in a type hint, and those in the hints of the fields of each."""
    for part in get_args(hint):
        yield from _schemas(part)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        yield hint
        for field in get_type_hints(hint, include_extras=False).values():
            yield from _schemas(field)


def _defaults(schema: type[Any]) -> dict[str, Any]:
    """The defaults of the fields that decide a result; "(required)" where there is none."""
    found = {}
    for item in fields(schema):
        default = default_of(item)
        if PLACEMENT not in item.metadata:
            found[item.name] = "(required)" if default is MISSING else result_fields(default, with_defaults=True)
    return found


def test_no_stage_has_the_name_of_a_kind() -> None:
    assert KINDS.keys() == KINDS_OF_STEP
