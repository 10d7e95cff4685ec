import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from msm_hpc.base.errors import UserError
from tokenization.reading.corpus import Corpus
from tokenization.reading.formats import PLAIN, OtherShape, RowShape
from tokenization.reading.parse import parse_row
from tokenization.reading.rows import BadRow, ChatRow, DocumentRow, Row, RowPlace

PLACE = RowPlace("data.jsonl", 7)
SHAREGPT = RowShape("sharegpt")
PROMPT = RowShape("prompt_completion")
ALPACA = RowShape("alpaca")


def parse(row: dict[str, Any], shape: RowShape = PLAIN) -> Row:
    return parse_row(json.dumps(row).encode(), PLACE, "default", shape)


def turns(row: Row) -> list[tuple[str, str]]:
    assert isinstance(row, ChatRow)
    return [(message.role, message.content) for message in row.messages]


@pytest.mark.parametrize(
    ("shape", "row", "expected"),
    [
        (
            SHAREGPT,
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            [("user", "a"), ("assistant", "b")],
        ),
        (
            SHAREGPT,
            {"system": "S", "conversations": [{"from": "user", "value": "a"}, {"from": "assistant", "value": "b"}]},
            [("system", "S"), ("user", "a"), ("assistant", "b")],
        ),
        (
            RowShape("sharegpt", {"conversations": "dialogue"}),
            {"dialogue": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            [("user", "a"), ("assistant", "b")],
        ),
        (PROMPT, {"prompt": "a", "completion": "b"}, [("user", "a"), ("assistant", "b")]),
        (
            RowShape("prompt_completion", {"prompt": "q", "completion": "a"}),
            {"q": "a", "a": "b", "system": "S"},
            [("system", "S"), ("user", "a"), ("assistant", "b")],
        ),
        (
            RowShape("prompt_completion", {"prompt": "completion", "completion": "prompt"}),
            {"completion": "a", "prompt": "b"},
            [("user", "a"), ("assistant", "b")],
        ),
        (
            RowShape("prompt_completion", {"completion": "prompt", "prompt": "q"}),
            {"q": "a", "prompt": "b"},
            [("user", "a"), ("assistant", "b")],
        ),
        (ALPACA, {"instruction": "a", "input": "", "output": "b"}, [("user", "a"), ("assistant", "b")]),
        (ALPACA, {"instruction": "a", "input": "x", "output": "b"}, [("user", "a\n\nx"), ("assistant", "b")]),
        (
            RowShape("plain", {"messages": "dialogue"}),
            {"dialogue": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            [("user", "a"), ("assistant", "b")],
        ),
        (
            RowShape(),
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                    {"role": "assistant", "content": "c"},
                ]
            },
            [("user", "ab"), ("assistant", "c")],
        ),
    ],
)  # fmt: skip
def test_chats_of_each_format(shape: RowShape, row: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    found = parse({"id": "r", **row, "topic": "cheese"}, shape)
    assert turns(found) == expected
    assert (found.id, json.loads(found.provenance)) == ("r", {"topic": "cheese"})


def test_a_text_by_another_name() -> None:
    found = parse({"body": "cheese", "text": None, "n": 1}, RowShape("plain", {"text": "body"}))
    assert isinstance(found, DocumentRow)
    assert (found.text, found.provenance) == ("cheese", b'{"n":1}')


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"conversations": [{"from": "human", "value": "a"}]}, SHAREGPT),
        ({"talk": [{"from": "human", "value": "a"}]}, RowShape("sharegpt", {"conversations": "talk"})),
        ({"conversations": [{"role": "user", "content": "a"}]}, RowShape("plain", {"messages": "conversations"})),
        ({"prompt": "a", "completion": "b"}, PROMPT),
        (
            {"question": "a", "answer": "b"},
            RowShape("prompt_completion", {"prompt": "question", "completion": "answer"}),
        ),
        ({"instruction": "a", "input": "", "output": "b"}, ALPACA),
        ({"body": "a", "year": 1999}, RowShape("plain", {"text": "body"})),
    ],
)  # fmt: skip
def test_a_row_of_another_shape_says_how_to_read_it_and_that_reads_it(row: dict[str, Any], shape: RowShape) -> None:
    with pytest.raises(OtherShape) as caught:
        parse(row)
    assert caught.value.shape == shape
    assert str(caught.value).endswith(f"read such rows with {shape.flags}")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    parse(row, shape)


@pytest.mark.parametrize(
    ("shape", "row", "message"),
    [
        (SHAREGPT, {"messages": []}, r"conversations: missing or empty; there is only .*columns\.conversations=NAME"),
        (SHAREGPT, {"conversations": []}, r"conversations: missing or empty"),
        (SHAREGPT, {"conversations": [{"from": "bard", "value": "a"}]}, r"conversations\[0\]\.from: 'bard' is unknown"),
        (SHAREGPT, {"conversations": [{"from": "gpt", "value": " "}]}, r"conversations\[0\]\.value: empty"),
        (SHAREGPT, {"conversations": [{"from": "gpt", "value": "a", "weight": 0}]}, r"field `weight`; remove it"),
        (SHAREGPT, {"conversations": [{"from": "gpt", "value": 3}]}, r"conversations\[0\]\.value: expected `str`"),
        (PROMPT, {"prompt": "a"}, r"completion: missing or empty; there is nothing else, and null counts"),
        (PROMPT, {"prompt": ["a"], "completion": "b"}, r"prompt: expected `str"),
        (ALPACA, {"instruction": "a", "output": ""}, r"output: empty"),
        (
            RowShape("plain", {"text": "body"}),
            {"text": "a", "body": "b"},
            r"text: is there, and so is body, which columns\.text has read as text; drop one",
        ),
        (
            RowShape(),
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            r"messages\[0\]\.content\[0\]: expected a part .* found image_url; only texts",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_the_fields_of_the_row(shape: RowShape, row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRow, match=rf"^data\.jsonl:7: .*{message}"):
        parse(row, shape)


def test_a_column_that_the_format_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match=r"no field 'txt' in rows of format plain: id, text, messages, tools"):
        RowShape("plain", {"txt": "body"})


def test_a_column_that_is_read_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"columns: prompt and completion are both read from 'a'; name another"):
        RowShape("prompt_completion", {"prompt": "a", "completion": "a"})


def test_a_table_of_conversations_with_nulls_to_fill_up(tmp_path: Path) -> None:
    rows = [{"talk": [{"from": "human", "value": "a", "weight": None}, {"from": "gpt", "value": "b", "weight": None}]}]
    pq.write_table(pa.table({"talk": [row["talk"] for row in rows]}), tmp_path / "a.parquet")
    shape = RowShape("sharegpt", {"conversations": "talk"})
    ((found,),) = Corpus.open(tmp_path / "a.parquet", shape).share(0, 1).batches()
    assert not isinstance(found, BadRow)
    assert turns(found) == [("user", "a"), ("assistant", "b")]
