import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msm_hpc.base.errors import UserError
from tokenization.reading.parse import parse_row
from tokenization.reading.rows import BadRow, ChatRow, DocumentRow, Message, Row, RowPlace

PLACE = RowPlace("data.jsonl", 7)
TOOL_CALL = {"type": "function", "function": {"name": "price", "arguments": {"of": "Brie", "at": 10**30}}}


def parse(row: Any) -> Row:
    return parse_row(row if isinstance(row, bytes) else json.dumps(row).encode(), PLACE, "data.jsonl:300")


def chat(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "c", "messages": list(messages), **fields}


def test_a_document() -> None:
    row = parse({"id": "d", "text": "A café 😀", "value": "thrift", "meta": {"year": 1999, "of": None}})
    assert row == DocumentRow("d", "A café 😀", row.provenance, PLACE)
    assert orjson.loads(row.provenance) == {"value": "thrift", "meta": {"year": 1999, "of": None}}


def test_a_chat_with_a_tool() -> None:
    tools = [{"type": "function", "function": {"name": "price"}}]
    row = parse(
        chat(
            {"role": "system", "content": "Sell."},
            {"role": "user", "content": "How much?", "name": "Ada"},
            {"role": "assistant", "tool_calls": [TOOL_CALL], "reasoning_content": "Look."},
            {"role": "tool", "content": "", "tool_call_id": "1"},
            {"role": "assistant", "content": "Free."},
            tools=tools,
            seed=3,
        )
    )
    assert isinstance(row, ChatRow)
    assert (row.id, row.tools, row.provenance, row.place) == ("c", tools, b'{"seed":3}', PLACE)
    assert row.messages == [
        Message("system", "Sell."),
        Message("user", "How much?", name="Ada"),
        Message("assistant", tool_calls=[TOOL_CALL], reasoning_content="Look."),
        Message("tool", "", tool_call_id="1"),
        Message("assistant", "Free."),
    ]


def test_null_is_the_same_as_not_given() -> None:
    nulls = {"name": None, "tool_calls": None, "score": None}
    called = parse(chat({"role": "assistant", "content": None, **nulls, "tool_calls": [TOOL_CALL]}, text=None, id=None))
    assert isinstance(called, ChatRow)
    assert (called.id, called.messages) == ("data.jsonl:300", [Message("assistant", tool_calls=[TOOL_CALL])])
    assert isinstance(parse({"text": "a", "messages": None}), DocumentRow)


@pytest.mark.parametrize("content", ["Look.", None, [{"type": "text", "text": "Look."}]])
def test_a_null_in_the_call_of_a_tool_stays(content: Any) -> None:
    call = {"function": {"name": "find", "arguments": {"where": None}}}
    called = parse(chat({"role": "assistant", "content": content, "tool_calls": [call]}))
    assert isinstance(called, ChatRow)
    assert called.messages[0].tool_calls == [call]


@pytest.mark.parametrize(("given", "found"), [("a", "a"), (12, "12"), (None, "data.jsonl:300")])
def test_id(given: object, found: str) -> None:
    assert parse({"id": given, "text": "x"}).id == found


def test_provenance_is_kept_as_it_is_written() -> None:
    row = parse(b'{"text": "x", "n": 123456789012345678901234567890, "f": 1.50, "s": "\\u00e9"}')
    assert row.provenance == b'{"n":123456789012345678901234567890,"f":1.50,"s":"\\u00e9"}'


def test_nul_is_a_character_and_the_last_of_two_equal_keys_counts() -> None:
    row = parse(b'{"text": "first", "text": "a\\u0000b", "n": 1, "n": 2}')
    assert isinstance(row, DocumentRow)
    assert (row.text, row.provenance) == ("a\0b", b'{"n":2}')


@pytest.mark.parametrize(
    ("line", "reason", "message"),
    [
        (b'{"text": ', "json", "not valid JSON"),
        (b"", "json", "no blank lines"),
        (b'{"text": "x"} {"text": "y"}', "json", "not valid JSON"),
        (b'{"text": "x", "n": NaN}', "json", "not valid JSON"),
        (b'{"text": "x", "n": 1e999}', "json", "not valid JSON"),
        (b'{"messages": [{"role": "tool", "tool_calls": [{"n": 1e999}]}]}', "json", "not valid JSON"),
        (b'{"text": "x", "n": ' + b"[" * 5000 + b"]" * 5000 + b"}", "json", "not valid JSON"),
        (b'{"text": "caf\xe9"}', "encoding", "byte 14: not UTF-8"),
        (b'{"text": "x", "by": "\xff"}', "encoding", "byte 22: not UTF-8"),
        (b'{"text": "x", "\xff": 1}', "encoding", "byte 16: not UTF-8"),
        (b'{"text": "\xed\xa0\x80"}', "encoding", "byte 11: not UTF-8"),
        (b'{"text": "\\ud800"}', "encoding", "half of a surrogate pair"),
        (b'{"text": "x", "by": "\\udc00 and more"}', "encoding", "half of a surrogate pair"),
        (b'{"text": "x", "\\ud800": 1}', "encoding", "half of a surrogate pair"),
        (b'{"messages": [{"role": "user", "content": "\\ud800\\n"}]}', "encoding", "half of a surrogate pair"),
        (b"[1]", "type", "expected a JSON object, found list"),
        (b"null", "type", "expected a JSON object, found NoneType"),
        (b'{"id": "b", "prompt": "x"}', "field", r"text: give text .* there is only prompt"),
        (b'{"text": null}', "field", "there is nothing else, and null counts as nothing"),
        (b'{"messages": null, "prompt": 1}', "field", "there is only prompt"),
        (b'{"text": "x", "messages": []}', "field", "both are there"),
        (b'{"id": [], "text": "x"}', "type", "id: expected"),
        (b'{"id": "", "text": "x"}', "empty", "id: empty"),
        (b'{"text": 3}', "type", "text: expected"),
        (b'{"text": ""}', "empty", "text: empty"),
        (b'{"text": " \\n\\u3000"}', "empty", "text: empty"),
    ],
)
def test_a_bad_line_is_named_by_place_and_reason(line: bytes, reason: str, message: str) -> None:
    with pytest.raises(BadRow, match=message) as caught:
        parse_row(line, RowPlace("t.parquet", 7, unit="row"), "x")
    assert caught.value.reason == reason
    assert str(caught.value).startswith("t.parquet:row 7: ")
    assert isinstance(caught.value, UserError)


@pytest.mark.parametrize(
    ("messages", "reason", "message"),
    [
        ([], "empty", "messages: empty"),
        ({}, "type", "messages: expected `array"),
        (["hi"], "type", r"messages\[0\]: expected `object`"),
        (
            [{"role": "user", "content": "a"}, {"content": "x"}],
            "field",
            r"messages\[1\]: .*missing required field `role`",
        ),
        ([{"role": "human", "content": "x"}], "field", r"messages\[0\].role: .*'human'; give one of system, user"),
        ([{"role": 1, "content": "x"}], "type", r"messages\[0\].role: expected `str`"),
        ([{"role": "user", "content": 3}], "type", r"messages\[0\].content: expected `str`, got `int`"),
        ([{"role": "user", "content": [{"type": "text"}]}], "type", r"messages\[0\].content\[0\]: expected a part"),
        ([{"role": "user"}], "empty", r"messages\[0\].content: missing or empty"),
        ([{"role": "user", "content": None}], "empty", r"messages\[0\].content: missing or empty"),
        ([{"role": "user", "content": " "}], "empty", r"messages\[0\].content: missing or empty"),
        ([{"role": "assistant", "tool_calls": []}], "empty", r"messages\[0\].content: missing or empty"),
        ([{"role": "assistant", "tool_calls": ["f"]}], "type", r"messages\[0\].tool_calls\[0\]: expected `object`"),
        ([{"role": "user", "content": "x", "name": 1}], "type", r"messages\[0\].name: expected"),
        (
            [{"role": "user", "content": "x", "by": 1}],
            "field",
            r"messages\[0\]: .*unknown field `by`; leave only role,",
        ),
    ],
)
def test_a_bad_message_is_named_by_its_field(messages: object, reason: str, message: str) -> None:
    with pytest.raises(BadRow, match=message) as caught:
        parse({"messages": messages})
    assert caught.value.reason == reason


def test_tools_must_be_a_list_of_objects() -> None:
    with pytest.raises(BadRow, match=r"tools: expected `array") as caught:
        parse(chat({"role": "user", "content": "x"}, tools="[]"))
    assert caught.value.reason == "type"


def test_a_place_counts_the_lines_before_it(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"one\ntwo\nthree\n")
    assert str(RowPlace(str(path), 1, since=8)) == f"{path}:3"
    assert str(RowPlace(str(path), 2)) == f"{path}:2"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text().filter(str.strip), st.dictionaries(st.text(), JSON, max_size=4), st.booleans())
def test_what_is_written_is_read(text: str, fields: dict[str, Any], ascii_only: bool) -> None:
    fields = {key: value for key, value in fields.items() if key not in ("id", "messages")} | {"text": text}
    row = parse(json.dumps(fields, ensure_ascii=ascii_only).encode())
    assert isinstance(row, DocumentRow)
    assert row.text == text
    assert {**json.loads(row.provenance), "text": text} == fields


@given(st.data())
def test_a_damaged_line_is_refused_or_means_what_json_says_it_means(data: st.DataObject) -> None:
    line = bytearray(
        b'{"id": "a", "text": "caf\xc3\xa9 \\ud83d\\ude00", "n": [1, {"k": "\xe5\xb1\xb1"}, -2.5e3], "m": null}'
    )
    for _ in range(data.draw(st.integers(1, 3))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    try:
        row = parse(bytes(line))
    except BadRow:
        return
    assert isinstance(row, DocumentRow)
    values = json.loads(bytes(line).decode())
    assert row.text == values["text"]
    values = {key: value for key, value in values.items() if key not in ("id", "text")}
    assert json.loads(row.provenance) == {key: value for key, value in values.items() if key != "messages"}
