from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import Lora
from msm_hpc.model.adapter import NOTE, Note, fingerprint, parameters, read_note
from msm_hpc.model.architecture import parse_architecture

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
}
QWEN25_14B = LLAMA_8B | {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 48,
    "num_attention_heads": 40,
    "vocab_size": 152064,
}


@pytest.mark.parametrize(("fields", "published"), [(LLAMA_8B, 167_772_160), (QWEN25_14B, 275_251_200)])
def test_sizes_are_those_of_the_papers_adapters(fields: dict[str, object], published: int) -> None:
    assert parameters(parse_architecture("config.json", fields), Lora()) == published


def test_an_adapter_records_its_settings_and_its_base(tmp_path: Path) -> None:
    assert read_note(tmp_path) is None
    note = Note(Lora(rank=8, alpha=4.5), base="abc")
    (tmp_path / NOTE).write_text(note.files[NOTE])
    assert read_note(tmp_path) == note


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"rank": 3', "not valid JSON"),
        ("[]", "expected a JSON object, found list"),
        ('{"rank": 3, "alpha": 7.0}', "is damaged .base: "),
        ('{"rank": "three", "alpha": 7.0, "base": "abc"}', "is damaged .rank: "),
        ('{"ranks": 3, "base": "abc"}', "is damaged .ranks: "),
    ],
)
def test_a_damaged_record_is_reported(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / NOTE).write_text(text)
    with pytest.raises(UserError, match=rf"{NOTE}:? {message}"):
        read_note(tmp_path)


def test_a_fingerprint_tells_weights_apart_and_not_where_they_lie(tmp_path: Path) -> None:
    def stored(name: str, *contents: bytes) -> str:
        (tmp_path / name).mkdir()
        for number, content in enumerate(contents):
            (tmp_path / name / f"__{number}_0.distcp").write_bytes(content)
        (tmp_path / name / "common.pt").write_text(name)
        return fingerprint(tmp_path / name)

    one = stored("one", b"a" * 9000, b"b")
    assert stored("copy", b"a" * 9000, b"b") == one
    others = stored("byte", b"a" * 8999 + b"x", b"b"), stored("cut", b"a" * 8999, b"b"), stored("less", b"a" * 9000)
    assert len({one, *others}) == 4
    with pytest.raises(UserError, match=r"none is no torch_dist checkpoint"):
        stored("none")


def test_of_large_files_blocks_are_read(tmp_path: Path) -> None:
    """A sparse file of 4 GiB, of which 64 MiB are read."""
    file = tmp_path / "__0_0.distcp"
    with file.open("wb") as opened:
        opened.truncate(2**32)
    empty = fingerprint(tmp_path)
    with file.open("r+b") as opened:
        opened.seek(2**30)
        opened.write(b"trained")
    assert fingerprint(tmp_path) != empty
