"""What becomes of a shard or plan that was damaged, or is of something else: verify finds it, and who reads it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from tests.tokenization.commands import tokenise
from tokenization.__main__ import main
from tokenization.packing import pack as pack_stage
from tokenization.packing.pack import PackConfig, PackInputs
from tokenization.packing.selection import Take
from tokenization.shards import Shard


@pytest.mark.parametrize(
    "name",
    ["shards/0/shard.bin", "shards/0/shard.mask", "shards/0/documents.jsonl", "plan/pieces.npy", "plan/rows.npy"],
)
def test_verify_finds_a_flipped_byte(made: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = made / name
    assert main(["verify", str(path.parent)]) == 0
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert main(["verify", str(path.parent)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}: its SHA-256 is not the one in manifest.json")
    path.unlink()
    assert main(["verify", str(path.parent)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}: missing")


def test_verify_needs_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    (tmp_path / "manifest.json").write_text("{")
    assert main(["verify", str(tmp_path)]) == 2
    (tmp_path / "manifest.json").write_text("{}")
    assert main(["verify", str(tmp_path)]) == 2
    missing, broken, foreign = capsys.readouterr().err.splitlines()
    assert "no such file" in missing
    assert "not valid JSON" in broken
    assert "files: missing" in foreign


@pytest.mark.parametrize("place", range(0, 2_000, 97))
def test_verify_finds_a_flipped_byte_of_the_manifest(
    made: Path, capsys: pytest.CaptureFixture[str], place: int
) -> None:
    path = made / "shards" / "0" / "manifest.json"
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1
    path.write_bytes(data)
    assert main(["verify", str(path.parent)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}: ")


def test_verify_prints_one_content_hash_for_any_number_and_order_of_tasks(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def verified(folders: list[str]) -> list[str]:
        capsys.readouterr()
        assert main(["verify", *folders]) == 0
        return capsys.readouterr().out.splitlines()[1:]

    counts, digest = verified(tokenise(made, 1))
    assert counts.startswith(f"{made}/data.jsonl: 3 documents, ")
    assert digest.startswith("  content sha256 ")
    assert verified(tokenise(made, 2)) == [counts, digest]
    eleven = tokenise(made, 11)
    assert verified(sorted(eleven)) == verified(eleven) == [counts, digest]
    assert main(["verify", *eleven[:10]]) == 2
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "  not all of it: tasks 10 are missing"
    assert printed.err.startswith(f"error: {made}/data.jsonl: tasks are missing; give the shards of all tasks")


def test_verify_keeps_corpora_apart(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (made / f"{name}.jsonl").write_text('{"id": "same", "text": "fine"}\n')
    folders = tokenise(made, 1, "a.jsonl") + tokenise(made, 1, "b.jsonl")
    capsys.readouterr()
    assert main(["verify", *folders]) == 0
    assert capsys.readouterr().out.count("content sha256") == 2


def test_verify_finds_an_id_given_twice(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "twice.jsonl").write_text('{"id": "d", "text": "fine"}\n{"id": "d", "text": "fine too"}\n')
    [folder] = tokenise(made, 1, "twice.jsonl")
    assert main(["verify", folder]) == 2
    message = f"error: {folder} document 1: id 'd' is the id of {folder} document 0 too"
    assert capsys.readouterr().err.startswith(message)


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes] | None, str]] = {
    "no mask": ("shard.mask", None, "shard.mask: no such file, and manifest.json lists it"),
    "no chats": ("shard.chats", None, "shard.chats: no such file, and manifest.json lists it"),
    "no tokens": ("shard.bin", None, "shard.bin: no such file, and manifest.json lists it"),
    "no index": ("shard.idx", None, "shard.idx"),
    "mask cut short": ("shard.mask", lambda data: data[:-1], "shard.mask: "),
    "mask of ones": ("shard.mask", lambda data: b"\1" * len(data), "shard.mask: "),
    "tokens cut short": ("shard.bin", lambda data: data[:-2], "shard.bin: "),
    "index cut short": ("shard.idx", lambda data: data[:-8], "shard.idx: "),
    "index of wider tokens": (
        "shard.idx",
        lambda data: data[:17] + b"\4" + data[18:],
        "shard.bin: .* where shard.idx says",
    ),
    "a negative length": ("shard.idx", lambda data: data[:34] + b"\xff" * 4 + data[38:], "shard.idx: "),
    "no manifest": ("manifest.json", None, "manifest.json: no such file"),
}


@pytest.mark.parametrize(("name", "change", "message"), DAMAGES.values(), ids=DAMAGES)
def test_who_reads_a_damaged_shard_says_so(
    made: Path, capsys: pytest.CaptureFixture[str], name: str, change: Callable[[bytes], bytes] | None, message: str
) -> None:
    """Without its mask a shard of chats would look like one of texts, of which every token is trained on."""
    path = made / "shards" / "0" / name
    data = path.read_bytes()
    path.unlink()
    if change is not None:
        path.write_bytes(change(data))
    shards, plan = ["--shards", f"all={made}/shards"], f"{made}/plan"
    pack = ["pack", *shards, "--sequence-length", "64", "--out", f"{made}/again"]
    for command in (pack, ["export-bridge", plan, *shards, "--out", f"{made}/bridge"], ["verify", f"{made}/shards/0"]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        assert name in error or name == "shard.idx"
    out = made / "direct"
    out.mkdir()
    take = PackConfig(sequence_length=64, sources=(Take(source="all"),))
    with pytest.raises(UserError, match=message):  # by sizes and counts alone, as the stage does in a campaign
        pack_stage.run(take, PackInputs(shards={"all": made / "shards"}), out)
    assert not list(out.iterdir())


@pytest.mark.parametrize("name", ["shard.bin", "documents.jsonl"])
def test_pack_and_export_find_a_flipped_byte(made: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = made / "shards" / "0" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    shards = ["--shards", f"all={made}/shards"]
    assert main(["pack", *shards, "--sequence-length", "64", "--out", f"{made}/again"]) == 2
    assert main(["export-bridge", f"{made}/plan", *shards, "--out", f"{made}/bridge"]) == 2
    assert capsys.readouterr().err.count(f"error: {path}: its SHA-256 is not the one in manifest.json") == 2
    assert not (made / "again").exists() and not (made / "bridge").exists()


def test_a_manifest_of_another_shard_is_refused(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "other.jsonl").write_text('{"text": "Another text."}')
    [other] = tokenise(made, 1, "other.jsonl")
    shutil.copy(f"{other}/manifest.json", made / "shards" / "0")
    assert main(["pack", "--shards", f"all={made}/shards", "--sequence-length", "64", "--out", f"{made}/again"]) == 2
    assert "shard.chats, shard.mask: not in manifest.json; move it elsewhere" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"shard\.\w+: .* manifest\.json"):
        Shard.open(made / "shards" / "0")


@pytest.mark.parametrize("command", [["show", "--row", "0", "--tokenizer"], ["export-bridge", "--out"]])
def test_another_shard_than_was_packed_is_refused(
    made: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (made / "other.jsonl").write_text("".join(f'{{"text": "Another text, number {n}."}}\n' for n in range(3)))
    [folder] = tokenise(made, 1, "other.jsonl")
    last = f"{made}/tokenizer" if command[0] == "show" else f"{made}/exported"
    assert main([command[0], f"{made}/plan", "--shards", f"all={folder}", *command[1:], last]) == 2
    assert f"{folder}: not the shard all/0 that {made}/plan was packed from" in capsys.readouterr().err
