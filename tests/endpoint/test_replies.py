from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from msm_hpc.endpoint import Reject, Reply, Spent, spent
from msm_hpc.endpoint import offsets as offsets_module
from msm_hpc.endpoint.offsets import Offsets
from msm_hpc.endpoint.replies import Replies


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def reply(number: int) -> Reply:
    return Reply(f"text {number}\nand a line", "stop", "m", 10, number)


def write(folder: Path, numbers: range) -> None:
    async def main() -> None:
        replies, arrived = Replies(folder), list[int]()
        writer = asyncio.create_task(replies.write())
        for number in numbers:
            result = reply(number) if number % 3 else Reject("refused", "no")
            replies.add(key(number), result, {"m": Spent(number)}, lambda number=number: arrived.append(number))
        assert replies.find(key(numbers[-1])) is not None and not arrived
        await replies.written()
        assert arrived == list(numbers)
        replies.finish()
        await writer
        replies.close({"m": Spent(numbers[-1])})

    asyncio.run(main())


def found(folder: Path, numbers: range) -> list[int]:
    async def main() -> list[int]:
        replies = Replies(folder)
        here = [number for number in numbers if replies.find(key(number)) is not None]
        assert len(replies) == len(here)
        for number in here:
            assert replies.find(key(number)) == (reply(number) if number % 3 else Reject("refused", "no"))
        replies.close(replies.spent)
        return here

    return asyncio.run(main())


def test_replies_are_found_by_the_next_process(tmp_path: Path) -> None:
    write(tmp_path, range(50))
    write(tmp_path, range(50, 70))
    assert found(tmp_path, range(100)) == list(range(70))
    assert spent(tmp_path) == {"m": Spent(69)}


@pytest.mark.parametrize("torn", [1, 40, 150])
def test_a_torn_line_is_cut_off(tmp_path: Path, torn: int) -> None:
    write(tmp_path, range(10))
    path = tmp_path / "replies.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-torn])
    assert spent(tmp_path) == {"m": Spent(8)}
    assert found(tmp_path, range(10)) == list(range(9))
    assert whole.startswith(path.read_bytes())
    write(tmp_path, range(9, 12))
    assert found(tmp_path, range(20)) == list(range(12))


def test_damage_costs_no_more_than_what_is_damaged(tmp_path: Path) -> None:
    write(tmp_path, range(10))
    path = tmp_path / "replies.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = b"\0" * (len(lines[4]) - 1) + b"\n"
    lines[6] = lines[6][:20] + b"\0" * 30 + lines[6][50:]
    path.write_bytes(b"".join(lines) + b"\0" * 5000)
    assert found(tmp_path, range(10)) == [0, 1, 2, 3, 5, 7, 8, 9]
    assert spent(tmp_path) == {"m": Spent(9)}


def test_what_is_answered_again_after_damage_is_found(tmp_path: Path) -> None:
    write(tmp_path, range(5))
    path = tmp_path / "replies.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"text":"', b'"text"!"')
    path.write_bytes(b"".join(lines))
    write(tmp_path, range(2, 3))

    async def main() -> None:
        replies = Replies(tmp_path)
        assert replies.find(key(2)) == reply(2)
        replies.close(replies.spent)

    asyncio.run(main())


def test_a_long_last_line_has_the_account(tmp_path: Path) -> None:
    async def main() -> None:
        replies = Replies(tmp_path)
        writer = asyncio.create_task(replies.write())
        replies.add(key(1), Reply("long " * 50_000, "stop", "m", 1, 1), {"m": Spent(7)}, lambda: None)
        replies.finish()
        await writer
        replies.close({"m": Spent(7)})

    asyncio.run(main())
    assert spent(tmp_path) == {"m": Spent(7)} and spent(tmp_path / "elsewhere") == {}


def test_offsets_of_many_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets_module, "RECENT", 100)
    keys = [key(number) for number in range(1000)]
    keys[500] = keys[500][:28] + "0000" + keys[500][32:]  # numpy strips such zeros
    keys[7] = "00" * 32
    offsets = Offsets(b"".join(bytes.fromhex(each[:32]) for each in keys[:300]), list(range(300)))
    for number in range(300, 1000):
        offsets.add(keys[number], number)
    assert len(offsets) == 1000
    assert [offsets.get(each) for each in keys] == list(range(1000))
    assert all(offsets.get(key(number)) is None for number in range(2000, 2100))
