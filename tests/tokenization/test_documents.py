from __future__ import annotations

import json
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from tokenization.documents import DOCUMENTS, DocumentRecord, read_document, read_documents, read_some

RECORDS = [DocumentRecord(str(number), "document", {"value": number}) for number in range(5)]


def write(folder: Path, damaged: int | None = None) -> None:
    lines = [json.dumps({"id": each.id, "kind": each.kind, "provenance": each.provenance}) for each in RECORDS]
    if damaged is not None:
        lines[damaged] = "{"
    (folder / DOCUMENTS).write_text("".join(line + "\n" for line in lines))


def test_some_records_are_those_of_all(tmp_path: Path) -> None:
    write(tmp_path)
    assert list(read_documents(tmp_path)) == RECORDS
    assert read_some(tmp_path, {3, 1}) == {1: RECORDS[1], 3: RECORDS[3]}
    assert read_some(tmp_path, set()) == {}
    assert read_document(tmp_path, 4) == RECORDS[4]


@pytest.mark.parametrize("damaged", [2, 4], ids=["between", "after"])
def test_lines_of_other_documents_are_not_parsed(tmp_path: Path, damaged: int) -> None:
    write(tmp_path, damaged)
    assert read_some(tmp_path, {1, 3}).keys() == {1, 3}
    with pytest.raises(UserError, match=rf"documents.jsonl:{damaged + 1}: not a document record .*; tokenise again"):
        read_some(tmp_path, {1, damaged})


def test_a_shard_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"documents.jsonl: no such file; tokenise again"):
        read_some(tmp_path, {0})
