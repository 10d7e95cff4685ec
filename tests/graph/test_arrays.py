from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from msm_hpc.config.cluster import Resources, WorkClasses
from msm_hpc.config.stages import ExportConfig
from msm_hpc.graph.arrays import Dependency, plan_arrays
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step, start_of

GraphOf = Callable[..., Graph]


def export(label: str, **inputs: Step) -> Step:
    return Step("export", label, ExportConfig(dtype="float32"), inputs)


def source(label: str) -> Step:
    """A step without inputs, told apart by what it would read."""
    return Step("eval", label, _Named(label), {})


class _Named(str):
    """A config that is nothing but a name."""


def test_elements_follow_elements_where_arrays_lie_side_by_side() -> None:
    a, b = source("a"), source("b")
    arrays = plan_arrays([a, b, export("a", model=a), export("b", model=b)], max_array_size=100)
    assert [len(array.steps) for array in arrays] == [2, 2]
    assert arrays[1].dependencies == (Dependency("aftercorr", 0),)


def test_an_array_is_laid_in_its_parents_order() -> None:
    a, b = source("a"), source("b")
    arrays = plan_arrays([a, b, export("b", model=b), export("a", model=a)], max_array_size=100)
    assert [step.label for step in arrays[1].steps] == ["a", "b"]
    assert arrays[1].dependencies == (Dependency("aftercorr", 0),)


def test_a_join_waits_for_just_what_it_reads() -> None:
    a, b, c = source("a"), source("b"), source("c")
    arrays = plan_arrays([a, b, c, export("join", one=a, two=c)], max_array_size=100)
    assert arrays[1].dependencies == (Dependency("afterok", 0, (0, 2)),)


def test_elements_that_read_different_things_start_and_look_for_themselves() -> None:
    a, b, c = source("a"), source("b"), source("c")
    arrays = plan_arrays([a, b, c, export("one", one=a, two=b), export("two", one=c)], max_array_size=100)
    assert arrays[1].dependencies == (Dependency("afterany", 0),)


def test_finished_inputs_are_not_waited_for() -> None:
    a, b = source("a"), source("b")
    arrays = plan_arrays([b, export("a", model=a), export("b", model=b)], max_array_size=100)
    waits = {array.shape.name: array.dependencies for array in arrays}
    assert waits == {"eval/b": (), "export/a": (), "export/b": (Dependency("afterok", 0),)}


def test_arrays_split_at_the_sites_limit_and_still_correspond() -> None:
    parents = [source(str(i)) for i in range(7)]
    children = [export(str(i), model=parent) for i, parent in enumerate(parents)]
    arrays = plan_arrays([*parents, *children], max_array_size=3)
    assert [len(array.steps) for array in arrays] == [3, 3, 1, 3, 3, 1]
    assert [array.dependencies for array in arrays[3:]] == [
        (Dependency("aftercorr", 0),),
        (Dependency("aftercorr", 1),),
        (Dependency("afterok", 2),),
    ]


def test_the_demo_runs_from_midtraining_to_evaluation_element_by_element(graph: GraphOf) -> None:
    arrays = plan_arrays(graph().steps, max_array_size=1001)
    rules = {(array.name, dependency.rule) for array in arrays for dependency in array.dependencies}
    for name in ("aft-2", "aft-3", "export-2", "export-3", "export-4", "eval-2", "eval-3", "eval-4"):
        assert (name, "aftercorr") in rules
    assert {rule for name, rule in rules if name == "report"} == {"afterany"}
    assert sum(len(array.steps) for array in arrays) == len(graph().steps)


def test_every_step_waits_for_each_of_its_inputs(graph: GraphOf) -> None:
    arrays = plan_arrays(graph("tokenize.tasks=3", "sources.chats.ladder=[100,200]").steps, max_array_size=4)
    place = {step.identity: (n, i) for n, array in enumerate(arrays) for i, step in enumerate(array.steps)}
    for array in arrays:
        for element, step in enumerate(array.steps):
            for parent in step.parents:
                number, index = place[parent.identity]
                (waits,) = (dependency for dependency in array.dependencies if dependency.array == number)
                if waits.rule == "aftercorr":
                    assert index == element
                else:
                    assert waits.elements is None or index in waits.elements


def test_steps_of_other_resources_are_other_arrays(graph: GraphOf) -> None:
    aft = next(step for step in graph().steps if step.stage == "aft")
    start = replace(start_of(aft), config=replace(start_of(aft).config, name="other"))
    other = replace(aft, inputs={**aft.inputs, "model": start})
    longer = WorkClasses(of_stage={"aft": {"time_minutes": 600}}, of_model={"big": {"aft": {"time_minutes": 900}}})
    assert len(plan_arrays([aft, other], 1001, longer)) == 1
    longer = WorkClasses(of_model={"other": {"gpu_train": {"time_minutes": 600}}})
    assert (longer.of(aft.work), longer.of(other.work)) == (Resources(), Resources(time_minutes=600))
    assert len(plan_arrays([aft, other], 1001, longer)) == 2
