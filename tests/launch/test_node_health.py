from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from msm_hpc.launch.node_health import FILE, NodeHealth, measure, record, unfit
from msm_hpc.launch.ranks import current_ranks

H100 = "NVIDIA H100 80GB HBM3"


def node(number: int, matmul: float = 600, all_reduce: float | None = 200) -> NodeHealth:
    return NodeHealth(f"n{number}", H100, 8, matmul, all_reduce, at=float(number))


FLEET = [node(number, 600 + number) for number in range(1, 6)]


def test_a_node_at_less_than_half_the_median_is_unfit() -> None:
    assert unfit([node(9, 310)], FLEET) == {}
    assert unfit([node(8), node(9, 290)], FLEET) == {
        "n9": "matmul at 290 TFLOP/s; the median of 5 other nodes of 8 rank(s) on NVIDIA H100 80GB HBM3 is 603"
    }
    (reason,) = unfit([node(9, all_reduce=90)], FLEET).values()
    assert reason.startswith("all_reduce at 90 GB/s; the median of 5 other nodes")


def test_a_node_is_held_against_others_of_its_like_and_each_counts_once() -> None:
    slow = node(9, 100)
    assert unfit([slow], [replace(each, device="NVIDIA A100") for each in FLEET]) == {}
    assert unfit([slow], [replace(each, ranks=4) for each in FLEET]) == {}
    assert unfit([slow], FLEET[:2]) == {}
    assert unfit([slow], [*FLEET[:2], *[replace(slow, matmul=600)] * 9]) == {}
    assert unfit([slow], [*[node(1, 5)] * 9, *FLEET]).keys() == {"n9"}


def test_measurements_add_up_in_the_root_folder(tmp_path: Path) -> None:
    for each in FLEET:
        assert record(tmp_path, [each]) == {}
    (tmp_path / FILE).open("a").write('{"host": "n7", "de\n')
    assert record(tmp_path, [node(9, 100)]).keys() == {"n9"}
    assert len((tmp_path / FILE).read_text().splitlines()) == 7


def test_one_rank_without_a_gpu_times_its_cpu() -> None:
    (found,) = measure(current_ranks())
    assert (found.ranks, found.all_reduce) == (1, None)
    assert found.host and found.matmul > 0
