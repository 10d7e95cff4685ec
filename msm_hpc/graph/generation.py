"""The steps in which a language model writes a corpus: an outline, the writing, and an audit of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import cast, get_args

from msm_hpc.config.campaign import GenerateSection
from msm_hpc.config.generation import OutlineConfig, Reworked, WriteConfig, Written
from msm_hpc.config.quality import AuditConfig, Quality
from msm_hpc.config.sources import Generate
from msm_hpc.config.stages import GenerateConfig, Product
from msm_hpc.corpus.counts import items_for
from msm_hpc.corpus.prompts import IDENTITY, OUTLINE, WRITE, hash_of
from msm_hpc.graph.steps import File, Inputs, Origin, Step

Served = Mapping[str, File]
"""The weights of the model that is served, as ``model``; empty where none is."""


def written(label: str, generate: Generate, section: GenerateSection, spec: File, served: Served) -> Step:
    """The step whose output is the corpus that an outline plans."""
    outline = outlined(label, generate, section, spec, served)
    return _writing(label, generate, section, {"spec": spec, "outline": outline, **served})


def reworked(label: str, generate: Generate, section: GenerateSection, spec: File, rows: Step, served: Served) -> Step:
    """The step whose output is made of the corpus ``rows``."""
    if generate.product == "plain_chats":  # without a language model
        section, served = dataclasses.replace(section, serving=None), {}
    return _writing(label, generate, section, {"spec": spec, "rows": rows, **served})


def about_itself(label: str, generate: Generate, section: GenerateSection) -> Step:
    """The step whose output is chats about the assistant's identity; no model is asked."""
    config = GenerateConfig(
        product=generate.product,
        generator="templates",
        count=generate.rows or 0,
        seed=section.seed,
        persona=section.persona,
        texts=hash_of((IDENTITY,)),
    )
    return Step("generate", label, config, {})


def audited(write: Step, quality: Quality, items: Mapping[str, Origin], embeddings: File | None) -> Step:
    """The step that looks over what was written: what would train on it is made after that."""
    inputs: dict[str, Origin | Mapping[str, Origin]] = {"corpus": write, "spec": cast(File, write.inputs["spec"])}
    inputs |= {"items": items} if items else {}
    inputs |= {"embeddings": embeddings} if embeddings else {}
    config = AuditConfig(persona=write.config.persona, on_gates=quality.on_gates, limits=quality.limits)
    return Step("audit", write.label, config, inputs)


def _writing(label: str, generate: Generate, section: GenerateSection, inputs: Inputs) -> Step:
    return Step("write", label, _write_config(generate.product, section), inputs)


def outlined(label: str, generate: Generate, section: GenerateSection, spec: File, served: Served) -> Step:
    """The step that plans what is written, with some to spare for what will be rejected."""
    writing, product = section.writing, _product(generate)
    tokens = generate.tokens or (generate.rows or 0) * writing.document_tokens
    assert section.endpoint is not None and section.persona is not None, "config.consistency has seen to it"
    config = OutlineConfig(
        product=product,
        endpoint=section.endpoint,
        serving=section.serving,
        persona=section.persona,
        items=items_for(tokens, writing.document_tokens, writing.spare),
        types=writing.types if product == "documents" else 0,
        temperature=writing.temperature,
        reply_tokens=writing.reply_tokens,
        prompts=hash_of(OUTLINE[product]),
        seed=section.seed,
    )
    return Step("outline", label, config, {"spec": spec, **served})


def _write_config(product: Product, section: GenerateSection) -> WriteConfig:
    writing = section.writing
    assert section.endpoint is not None and section.persona is not None, "config.consistency has seen to it"
    assert product in WRITE, "config.consistency has seen to it"
    name = cast(Written | Reworked, product)
    return WriteConfig(
        product=name,
        endpoint=section.endpoint,
        serving=section.serving,
        persona=section.persona,
        document_tokens=writing.document_tokens if product == "documents" else 0,
        revise=writing.revise and product == "documents",
        tries=writing.tries,
        temperature=writing.temperature,
        reply_tokens=writing.reply_tokens,
        prompts=hash_of(WRITE[name]),
        seed=section.seed,
    )


def _product(generate: Generate) -> Written:
    assert generate.product in get_args(Written), "config.consistency has seen to it"
    return cast(Written, generate.product)
