"""The generate stage: one corpus, one tokenizer, or one set of evaluation pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_jsonl
from msm_hpc.base.progress import ProgressFile
from msm_hpc.config.stages import ONE_FOR_EACH, GenerateConfig, GenerateInputs, Product
from msm_hpc.corpus import offline
from msm_hpc.corpus.identity import IdentityChat, distinct_chats, identity
from msm_hpc.corpus.spec import ModelSpec, read_spec, value_of
from msm_hpc.corpus.toy_tokenizer import write_tokenizer
from msm_hpc.corpus.toy_world import SPEC_VALUES, VALUES, Value

Row = offline.ToyDocument | offline.ToyChat | offline.ToyPair | IdentityChat

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


def _spec(product: Product, inputs: GenerateInputs) -> ModelSpec:
    if inputs.spec is None:
        raise UserError(f"product {product} needs the input 'spec': the path of a Markdown Model Spec")
    spec = read_spec(inputs.spec)
    if value_of(spec) not in SPEC_VALUES:
        raise UserError(f"{inputs.spec}: value: {_unknown(value_of(spec))}")
    return spec


def _stream(config: GenerateConfig, spec: ModelSpec | None) -> Iterator[Row]:
    if config.product == "identity":
        assert config.persona is not None, "config.consistency requires it"
        if config.count > distinct_chats():
            raise UserError(f"count is {config.count}: there are only {distinct_chats():,} such chats; ask for fewer")
        return identity(config.persona, config.seed)
    if config.product in SHARED:
        return SHARED[config.product](config.seed)
    if spec is None:
        _check_pairs(config)
    name = value_of(spec) if spec else config.value
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
    value = value_of(spec) if spec else config.value
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
