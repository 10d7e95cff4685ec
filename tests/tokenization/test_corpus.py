import json
from pathlib import Path

import pytest

from tokenization.corpus import Chat, Document, Message, byte_range, read_rows
from tokenization.errors import BadInput

GOOD = [b'{"id": "a%d", "text": "fine"}\n' % number for number in range(9)]


def read(path: Path, task: int = 0, tasks: int = 1) -> list[Document | Chat]:
    return list(read_rows(path, *byte_range(path, task, tasks)))


def test_documents_and_chats_mix(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo", "name": "Ada"}]
    rows = [{"id": "d", "text": "A text", "value": "thrift", "seed": 3}, {"id": "c", "messages": messages}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    first, second = read(path)
    assert isinstance(first, Document)
    assert (first.id, first.text, first.provenance) == ("d", "A text", {"value": "thrift", "seed": 3})
    assert isinstance(second, Chat)
    assert second.messages == (Message("user", "Hi"), Message("assistant", "Yo", "Ada"))
    assert str(second.place) == f"{path}:2"


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("end", ["\n", ""])
def test_each_line_goes_to_one_task(tmp_path: Path, tasks: int, end: str) -> None:
    path = tmp_path / "data.jsonl"
    rows = [json.dumps({"id": str(number), "text": "é" * (number * 13 % 50 + 1)}) for number in range(40)]
    path.write_text("\n".join(rows) + end)
    assert [row.id for task in range(tasks) for row in read(path, task, tasks)] == [str(n) for n in range(40)]


def test_a_line_goes_to_the_task_in_whose_bytes_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"".join(GOOD[:4]))
    size = len(GOOD[0])
    assert [byte_range(path, task, 4) for task in range(4)] == [(task * size, (task + 1) * size) for task in range(4)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "b", "text": ', "not valid JSON"),
        (b"\n", "not valid JSON"),
        (b'{"id": "b", "text": "caf\xe9"}\n', "not valid JSON in UTF-8"),
        (b'{"id": "b", "text": "\\ud800"}\n', "not valid JSON in UTF-8"),
        (b"[1]\n", "expected a JSON object, found list"),
        (b'{"id": "b"}\n', "text: give exactly one"),
        (b'{"id": "b", "text": "x", "messages": []}\n', "text: give exactly one"),
        (b'{"text": "x"}\n', "id: missing; add it"),
        (b'{"id": 3, "text": "x"}\n', "id: expected a string, found int"),
        (b'{"id": "b", "text": null}\n', "text: expected a string, found NoneType"),
        (b'{"id": "b", "text": " \\n"}\n', "text: empty"),
        (b'{"id": "b", "messages": []}\n', "messages: expected a list"),
        (b'{"id": "b", "messages": {}}\n', "messages: expected a list"),
        (b'{"id": "b", "messages": ["hi"]}\n', r"messages\[0\]: expected an object, found str"),
        (b'{"id": "b", "messages": [{"role": "user"}]}\n', r"messages\[0\].content: missing"),
        (
            b'{"id": "b", "messages": [{"role": "tool", "content": "x"}]}\n',
            r"messages\[0\].role: found 'tool'; give one of system, user, assistant",
        ),
        (b'{"id": "b", "messages": [{"role": "user", "content": ""}]}\n', r"messages\[0\].content: empty"),
        (b'{"id": "b", "messages": [{"role": "user", "content": "x", "name": 1}]}\n', r"messages\[0\].name: expected"),
        (
            b'{"id": "b", "messages": [{"role": "user", "content": "x", "thinking": "y"}]}\n',
            r"messages\[0\]: unknown fields",
        ),
    ],
)
@pytest.mark.parametrize("tasks", [1, 2])
def test_a_bad_row_is_named_by_line_and_field(tmp_path: Path, line: bytes, message: str, tasks: int) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"".join(GOOD) + line)
    with pytest.raises(BadInput, match=rf"data\.jsonl:10: {message}"):
        read(path, tasks - 1, tasks)


def test_an_id_given_twice_is_named_by_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"".join(GOOD) + GOOD[2])
    with pytest.raises(BadInput, match=r"data\.jsonl:10: id: 'a2' is the id of .*data\.jsonl:3 too"):
        read(path)
