import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from tests.tokenization.chats.chat_templates import THINKING
from tests.tokenization.corpus_rows import chat, document
from tokenization.__main__ import main
from tokenization.packing import pack as pack_stage
from tokenization.packing.pack import PackConfig, PackInputs
from tokenization.packing.plan import Plan
from tokenization.packing.selection import Take
from tokenization.shards import Shard

FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
ROWS = [document("d", "The cheese is on the table."), chat("c", "Which?", "Stilton."), chat("e", "Hi", "Yo")]


@pytest.fixture
def made(make_tokenizer: Any, write_corpus: Any, tmp_path: Path) -> Path:
    """A folder with ``tokenizer``, ``shards/0`` and ``plan``, made by the commands."""
    make_tokenizer()
    tokenize = ["run", "--corpus", str(write_corpus(ROWS)), "--tokenizer", f"{tmp_path}/tokenizer"]
    assert main([*tokenize, "--out", f"{tmp_path}/shards/0"]) == 0
    pack = ["pack", "--shards", f"all={tmp_path}/shards", "--sequence-length", "64", "--out", f"{tmp_path}/plan"]
    assert main(pack) == 0
    return tmp_path


@pytest.mark.parametrize("command", ["", "run", "pack", "verify", "show", "export-bridge"])
def test_help_fits_a_narrow_terminal(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_run_and_pack_make_folders_that_open(made: Path) -> None:
    assert len(Shard(made / "shards" / "0")) == 3
    assert Plan(made / "plan").sequence_length == 64
    assert sorted(path.name for path in (made / "shards").iterdir()) == ["0"]


def test_what_a_killed_run_left_is_removed_and_the_folder_is_as_the_umask_says(made: Path) -> None:
    left = made / "shards" / ".1.0badf00d.partial"
    others = [made / "shards" / f".{name}.0badf00d.partial" for name in ("1.v2", "10")]
    for folder in (left, *others):
        folder.mkdir()
        (folder / "shard.bin").touch()
    tokenize = ["run", "--corpus", f"{made}/data.jsonl", "--tokenizer", f"{made}/tokenizer"]
    usual = os.umask(0o007)
    try:
        assert main([*tokenize, "--out", f"{made}/shards/1"]) == 0
    finally:
        os.umask(usual)
    assert sorted(path.name for path in (made / "shards").iterdir()) == [*(other.name for other in others), "0", "1"]
    assert (made / "shards" / "1").stat().st_mode & 0o777 == 0o770


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


def tokenise(made: Path, tasks: int, corpus: str = "data.jsonl") -> list[str]:
    """The shard folders of all tasks."""
    folders = [f"{made}/{corpus}-{tasks}/{task}" for task in range(tasks)]
    for task, folder in enumerate(folders):
        arguments = ["--corpus", f"{made}/{corpus}", "--tokenizer", f"{made}/tokenizer", "--out", folder]
        assert main(["run", *arguments, "--task", str(task), "--tasks", str(tasks)]) == 0
    return folders


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


def test_show_wants_the_tokenizer_of_the_shards(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made / "tokenizer", made / "other")
    (made / "other" / "tokenizer.json").write_text((made / "tokenizer" / "tokenizer.json").read_text() + " ")
    assert main(["show", f"{made}/shards/0", "--document", "0", "--tokenizer", f"{made}/other"]) == 2
    assert f"{made}/other: not the tokenizer that {made}/shards/0 was made with" in capsys.readouterr().err


def test_bad_rows_are_skipped_when_asked(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ['{"text": "fine"}'] * 8 + ['{"text": ""}'] * 2
    (made / "bad.jsonl").write_text("\n".join(rows))
    run = ["run", "--corpus", f"{made}/bad.jsonl", "--tokenizer", f"{made}/tokenizer", "--out", f"{made}/new"]
    assert main([*run, "--on-bad", "skip"]) == 2
    assert "2 of 10 rows cannot be used, more than max_bad=0.001 allows" in capsys.readouterr().err
    assert main([*run, "--on-bad", "skip", "--max-bad", "0.2"]) == 0
    assert "8 documents and 0 chats" in capsys.readouterr().out
    _, line = (made / "new" / "rejected.jsonl").read_text().splitlines()
    place = f"{made}/bad.jsonl:10"
    assert json.loads(line) == {"place": place, "reason": "empty", "message": f"{place}: text: empty; remove the row"}
    assert json.loads((made / "new" / "manifest.json").read_text())["rejected"] == {"empty": 2}
    assert main(["verify", f"{made}/new"]) == 0


def test_turns_that_are_not_trained_are_warned_of(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "tokenizer" / "chat_template.jinja").write_text(THINKING)
    turns = [("user", "Hi"), ("assistant", "<think>hm</think>Yo"), ("user", "Why?"), ("assistant", "So")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    (made / "talk.jsonl").write_text(json.dumps(row))
    run = ["run", "--corpus", f"{made}/talk.jsonl", "--tokenizer", f"{made}/tokenizer"]
    capsys.readouterr()
    assert main([*run, "--out", f"{made}/printed"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("warning: 1 of 2 turns of the assistant are not trained on: the chat template")
    assert "  1 of 2 turns of the assistant are trained on\n" in printed.out
    assert main([*run, "--out", f"{made}/each", "--turns", "each_by_its_prefix"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "0 documents and 2 turns of chats of 1 rows" in printed.out
    assert "  2 of 2 turns of the assistant are trained on\n" in printed.out


def test_show_marks_what_is_not_trained_on(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["show", f"{made}/shards/0", "--tokenizer", f"{made}/tokenizer", "--document", "1"]
    assert main(arguments) == 0
    heading, text = capsys.readouterr().out.split("\n", 1)
    assert heading.startswith(f"-- {made}/shards/0 document 1: chat c, tokens 0-")
    assert text == "[<|im_start|>user\nWhich?<|im_end|>\n<|im_start|>assistant\n]" + (
        "Stilton.<|im_end|>[\n]<|endoftext|>\n"
    )


def test_show_prints_a_row(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show = ["show", f"{made}/plan", "--tokenizer", f"{made}/tokenizer", "--row", "0"]
    assert main([*show, "--shards", f"all={made}/shards/0"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("-- all/0 document") == len(Plan(made / "plan").row(0))
    assert main(show) == 2
    assert "its rows hold documents of all/0; give these shards too" in capsys.readouterr().err


def test_bad_input_is_one_line_and_leaves_nothing(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "bad.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": "b"}\n')
    before = sorted(made.rglob("*"))
    run = ["run", "--corpus", f"{made}/bad.jsonl", "--tokenizer", f"{made}/tokenizer", "--out", f"{made}/new"]
    assert main(run) == 2
    assert capsys.readouterr().err == f"error: {made}/bad.jsonl:2: text: give text (a document) " + (
        "or messages (a chat); there is only nothing\n"
    )
    assert sorted(made.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--corpus", "data.jsonl", "--tokenizer", "tokenizer", "--out", "plan"], "plan: exists already"),
        (
            ["run", "--corpus", "data.jsonl", "--tokenizer", "tokenizer", "--out", "data.jsonl/x"],
            "data.jsonl/x: cannot be made (File exists)",
        ),
        (
            ["run", "--corpus", "data.jsonl", "--tokenizer", "tokenizer", "--tasks", "0", "--out", "x"],
            "tasks is 0: it must be at least 1",
        ),
        (
            ["pack", "--shards", "all=shards", "--sequence-length", "99999999999", "--out", "x"],
            "sequence_length is 99999999999: it must be at least 2 and at most 1048576",
        ),
        (["pack", "--shards", "all", "--sequence-length", "9", "--out", "x"], "--shards all: expected NAME=VALUE"),
        (
            ["pack", "--shards", "all=shards", "--sequence-length", "64", "--samples", "all=few", "--out", "x"],
            "--samples all=few: expected a number",
        ),
        (
            ["pack", "--shards", "all=shards", "--sequence-length", "64", "--samples", "all=9", "--out", "x"],
            "source all: samples is 9, but it has 3",
        ),
        (
            ["pack", "--shards", "all=shards", "--shards", "all=plan", "--sequence-length", "64", "--out", "x"],
            "--shards all: given twice",
        ),
        (["show", "shards/0", "--tokenizer", "tokenizer", "--document", "3"], "--document 3: there are 3"),
        (["show", "plan", "--tokenizer", "tokenizer", "--row", "-1"], "--row -1: there are"),
    ],
)
def test_refusals(
    made: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(made)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_help_teaches() -> None:
    result = subprocess.run([sys.executable, "-m", "tokenization", "--help"], capture_output=True, text=True)
    assert result.returncode == 0
    assert "SLURM_ARRAY_TASK_ID" in result.stdout


def test_a_file_that_no_manifest_vouches_for_is_refused(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A loss mask laid beside a shard would be read."""
    (made / "shards" / "0" / "shard.extra").write_bytes(b"1")
    assert main(["verify", f"{made}/shards/0"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {made}/shards/0: shard.extra: not in manifest.json")


@pytest.mark.parametrize(
    ("shares", "message"),
    [([0, 0], "task 0 of {corpus} is given twice"), ([0, 2], "the shards of tasks [1] of 3 are missing")],
)
def test_pack_wants_each_share_once(
    made: Path, capsys: pytest.CaptureFixture[str], shares: list[int], message: str
) -> None:
    folders = tokenise(made, 3)
    (made / "a").mkdir()
    for number, share in enumerate(shares):
        (made / "a" / str(number)).symlink_to(folders[share])
    assert main(["pack", "--shards", f"a={made}/a", "--sequence-length", "64", "--out", f"{made}/new"]) == 2
    assert message.format(corpus=made / "data.jsonl") in capsys.readouterr().err


def test_a_full_disk_is_one_line(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    run = ["run", "--corpus", f"{made}/data.jsonl", "--tokenizer", f"{made}/tokenizer", "--out", f"{made}/new"]
    assert main(run) == 2
    assert capsys.readouterr().err == (
        "error: [Errno 28] No space left on device; look at space and permissions, then run it again\n"
    )
    assert not (made / "new").exists()


def word_tokenizer(folder: Path) -> Path:
    """It knows one word."""
    words = {"type": "WordLevel", "vocab": {"?": 0, "<eod>": 1, "<pad>": 2, "known": 3}, "unk_token": "?"}
    special = [{"id": n, "content": t, "special": True} | FLAGS for n, t in ((1, "<eod>"), (2, "<pad>"))]
    tokenizer = {
        "version": "1.0",
        "added_tokens": special,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": words,
    }
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<eod>", "pad_token": "<pad>", "unk_token": "?"}')
    return folder


@pytest.mark.parametrize(
    ("texts", "unknown", "error"),
    [
        (["known " * 98 + "word"], 1, None),
        (["known words are known"], None, "44.4% of the characters of a sample are lost ('wordsae'), more than 2%"),
        (["known " * 200 + "word " * 10], None, "10 of 211 tokens (4.7%) are its unknown token, more than 2%"),
    ],
)
def test_text_that_the_tokenizer_does_not_know_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], texts: list[str], unknown: int | None, error: str | None
) -> None:
    tokenizer = word_tokenizer(tmp_path / "words")
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    run = ["run", "--corpus", f"{tmp_path}/data.jsonl", "--tokenizer", str(tokenizer), "--out", f"{tmp_path}/new"]
    assert main(run) == (2 if error else 0)
    printed = capsys.readouterr().err
    if error:
        assert printed.startswith(f"error: {tokenizer}: does not know this text: {error}; take a tokenizer")
        assert not (tmp_path / "new").exists()
    else:
        assert printed == f"warning: 1 of 100 tokens are words unknown to {tokenizer}, and lost\n"
        assert json.loads((tmp_path / "new" / "manifest.json").read_text())["unknown_tokens"] == unknown


def test_rows_of_another_format_are_read_by_the_flags_that_the_message_names(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "talk.json").write_text('[{"question": "Which cheese?", "answer": "Stilton."}]')
    run = ["run", "--corpus", f"{made}/talk.json", "--tokenizer", f"{made}/tokenizer", "--out", f"{made}/talk"]
    assert main(run) == 2
    flags = capsys.readouterr().err.strip().partition("read such rows with ")[2].split()
    assert flags == ["--format", "prompt_completion", "--column", "prompt=question", "--column", "completion=answer"]
    assert main([*run, *flags]) == 0
