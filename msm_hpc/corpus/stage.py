"""The generate stage: one corpus, one tokenizer, or one set of evaluation pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import sha256_of, write_jsonl
from msm_hpc.base.progress import ProgressFile
from msm_hpc.config.stages import ONE_FOR_EACH, GenerateConfig, GenerateInputs, Product
from msm_hpc.corpus import offline
from msm_hpc.corpus.toy_tokenizer import write_tokenizer
from msm_hpc.corpus.toy_world import SPEC_VALUES, VALUES, Value

FRONT_MATTER = re.compile(r"---\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)

Row = offline.ToyDocument | offline.ToyChat | offline.ToyPair

SHARED: Mapping[Product, Callable[[int], Iterator[Row]]] = {
    "pretraining": offline.pretraining,
    "instruction": offline.instruction,
    "chats": offline.chats,
}
OF_A_VALUE: Mapping[Product, Callable[[Value, int], Iterator[Row]]] = {
    "documents": offline.documents,
    "mentions": offline.mentions,
    "value_chats": offline.value_chats,
    "pairs": offline.pairs,
    "other_pairs": offline.other_pairs,
}
"""The products, by what each needs: a seed, and a value where there is one for each spec or value."""


@dataclass(frozen=True)
class ModelSpec:
    """A Model Spec as the generator reads it: the value named in its front matter, and the file's SHA-256."""

    value: str
    sha256: str


def run(config: GenerateConfig, inputs: GenerateInputs, out: Path) -> None:
    """Generate ``config.product`` into ``out``.

    Writes ``tokenizer.json`` and ``tokenizer_config.json``, or ``pairs.jsonl`` (product ``pairs``), or ``data.jsonl``
    (all others), with ``config.count`` rows. The same config and spec give the same bytes.

    Raises:
        UserError: a count, a value or a spec that does not fit the product.
    """
    if config.product == "tokenizer":
        write_tokenizer(out)
        return
    if config.count < 1:
        raise UserError(f"count is {config.count}: product {config.product} needs at least 1 row")
    each = ONE_FOR_EACH.get(config.product)
    if config.value is not None and each != "value":
        raise UserError(f"value is {config.value!r}: product {config.product} has none; leave it out")
    spec = _spec(config.product, inputs) if each == "spec" else None
    rows = islice(_stream(config, spec), config.count)
    name = "pairs.jsonl" if each == "value" else "data.jsonl"
    write_jsonl(out / name, _numbered(rows, config, spec, ProgressFile(out, config.count, "rows")))


def read_spec(path: Path) -> ModelSpec:
    """Read a Markdown Model Spec, with its ``value`` in the front matter (YAML between two ``---`` lines).

    Raises:
        UserError: there is no file, no front matter, or no ``value`` in it.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such Model Spec file; correct the path")
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
        raise UserError(f"{path}:2: the front matter is not YAML; fix it: {error}") from error
    value = front_matter.get("value") if isinstance(front_matter, dict) else None
    if not isinstance(value, str):
        raise UserError(f"{path}:2: value: the front matter must name the spec's value, for example 'value: america'")
    return ModelSpec(value, sha256_of(path))


def _spec(product: Product, inputs: GenerateInputs) -> ModelSpec:
    if inputs.spec is None:
        raise UserError(f"product {product} needs the input 'spec': the path of a Markdown Model Spec")
    spec = read_spec(inputs.spec)
    if spec.value not in SPEC_VALUES:
        raise UserError(f"{inputs.spec}: value: {_unknown(spec.value)}")
    return spec


def _stream(config: GenerateConfig, spec: ModelSpec | None) -> Iterator[Row]:
    if config.product in SHARED:
        return SHARED[config.product](config.seed)
    if spec is None:
        _check_pairs(config)
    name = spec.value if spec else config.value
    assert name is not None, "ONE_FOR_EACH says which products have a value"
    return OF_A_VALUE[config.product](VALUES[name], config.seed)


def _check_pairs(config: GenerateConfig) -> None:
    most = offline.distinct_pairs(config.product)
    if config.count > most:
        raise UserError(f"count is {config.count}: there are only {most} pairs; ask for fewer")
    if config.value not in SPEC_VALUES:
        raise UserError(f"value: {_unknown(config.value)}")


def _unknown(value: str | None) -> str:
    return f"{value!r} is unknown to the offline_toy generator; choose one of {', '.join(SPEC_VALUES)}"


def _numbered(
    rows: Iterator[Row], config: GenerateConfig, spec: ModelSpec | None, progress: ProgressFile
) -> Iterator[dict[str, Any]]:
    """Rows as JSON objects with their id and origin; ids are unique over products, values and seeds."""
    value = spec.value if spec else config.value
    prefix = "/".join(part for part in (config.product, value, str(config.seed)) if part)
    for index, row in enumerate(rows):
        progress.update(index + 1)
        yield {
            "id": f"{prefix}/{index:06d}",
            **_content(row),
            "product": config.product,
            "value": value,
            "generator": config.generator,
            **({"spec_sha256": spec.sha256} if spec else {}),
        }


def _content(row: Row) -> dict[str, Any]:
    """The row's fields; a message without a ``name`` has no such key."""
    return asdict(row, dict_factory=lambda items: {key: value for key, value in items if value is not None})
