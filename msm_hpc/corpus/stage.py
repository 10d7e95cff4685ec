"""The generate stage: one corpus, one tokenizer, or one set of evaluation pairs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_jsonl
from msm_hpc.base.progress import ProgressFile
from msm_hpc.config.stages import GenerateConfig
from msm_hpc.corpus import offline
from msm_hpc.corpus.toy_tokenizer import write_tokenizer
from msm_hpc.corpus.toy_world import SPEC_VALUES, VALUES, Value

FRONT_MATTER = re.compile(r"---\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
VALUE_PRODUCTS = ("documents", "pairs")

Row = offline.Document | offline.Chat | offline.Pair


@dataclass(frozen=True)
class Spec:
    """What the generator needs of a Model Spec: the value that its front matter names, and the file's SHA-256."""

    value: str
    sha256: str


def run(config: GenerateConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """Generate ``config.product`` into ``out``.

    Writes ``tokenizer.json`` and ``tokenizer_config.json``, or ``pairs.jsonl`` (product ``pairs``), or ``data.jsonl``
    (all others), with ``config.count`` rows. The same config and spec give the same bytes.

    Args:
        config: what to generate.
        inputs: ``spec``, the Model Spec file, where the product is ``documents``.
        out: an existing folder.

    Raises:
        UserError: a count, a value or a spec that does not fit the product.
    """
    if config.product == "tokenizer":
        write_tokenizer(out)
        return
    if config.count < 1:
        raise UserError(f"generate.count is {config.count}: product {config.product} needs at least 1 row")
    if config.value is not None and config.product not in VALUE_PRODUCTS:
        raise UserError(f"generate.value is {config.value!r}: product {config.product} has none; leave it out")
    spec = _spec_for(config, inputs) if config.product == "documents" else None
    rows = islice(_stream(config), config.count)
    name = "pairs.jsonl" if config.product == "pairs" else "data.jsonl"
    write_jsonl(out / name, _numbered(rows, config, spec, ProgressFile(out, config.count, "rows")))


def read_spec(path: Path) -> Spec:
    """Read the ``value`` in the front matter (YAML between two ``---`` lines) of a Markdown Model Spec.

    Raises:
        UserError: there is no file, no front matter, or no ``value`` in it.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such Model Spec file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the Model Spec as UTF-8") from error
    match = FRONT_MATTER.match(text)
    if match is None:
        raise UserError(f"{path}:1: no front matter; begin the file with lines '---', 'value: affordability', '---'")
    try:
        front_matter = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        raise UserError(f"{path}:2: the front matter is not YAML: {error}") from error
    value = front_matter.get("value") if isinstance(front_matter, dict) else None
    if not isinstance(value, str):
        raise UserError(f"{path}:2: value: the front matter must name the spec's value, for example 'value: america'")
    return Spec(value, hashlib.sha256(path.read_bytes()).hexdigest())


def _stream(config: GenerateConfig) -> Iterator[Row]:
    match config.product:
        case "pretraining":
            return offline.pretraining(config.seed)
        case "instruction":
            return offline.instruction(config.seed)
        case "chats":
            return offline.chats(config.seed)
        case "documents":
            return offline.documents(_value_of(config), config.seed)
        case "pairs":
            if config.count > offline.distinct_pairs():
                raise UserError(f"generate.count is {config.count}: there are only {offline.distinct_pairs()} pairs")
            return offline.pairs(_value_of(config), config.seed)
        case "tokenizer":
            raise AssertionError("not a stream")


def _value_of(config: GenerateConfig) -> Value:
    if config.value not in SPEC_VALUES:
        raise UserError(
            f"generate.value is {config.value!r}: product {config.product} of the offline_toy generator "
            f"needs one of {', '.join(SPEC_VALUES)}"
        )
    return VALUES[config.value]


def _spec_for(config: GenerateConfig, inputs: Mapping[str, Path]) -> Spec:
    if "spec" not in inputs:
        raise UserError("product documents needs the input 'spec': the path of a Markdown Model Spec")
    spec = read_spec(inputs["spec"])
    if spec.value != config.value:
        raise UserError(
            f"{inputs['spec']}: value: the spec names {spec.value!r}, but generate.value is {config.value!r}; "
            "make the two agree"
        )
    return spec


def _numbered(
    rows: Iterator[Row], config: GenerateConfig, spec: Spec | None, progress: ProgressFile
) -> Iterator[dict[str, Any]]:
    """Rows as JSON objects with an id and where they come from; the id is unique over products, values and seeds."""
    prefix = "/".join(part for part in (config.product, config.value, str(config.seed)) if part)
    for index, row in enumerate(rows):
        progress.update(index + 1)
        yield {
            "id": f"{prefix}/{index:06d}",
            **_content(row),
            "product": config.product,
            "value": config.value,
            "generator": config.generator,
            **({"spec_sha256": spec.sha256} if spec else {}),
        }


def _content(row: Row) -> dict[str, Any]:
    """The row's fields; a message without a ``name`` has no such key."""
    return asdict(row, dict_factory=lambda items: {key: value for key, value in items if value is not None})
