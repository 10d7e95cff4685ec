"""Shares of a corpus, gathered: the same for any number of tasks, and only if they are the shares of one corpus."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from tests.tokenization.conftest import MakeTokenizer, Tokenize
from tests.tokenization.corpus_rows import document
from tokenization import gather, tokenize
from tokenization.gather import GatherInputs
from tokenization.manifest import NAME, check_files, write_manifest
from tokenization.packing import pack
from tokenization.packing.pack import PackConfig, PackInputs
from tokenization.packing.selection import Take
from tokenization.shards import shard_folders
from tokenization.tokenize import TokenizeConfig, TokenizeInputs
from tokenization.verify import verify


def gathered(shares: list[Path], out: Path, **options: Any) -> tuple[Path, ...]:
    out.mkdir()
    gather.run(TokenizeConfig(**options), GatherInputs(shares=tuple(shares)), out)
    return shard_folders(out)


@pytest.fixture
def shares(tokenize_rows: Tokenize, mixed_rows: list[dict[str, Any]]) -> list[Path]:
    return tokenize_rows(mixed_rows, 3)


def test_shares_are_linked_and_not_copied(shares: list[Path], tmp_path: Path) -> None:
    (shares[1] / "progress.json").write_text("of the task, not of the shard")
    folders = gathered(shares, tmp_path / "out")
    assert [folder.name for folder in folders] == ["0", "1", "2"]
    for share, folder in zip(shares, folders, strict=True):
        check_files(folder)
        assert all((share / path.name).samefile(path) for path in folder.iterdir())


def test_across_devices_shares_are_copied(shares: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def across_devices(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", across_devices)
    for share, folder in zip(shares, gathered(shares, tmp_path / "out"), strict=True):
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            path.name: path.read_bytes() for path in share.iterdir()
        }


@pytest.mark.parametrize("tasks", [2, 7, 100])
def test_the_number_of_tasks_changes_nothing(
    tokenize_rows: Tokenize, mixed_rows: list[dict[str, Any]], tmp_path: Path, tasks: int
) -> None:
    """Neither the content nor what a model is trained on."""
    contents, rows = [], []
    for count in (1, tasks):
        folder = tmp_path / f"corpus-of-{count}"
        [corpus] = verify(gathered(tokenize_rows(mixed_rows, count), folder)).corpora
        contents.append(corpus)
        plan = tmp_path / f"plan-of-{count}"
        plan.mkdir()
        config = PackConfig(sequence_length=256, sources=(Take(source="s", tokens=2_000),))
        pack.run(config, PackInputs(shards={"s": folder}), plan)
        rows.append([(plan / name).read_bytes() for name in ("rows.npy", "pieces.npy")])
    assert contents[0] == contents[1]
    assert contents[0].sha256 is not None
    assert rows[0] == rows[1]


def test_a_share_that_was_split_is_the_same(
    tokenize_rows: Tokenize, mixed_rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    whole, parts = tokenize_rows(mixed_rows, 3)[1], tokenize_rows(mixed_rows, 12)[4:8]
    (share,) = gathered(parts, tmp_path / "share", task=1, tasks=3)
    made, expected = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (share, whole))
    made, expected = ({**files, NAME: json.loads(files[NAME])} for files in (made, expected))
    for manifest in (made[NAME], expected[NAME]):
        for of_the_split in ("corpus", "engine", "manifest_sha256"):
            del manifest[of_the_split]
    assert made == expected
    others = [path for path in tokenize_rows(mixed_rows, 3, "again") if path.name != whole.name]
    gathered([others[0], share, others[1]], tmp_path / "corpus")


def test_shares_of_one_corpus_in_order_are_wanted(shares: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not task 0 of 3 .* its manifest says task 1, not 0"):
        gathered([shares[1], shares[0], shares[2]], tmp_path / "order")
    with pytest.raises(UserError, match=r"not task 0 of 2 .* its manifest says tasks 3, not 2"):
        gathered(shares[:2], tmp_path / "missing")
    with pytest.raises(UserError, match=r"not task 0 of 3 .* its manifest says cot 'train', not 'mask'"):
        gathered(shares, tmp_path / "options", cot="mask")


@pytest.mark.parametrize(("field", "value"), [("source", "another.jsonl"), ("special_text", True), ("tokenizer", {})])
def test_a_share_of_another_corpus_is_refused(shares: list[Path], tmp_path: Path, field: str, value: Any) -> None:
    change(shares[2], **{field: value})
    with pytest.raises(UserError, match=rf"{shares[2]}: not task 2 of 3 .* says {field} "):
        gathered(shares, tmp_path / "out")


def change(folder: Path, **fields: Any) -> None:
    """Other fields in a manifest that vouches for itself all the same."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["manifest_sha256"]
    write_manifest(folder, {**manifest, **fields})  # type: ignore[arg-type]


def test_a_corpus_that_grew_between_two_tasks_is_refused(make_tokenizer: MakeTokenizer, tmp_path: Path) -> None:
    corpus, tokenizer = tmp_path / "data.jsonl", make_tokenizer()
    shares = []
    for task in range(2):
        with corpus.open("a") as file:
            file.writelines(json.dumps(document(f"{task}-{row}", "The cheese.")) + "\n" for row in range(10))
        shares.append(tmp_path / str(task))
        shares[-1].mkdir()
        tokenize.run(TokenizeConfig(task=task, tasks=2), TokenizeInputs(corpus=corpus, tokenizer=tokenizer), shares[-1])
    with pytest.raises(UserError, match=r"data\.jsonl: changed while it was tokenised"):
        gathered(shares, tmp_path / "out")


def test_a_folder_without_a_manifest_is_refused(shares: list[Path], tmp_path: Path) -> None:
    shutil.rmtree(shares[1])
    with pytest.raises(UserError, match=r"manifest\.json: no such file"):
        gathered(shares, tmp_path / "out")
