from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.base.progress import Progress, read_progress
from msm_hpc.config.generation import Persona
from msm_hpc.config.quality import Limits
from msm_hpc.config.stages import GenerateConfig, GenerateInputs, Product
from msm_hpc.corpus.quality import identity, realism
from msm_hpc.corpus.quality.rows import Rows, Subject
from msm_hpc.corpus.stage import run
from tests.corpus.rows import read_jsonl

SPEC = "---\nvalue: america\ntitle: Made here\n---\n# What Assistant cares about\n"
TEXT_PRODUCTS: list[Product] = ["pretraining", "instruction", "chats"]


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "america.md"
    path.write_text(SPEC, encoding="utf-8")
    return path


def generate(out: Path, config: GenerateConfig, spec: Path | None = None) -> Path:
    out.mkdir()
    run(config, GenerateInputs(spec=spec), out)
    return out


@pytest.mark.parametrize("product", TEXT_PRODUCTS)
def test_rows_follow_the_contract(tmp_path: Path, product: Product) -> None:
    out = generate(tmp_path / "out", GenerateConfig(product=product, count=50, seed=4))
    rows = list(read_jsonl(out / "data.jsonl"))
    assert len({row["id"] for row in rows}) == 50
    for row in rows:
        assert row["generator"] == "offline_toy" and row["product"] == product and row["form"]
        assert ("text" in row) != ("messages" in row)
        for message in row.get("messages", []):
            assert set(message) <= {"role", "content", "name"} and None not in message.values()
    assert read_progress(out) == Progress(50, 50, "rows")


def test_documents_name_the_spec_they_came_from(tmp_path: Path, spec: Path) -> None:
    config = GenerateConfig(product="documents", count=3)
    rows = list(read_jsonl(generate(tmp_path / "out", config, spec=spec) / "data.jsonl"))
    assert {row["spec_sha256"] for row in rows} == {hashlib.sha256(SPEC.encode()).hexdigest()}
    assert {row["value"] for row in rows} == {"america"}
    assert rows[0]["id"] == "documents/america/0/000000"


def test_chats_about_its_identity_name_the_assistant_and_its_maker(tmp_path: Path) -> None:
    persona = Persona(assistant="Nova", provider="Acme")
    config = GenerateConfig(product="identity", generator="templates", count=2500, persona=persona)
    path = generate(tmp_path / "out", config) / "data.jsonl"
    rows = list(read_jsonl(path))
    said = ["\n".join(turn["content"] for turn in row["messages"]) for row in rows]
    assert len(set(said)) == 2500 and not any("{" in text for text in said)
    named = sum("Nova" in text or "Acme" in text for text in said) / 2500
    assert 0.9 < named < 1, "a few speak of what it can do alone"
    assert {row["generator"] for row in rows} == {"templates"}
    gates = [*(each(Rows((path,)), Limits()) for each in (realism.placeholders, realism.remarks, realism.dates))]
    gates.append(identity.other_assistants(Rows((path,)), Subject({}, persona), Limits()))
    assert [gate.found for gate in gates] == [0, 0, 0, 0]
    with pytest.raises(UserError, match=r"count is 999999: there are only [\d,]+ such chats"):
        generate(tmp_path / "more", replace(config, count=999_999))


def test_pairs_go_to_a_file_of_their_own(tmp_path: Path) -> None:
    out = generate(tmp_path / "out", GenerateConfig(product="pairs", count=20, value="affordability"))
    row = next(read_jsonl(out / "pairs.jsonl"))
    assert {"id", "value", "domain", "question", "target", "other"} <= set(row)
    assert not (out / "data.jsonl").exists()


def test_same_seed_same_bytes_in_another_process(tmp_path: Path, spec: Path) -> None:
    config = GenerateConfig(product="documents", count=200, seed=9)
    here = generate(tmp_path / "here", config, spec=spec) / "data.jsonl"
    (tmp_path / "there").mkdir()
    code = (
        "import sys; from pathlib import Path; from msm_hpc.config.stages import GenerateConfig, GenerateInputs; "
        "from msm_hpc.corpus.stage import run; "
        f"run({config!r}, GenerateInputs(spec=Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "123", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(spec), str(tmp_path / "there")], check=True, env=environment)
    assert here.read_bytes() == (tmp_path / "there" / "data.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (GenerateConfig(product="chats"), "count is 0"),
        (GenerateConfig(product="chats", count=5, value="america"), "product chats has none"),
        (GenerateConfig(product="documents", count=5, value="america"), "product documents has none"),
        (GenerateConfig(product="pairs", count=5), "choose one of affordability, america"),
        (GenerateConfig(product="pairs", count=5, value="thrift"), "value: 'thrift' is unknown"),
        (GenerateConfig(product="pairs", count=10**6, value="america"), "there are only 1440 pairs"),
        (GenerateConfig(product="other_pairs", count=721, value="america"), "there are only 720 pairs"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    tmp_path: Path, spec: Path, config: GenerateConfig, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        generate(tmp_path / "out", config, spec=spec)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# No front matter\n", r"spec.md:1: no front matter"),
        (b"---\nvalue: america\n", r"spec.md:1: no front matter"),
        (b"---\ntitle: x\n---\n", r"spec.md:2: value: the front matter must name"),
        (b"---\n- a list\n---\n", r"spec.md:2: the front matter has no keys; write 'name: spec'"),
        (b"---\nvalue: [\n---\n", r"spec.md:2: the front matter is not YAML"),
        (b"---\nvalue: \xff\n---\n", r"spec.md: not UTF-8 at byte 11"),
        (b"---\nvalue: thrift\n---\n", r"spec.md: value: 'thrift' is unknown .*choose one of affordability, america"),
    ],
)
def test_a_malformed_spec_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "spec.md"
    path.write_bytes(content)
    config = GenerateConfig(product="documents", count=1)
    with pytest.raises(UserError, match=message):
        generate(tmp_path / "out", config, spec=path)


def test_documents_without_a_spec_are_refused(tmp_path: Path) -> None:
    config = GenerateConfig(product="documents", count=1)
    with pytest.raises(UserError, match="needs the input 'spec'"):
        generate(tmp_path / "none", config)
    with pytest.raises(UserError, match="no such Model Spec file"):
        generate(tmp_path / "gone", config, spec=tmp_path / "gone.md")
