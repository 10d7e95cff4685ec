import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tokenization.chats.chat_templates import THINKING
from tests.tokenization.commands import tokenise
from tokenization.__main__ import main
from tokenization.packing.plan import Plan
from tokenization.shards import Shard

FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)


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
        "or messages (a chat); there is nothing else, and null counts as nothing\n"
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
