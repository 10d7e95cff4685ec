from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from msm_hpc.base.errors import UserError
from tests.tokenization.packing.shard_folders import text, write_shard
from tokenization.encoded import Encoded
from tokenization.manifest import FileRecord, record_files, write_manifest
from tokenization.shards import Shard, ShardWriter, shard_folders, shards_by_key

DOCUMENTS = [np.array([5, 6, 7], np.int32), np.array([65_000], np.int32), np.arange(100, dtype=np.int32)]
MASKS = [np.array([0, 1, 1], np.uint8), np.array([1], np.uint8), np.zeros(100, np.uint8)]


def encoded(*documents: np.ndarray, masks: list[np.ndarray] | None = None) -> Encoded:
    lengths = np.array([len(tokens) for tokens in documents], np.int32)
    return Encoded(np.concatenate(documents), lengths, None if masks is None else np.concatenate(masks))


def write(folder: Path, masked: bool = True, vocab_size: int = 65_499) -> Path:
    """A chat, a text and a chat, in two batches; all of them texts where not ``masked``."""
    with ShardWriter(folder, vocab_size) as shard:
        masks = MASKS if masked else None
        shard.add(encoded(*DOCUMENTS[:2], masks=masks and masks[:2]), np.array([masked, False]))
        shard.add(encoded(*DOCUMENTS[2:], masks=masks and masks[2:]), np.array([masked]))
    return folder


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_499, np.uint16), (65_500, np.int32), (151_643, np.int32)])
def test_what_is_written_is_read(tmp_path: Path, vocab_size: int, dtype: type) -> None:
    shard = Shard(write(tmp_path, vocab_size=vocab_size))
    assert len(shard) == 3
    assert shard.lengths.tolist() == [3, 1, 100]
    assert shard.trainable().tolist() == [2, 1, 0]
    assert shard.is_chat().tolist() == [True, False, True]
    assert shard.total_tokens == 104
    assert shard.ends().tolist() == [7, 65_000, 99]
    for index, (tokens, mask) in enumerate(zip(DOCUMENTS, MASKS, strict=True)):
        assert shard.tokens(index).dtype == dtype
        assert shard.tokens(index).tolist() == shard.read_tokens(index).tolist() == tokens.tolist()
        assert shard.read_tokens(index).dtype == dtype
        assert shard.loss_mask(index).dtype == np.uint8
        assert shard.loss_mask(index).tolist() == mask.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", [65_499, 65_500])
def test_stock_megatron_opens_it(tmp_path: Path, vocab_size: int) -> None:
    from megatron.core.datasets import indexed_dataset

    dataset = indexed_dataset.IndexedDataset(str(write(tmp_path, vocab_size=vocab_size) / "shard"))
    assert len(dataset) == 3
    assert dataset.index.dtype == indexed_dataset.DType.optimal_dtype(vocab_size)
    assert dataset.document_indices.tolist() == [0, 1, 2, 3]
    assert [dataset[index].tolist() for index in range(3)] == [tokens.tolist() for tokens in DOCUMENTS]
    assert dataset.get(2, offset=10, length=5).tolist() == [10, 11, 12, 13, 14]


def test_no_mask_file_where_every_token_is_trained_on(tmp_path: Path) -> None:
    shard = Shard(write(tmp_path, masked=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard.bin", "shard.idx"]
    assert shard.loss_mask(0).tolist() == [1, 1, 1]
    assert shard.trainable().tolist() == [3, 1, 100]
    assert shard.is_chat().tolist() == [False, False, False]


def test_a_chat_after_many_texts_leaves_their_tokens_trainable(tmp_path: Path) -> None:
    many = np.zeros(3_000_000, np.int32)
    with ShardWriter(tmp_path, 100) as shard:
        shard.add(encoded(many), np.array([False]))
        shard.add(encoded(many[:3], masks=[np.array([0, 1, 1], np.uint8)]), np.array([True]))
        shard.add(encoded(many[:2]), np.array([False]))
    assert Shard(tmp_path).trainable().tolist() == [3_000_000, 2, 2]
    assert Shard(tmp_path).loss_mask(1).tolist() == [0, 1, 1]


def test_a_shard_may_be_empty(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, 100):
        pass
    shard = Shard(tmp_path)
    assert len(shard) == 0
    assert shard.trainable().tolist() == []


def test_nothing_appears_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ShardWriter(tmp_path, 100) as shard:
        shard.add(encoded(np.array([1], np.int32)), np.array([False]))
        raise RuntimeError("disk on fire")
    assert list(tmp_path.iterdir()) == []


def test_a_token_beyond_the_vocabulary_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(AssertionError), ShardWriter(tmp_path, 100) as shard:
        shard.add(encoded(np.array([100], np.int32)), np.array([False]))


@pytest.mark.parametrize("name", ["shard.bin", "shard.idx", "shard.mask", "shard.chats"])
@pytest.mark.parametrize("kept", [-1, 2])
def test_a_file_cut_short_is_refused_by_name(tmp_path: Path, name: str, kept: int) -> None:
    path = write(tmp_path) / name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=rf"{name}: .*tokenise again"):
        Shard(tmp_path)


@pytest.mark.parametrize("name", ["shard.bin", "shard.idx"])
def test_a_missing_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        Shard(tmp_path)


def test_a_manifest_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = write_shard(tmp_path / "0", [text(4)])
    assert Shard.open(folder).total_tokens == 4
    write_manifest(folder, Other(record_files(folder, ["shard.bin", "shard.idx"])))
    with pytest.raises(UserError, match="its manifest has no 'tokenizer', so another version made it"):
        Shard.open(folder)


@dataclass(frozen=True)
class Other:
    files: Mapping[str, FileRecord]


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path) / "shard.idx"
    path.write_bytes(b"PAR1" + path.read_bytes()[4:])
    with pytest.raises(UserError, match="not a Megatron index"):
        Shard(tmp_path)


def test_a_source_is_one_shard_or_numbered_ones(tmp_path: Path) -> None:
    """``10`` comes after ``9``, not after ``1``."""
    many, one = tmp_path / "many", tmp_path / "one"
    for number in range(12):
        (many / str(number)).mkdir(parents=True)
    one.mkdir()
    write(one)
    assert shard_folders(one) == (one,)
    assert shard_folders(many) == tuple(many / str(number) for number in range(12))
    keys = list(shards_by_key({"b": one, "a": many}))
    assert keys == [*(f"a/{number}" for number in range(12)), "b/0"]


def test_sources_are_numbered_in_the_order_of_their_keys(tmp_path: Path) -> None:
    write(tmp_path)
    assert list(shards_by_key({"docs": tmp_path, "docs-x": tmp_path})) == ["docs-x/0", "docs/0"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0", "2"], r"its shards are \[0, 2\]; number them 0 to 1"),
        (["1"], r"its shards are \[1\]; number them 0 to 0"),
        (["x"], r"neither a shard \(shard\.idx\) nor sub-folders 0, 1, \.\.\. of shards"),
        ([], "neither a shard"),
    ],
)
def test_a_folder_without_whole_shards_is_refused_by_name(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"{tmp_path}: {message}"):
        shard_folders(tmp_path)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        shard_folders(tmp_path / "nowhere")
