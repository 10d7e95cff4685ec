from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from msm_hpc.config.cluster import Resources, WorkClasses
from msm_hpc.config.stages import EvalConfig, ExportConfig
from msm_hpc.graph import arrays as module
from msm_hpc.graph.arrays import Array, Dependency
from msm_hpc.graph.build import Graph
from msm_hpc.graph.bundles import Bundle, plan_bundles
from msm_hpc.graph.steps import Step

GraphOf = Callable[..., Graph]


def plan_arrays(steps: Sequence[Step], max_array_size: int) -> tuple[Array, ...]:
    """Arrays for steps, each of which is a job of its own."""
    return module.plan_arrays([Bundle(((step,),)) for step in steps], max_array_size)


def export(label: str, **inputs: Step) -> Step:
    return Step("export", label, ExportConfig(dtype="float32"), inputs)


def evaluation(one: Step, two: Step) -> Step:
    return Step("eval", one.label, EvalConfig(), {"one": one, "two": two})


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


def test_elements_of_which_several_read_the_same_are_one_array_and_say_what_each_waits_for() -> None:
    a, b, c = source("a"), source("b"), source("c")
    readers = [export(f"{number} of {each.label}", model=each) for number in (1, 2) for each in (a, b, c)]
    *_, array = plan_arrays([a, b, c, *readers], max_array_size=100)
    assert array.dependencies == (Dependency("afterany", 0),)
    assert array.waits == tuple(
        (step.inputs["model"].id,) for step in array.steps if isinstance(step.inputs["model"], Step)
    )


def test_where_slurm_is_told_just_that_nothing_more_is_said(graph: GraphOf) -> None:
    for array in plan_arrays(graph().steps, max_array_size=1001):
        told = {each.rule for each in array.dependencies} <= {"afterok", "aftercorr"}
        assert bool(array.waits) == (not told and len(array.bundles) > 1)


def test_a_kind_and_shape_is_as_few_arrays_as_it_can_be(graph: GraphOf) -> None:
    arrays = plan_arrays(
        graph("campaign.seeds=[0,1,2,3]", "sources.chats.ladder=[100,200,300]").steps, max_array_size=1001
    )
    assert [array.name for array in arrays if array.shape.stage == "aft"] == ["aft", "aft-2"], (
        "from the base, and midtrained"
    )


def test_every_job_waits_for_each_of_its_inputs_if_only_by_another(graph: GraphOf) -> None:
    steps = graph("tokenize.tasks=3", "sources.chats.ladder=[100,200]").steps
    arrays = module.plan_arrays(plan_bundles(steps, lambda step: 1.0, 3.0), max_array_size=4)
    ended: list[list[set[str]]] = []
    """For each element of each array, the steps whose jobs have ended when it starts."""
    for array in arrays:
        ended.append([set() for _ in array.bundles])
        for element, bundle in enumerate(array.bundles):
            before = ended[-1][element]
            for waits in array.dependencies:
                everyone = range(len(arrays[waits.array].bundles))
                which = [element] if waits.rule == "aftercorr" else waits.elements or everyone
                for other in which:
                    before |= ended[waits.array][other] | {s.identity for s in arrays[waits.array].bundles[other].steps}
            assert {parent.identity for parent in bundle.parents} <= before
    assert {step.identity for array in arrays for step in array.steps} == {step.identity for step in steps}


def test_what_another_input_waits_for_is_not_waited_for_again() -> None:
    a, b = source("a"), source("b")
    middle = [export("a", model=a), export("b", model=b)]
    arrays = plan_arrays([a, b, *middle, evaluation(a, middle[0]), evaluation(b, middle[1])], max_array_size=100)
    assert [array.dependencies for array in arrays] == [
        (),
        (Dependency("aftercorr", 0),),
        (Dependency("aftercorr", 1),),
    ]


def test_jobs_of_other_resources_are_other_arrays(graph: GraphOf) -> None:
    aft = next(step for step in graph().steps if step.stage == "aft")
    start = replace(aft.start, config=replace(aft.start.config, name="other"))
    other = replace(aft, inputs={**aft.inputs, "model": start})
    bundles = [Bundle(((aft,),)), Bundle(((other,),))]
    longer = WorkClasses(of_stage={"aft": {"time_minutes": 600}}, of_model={"big": {"aft": {"time_minutes": 900}}})
    assert len(module.plan_arrays(bundles, 1001, longer)) == 1
    longer = WorkClasses(of_model={"other": {"gpu_train": {"time_minutes": 600}}})
    assert (longer.of(aft.work), longer.of(other.work)) == (Resources(), Resources(time_minutes=600))
    assert len(module.plan_arrays(bundles, 1001, longer)) == 2


def test_on_whole_nodes_as_many_as_fit_share_a_job(graph: GraphOf) -> None:
    steps = graph("tokenize.tasks=3", "sources.chats.ladder=[100,200]").steps
    chains = plan_bundles(steps, lambda step: 1.0, 1.0)
    shared = module.side_by_side(chains, lambda step: 4 // step.ranks, lambda bundle: len(bundle.steps))
    assert {lane for each in shared for lane in each.lanes} == {each.steps for each in chains}
    assert max(len(each.lanes) for each in shared) == 4 and len(shared) < len(chains) / 2
    made: set[str] = set()
    for each in shared:
        for lane in each.lanes:
            own = {step.identity for step in lane}
            assert {parent.identity for step in lane for parent in step.parents} <= made | own, "no lane reads another"
        assert {parent.identity for parent in each.parents} <= made
        made |= {step.identity for step in each.steps}


def test_what_takes_about_as_long_shares_a_node() -> None:
    chains = [Bundle(((source(str(minutes)),),)) for minutes in (60, 5, 50, 4)]
    shared = module.side_by_side(chains, lambda step: 2, lambda bundle: float(bundle.first.label))
    assert [[step.label for step in each.steps] for each in shared] == [["4", "5"], ["50", "60"]]


def test_a_step_that_fills_a_node_has_it_alone() -> None:
    chains = [Bundle(((source(str(number)),),)) for number in range(3)]
    assert [len(each.lanes) for each in module.side_by_side(chains, lambda step: 1, lambda bundle: 0.0)] == [1, 1, 1]


def test_lanes_that_follow_lanes_start_element_by_element() -> None:
    parents = [source(str(number)) for number in range(4)]
    chains = [Bundle(((step,),)) for step in (*parents, *(export(each.label, model=each) for each in parents))]
    arrays = module.plan_arrays(module.side_by_side(chains, lambda step: 2, lambda bundle: 0.0), max_array_size=100)
    assert [len(array.bundles) for array in arrays] == [2, 2]
    assert arrays[1].dependencies == (Dependency("aftercorr", 0),)
