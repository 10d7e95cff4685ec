from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.conversion.files import model_files


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in model_files(folder)]


def test_what_transformers_reads_and_nothing_else(tmp_path: Path) -> None:
    read = ["chat_template.jinja", "config.json", "merges.txt", "model-1.safetensors", "model-2.safetensors"]
    read += ["model.safetensors.index.json", "tokenizer.json", "tokenizer.model"]
    unread = ["README.md", ".gitattributes", "pytorch_model.bin", "optimizer.pt", "model.gguf", "original/model.json"]
    assert names(fill(tmp_path, *read, *unread)) == read


def test_one_format_of_weights_counts(tmp_path: Path) -> None:
    fill(tmp_path, "config.json", "pytorch_model-1.bin", "training_args.bin", "a.gguf", "b.gguf")
    assert names(tmp_path) == ["config.json", "pytorch_model-1.bin"]


def test_saved_by_transformers(tmp_path: Path) -> None:
    from tests.conversion.models import make_model

    found = names(make_model(tmp_path))
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(found)
    assert {path.name for path in tmp_path.iterdir()} == set(found), "nothing that was saved is left out"


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    from msm_hpc.conversion.hf_model import open_model

    fill(tmp_path, "adapter_model.safetensors", "config.json", "tokenizer.json")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "acme/llama", "r": 64}')
    for read in (model_files, open_model):
        with pytest.raises(
            UserError, match=r"holds an adapter of acme/llama, not a model: merge the two.*merge_and_unl"
        ):
            read(tmp_path)
    assert "model.safetensors" in names(fill(tmp_path, "model.safetensors")), "with all weights it is one"


def test_a_damaged_description_of_an_adapter_is_reported(tmp_path: Path) -> None:
    fill(tmp_path, "adapter_model.safetensors", "adapter_config.json")
    with pytest.raises(UserError, match=r"adapter_config\.json: not valid JSON"):
        model_files(tmp_path)


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no weights: none of \*\.safetensors"):
        model_files(fill(tmp_path, "config.json", "a.gguf"))
    with pytest.raises(UserError, match="nowhere has no weights"):
        model_files(tmp_path / "nowhere")


def test_listing_imports_nothing_heavy() -> None:
    code = "import sys, msm_hpc.conversion.files; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
