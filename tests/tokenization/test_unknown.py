"""Text that a tokenizer does not know is refused, and text that it does is not."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from msm_hpc.base.errors import UserError
from tokenization.tokenizer import TokenizerFolder
from tokenization.unknown import SampleCheck, check_sample

ODD = "Ünïcode 山 😀 \U00013000, \u200b and \x07."


def characters(folder: Path, **options: Any) -> TokenizerFolder:
    """A vocabulary of the characters ``a`` to ``e``."""
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = ["<eod>", "<pad>", *([options["unk_token"]] if options else [])]
    tokenizer.train_from_iterator(["a b c d e"], trainers.BpeTrainer(special_tokens=special, show_progress=False))
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<eod>", "pad_token": "<pad>"}))
    return TokenizerFolder(folder)


@pytest.mark.parametrize("options", [{"unk_token": "<unk>"}, {}], ids=["an unknown token", "none: text vanishes"])
def test_what_is_lost_is_named(tmp_path: Path, options: dict[str, str]) -> None:
    tokenizer = characters(tmp_path / "characters", **options)
    assert tokenizer.unknown_id == (2 if options else None)
    check_sample(tokenizer, ["a bad cab", "e" * 99 + "x"])
    with pytest.raises(UserError, match=r"characters: does not know this text: 22\.2% of .* are lost \('xy'\), more"):
        check_sample(tokenizer, ["a bad x", "cad y"])


def test_what_is_lost_later_is_found_too(tmp_path: Path) -> None:
    sample = SampleCheck(characters(tmp_path / "characters"))
    for _ in range(3):
        sample.check(["a bad cab"] * 99)
    with pytest.raises(UserError, match=r"of the characters of a sample are lost \('x'\)"):
        sample.check(["a bad cab"] * 50 + ["x" * 99] * 50)


def test_a_byte_level_tokenizer_knows_every_text(make_tokenizer: Any) -> None:
    """Many name a token for what is unknown all the same, and some name EOD."""
    tokenizer = TokenizerFolder(make_tokenizer(unk_token="<|endoftext|>"))
    assert tokenizer.unknown_id is None
    check_sample(tokenizer, [ODD, "", " ", "\n\n", "<|endoftext|>" * 9])
