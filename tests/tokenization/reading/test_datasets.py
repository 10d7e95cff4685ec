"""Data sets as a corpus: saved in a folder, or by name."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from msm_hpc.base.errors import UserError
from tests.tokenization.reading.corpus_files import documents, ids, plain, rows_of
from tokenization import download
from tokenization.download import DownloadConfig, DownloadInputs
from tokenization.reading.corpus import Corpus
from tokenization.reading.hub import DatasetName
from tokenization.reading.rows import DocumentRow


@pytest.mark.parametrize("tasks", [1, 2, 3, 30])
def test_a_saved_dataset(tmp_path: Path, tasks: int) -> None:
    folder = tmp_path / "saved"
    shuffled = datasets.Dataset.from_list(documents(0, 20)).select(range(19, -1, -1))
    shuffled.save_to_disk(folder)
    assert ids(folder, tasks) == [f"d{n}" for n in range(19, -1, -1)]
    records = [record for task in range(tasks) for record in rows_of(folder, task, tasks)[1]]
    assert [record.end for record in records] == [record.begin for record in records[1:]] + [20]


def test_a_saved_dataset_cut_short_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    datasets.Dataset.from_list(documents(0, 20)).save_to_disk(folder)
    (path,) = folder.glob("*.arrow")
    path.write_bytes(path.read_bytes()[:-8])  # a whole record ends here: Arrow would not notice
    with pytest.raises(UserError, match="cut short"):
        Corpus.open(folder)


def test_a_dataset_of_several_splits_needs_the_name_of_one(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": datasets.Dataset.from_list(documents(0, 2))}).save_to_disk(tmp_path)
    with pytest.raises(UserError, match="several splits; give the folder of one"):
        Corpus.open(tmp_path)
    assert ids(tmp_path / "train") == ["d0", "d1"]


@pytest.fixture
def _no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("_no_hub")
def test_a_dataset_by_name(tmp_path: Path) -> None:
    name = tmp_path / "named"
    name.mkdir()
    plain(name / "train.jsonl", [{"text": "a"}, {"text": "b"}])
    plain(name / "test.jsonl", [{"text": "c"}])
    assert ids(f"hf:{name}") == [f"{name}:1", f"{name}:2"]
    assert ids(f"hf:{name}:test") == [f"{name}:test:1"]
    with pytest.raises(UserError, match="not a data set"):
        Corpus.open(f"hf:{name}:validation")


@pytest.mark.usefixtures("_no_hub")
def test_a_dataset_is_downloaded_as_a_corpus_of_its_rows(tmp_path: Path) -> None:
    name, out = tmp_path / "named", tmp_path / "out"
    for folder in (name, out):
        folder.mkdir()
    plain(name / "test.jsonl", [{"text": "c", "meta": {"year": 1999}}])
    download.run(DownloadConfig(name=str(name), revision=None, split="test"), DownloadInputs(), out)
    ((row,), _) = rows_of(out)
    assert isinstance(row, DocumentRow)
    assert (row.text, json.loads(row.provenance)) == ("c", {"meta": {"year": 1999}})
    with pytest.raises(UserError, match="not a data set"):
        download.run(DownloadConfig(name=str(name), revision=None), DownloadInputs(), out)


@pytest.mark.usefixtures("_no_hub")
def test_a_dataset_of_no_such_name() -> None:
    with pytest.raises(UserError, match=r"^hf:nobody/nothing: the hub cannot be reached"):
        Corpus.open("hf:nobody/nothing")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("hf:org/a", DatasetName("org/a")),
        ("hf:org/a:test", DatasetName("org/a", split="test")),
        ("hf:org/a@v1:en/test", DatasetName("org/a", "v1", "en", "test")),
        ("hf:/local/folder:en/", DatasetName("/local/folder", None, "en")),
        ("a.jsonl", None),
    ],
)
def test_names_of_datasets(text: str, named: DatasetName | None) -> None:
    assert DatasetName.parse(text) == named
