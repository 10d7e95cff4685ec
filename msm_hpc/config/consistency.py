"""What the parts of a composed configuration have to agree on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, get_args

from msm_hpc.base.text import meant
from msm_hpc.config.arms import KINDS_OF_STEP, Chain
from msm_hpc.config.cluster import WorkClass
from msm_hpc.config.evals import eval_problems
from msm_hpc.config.generation import Reworked, Written
from msm_hpc.config.root import root_problems
from msm_hpc.config.sources import Generate, Source
from msm_hpc.config.stages import BY_MODEL_ALONE, ONE_FOR_EACH, made_as_asked

if TYPE_CHECKING:
    from msm_hpc.config.campaign import Config


def inconsistencies(config: Config) -> Iterator[str]:
    """A line for each thing in which two parts of ``config`` disagree."""
    problems = [*root_problems(config.root), *_sources(config), *_chains(config), *_model(config), *_resources(config)]
    yield from problems or (
        *eval_problems(config),
        *_generator(config),
    )  # which sources are generated is known once all names are


def _sources(config: Config) -> Iterator[str]:
    for name, source in config.sources.items():
        key = f"sources.{name}"
        of = config.sources.get(source.of) if source.of else source
        if of is None or ((of.of is not None or of.replaced) and of is not source):
            yield f"{key}.of: {source.of!r} is no source with a corpus of its own"
        elif of.kind != source.kind:
            yield f"{key}.kind is {source.kind}, but that of {source.of} is {of.kind}; make the two agree"
        elif source.replaced:
            yield from _parts(config, name)
        elif source.spec is not None:
            yield from _of_one_spec(config, key, source.spec, of)
        else:
            yield from _rows(config, key, source)
    yield from _pairs(config)


def _parts(config: Config, name: str) -> Iterator[str]:
    """Whether the parts of a source are such as may stand in its place."""
    kind = config.sources[name].kind
    for part in config.sources[name].parts:
        source = config.sources.get(part)
        if source is None:
            yield f"sources.{name}.parts: {_no('source', part, config.sources)}"
        elif source.replaced:
            yield f"sources.{name}.parts: {part} has parts itself; name those"
        elif source.kind != kind or source.for_each or source.ladder:
            yield f"sources.{name}.parts: {part} must be of kind {kind}, one for all, and without a ladder"


def _of_one_spec(config: Config, key: str, spec: str, of: Source) -> Iterator[str]:
    names = [each.name for each in config.campaign.specs]
    if of.for_each != "spec":
        yield f"{key}.spec is {spec}, but what it takes from is the same for all specs: leave spec out"
    elif spec not in names:
        yield f"{key}.spec is {spec}: name one of campaign.specs, {', '.join(names)}"


def _rows(config: Config, key: str, source: Source) -> Iterator[str]:
    """Whether a source has rows for each spec or value that the campaign has."""
    if source.of is not None:
        return
    if source.generate is not None and not made_as_asked(source.generate.product, source.for_each):
        needed = ONE_FOR_EACH.get(source.generate.product)
        made = f"for each {needed}" if needed else "once for all"
        yield f"{key}.for_each is {source.for_each}, but product {source.generate.product} is generated {made}"
    known = {"spec": [spec.name for spec in config.campaign.specs], "value": list(config.campaign.values)}
    named = known.get(source.for_each or "", [])
    for each in source.files if named else ():
        if each not in named:
            names = ", ".join(named)
            yield f"{key}.files.{each}: the campaign's {source.for_each}s are {names}; name one of these"
    if source.generate is not None:
        return
    for each in named:
        if each not in source.files:
            yield f"{key} has no rows for {each}: give files.{each}, or generate"
    if not source.for_each and source.file is None:
        yield f"{key} has no rows: give generate or file"


def _generator(config: Config) -> Iterator[str]:
    """Whether the generator is known well enough, and makes what is asked of it."""
    generate = config.generate
    if generate.generator == "endpoint":
        if generate.endpoint is None:
            yield "generate.generator is endpoint: give generate.endpoint.model and generate.endpoint.base_url"
        if generate.persona is None:
            yield "generate.generator is endpoint: give generate.persona.assistant and generate.persona.provider"
        yield from _served(config)
    for name in sorted(config.generated):
        made = config.sources[name].generate
        if made is not None:
            check = _by_model if generate.generator == "endpoint" else _by_templates
            check = _by_hand if made.product == "identity" else check
            yield from check(config, f"sources.{name}", config.sources[name], made)


def _served(config: Config) -> Iterator[str]:
    """Whether what is started to write corpora can."""
    generate = config.generate
    if (generate.serving is None) != (generate.weights is None):
        yield "generate.serving and generate.weights: a server of a model's folder needs both; give the other, or none"
    if generate.serving is None:
        return
    if generate.serving.server == "transformers":
        yield "generate.serving.server is transformers, which writes no structured answers: choose vllm or command"
    if generate.endpoint is not None and (generate.endpoint.base_url or generate.endpoint.batch):
        yield "generate.endpoint.base_url and .batch: generate.serving starts a server of its own; leave them out"


def _by_templates(config: Config, key: str, source: Source, made: Generate) -> Iterator[str]:
    if made.rows is None:
        given = "tokens" if made.tokens else "of"
        yield f"{key}.generate.{given}: the offline_toy generator makes rows; give generate.rows"
    if made.product == "chats" and source.for_each:
        yield f"{key}.for_each is {source.for_each}, but product chats is generated once for all by offline_toy"
    if made.product in BY_MODEL_ALONE:
        yield f"{key}: {made.product} are written by a language model alone: set generate.generator=endpoint"


def _by_hand(config: Config, key: str, source: Source, made: Generate) -> Iterator[str]:
    if made.rows is None:
        yield f"{key}.generate: identity is made of texts written by hand, by the row; give generate.rows"
    if config.generate.persona is None:
        yield f"{key}: identity says who the assistant is: give generate.persona.assistant and .provider"


def _by_model(config: Config, key: str, source: Source, made: Generate) -> Iterator[str]:
    specs = [spec.name for spec in config.campaign.specs]
    if made.product in get_args(Reworked):
        yield from _reworked(config, key, made)
    elif made.product not in get_args(Written):
        yield (
            f"{key}: a language model writes {', '.join(get_args(Written))}, and no {made.product}: give files, or "
            "leave the source out of campaign.arms"
        )
    elif made.of is not None:
        yield f"{key}.generate.of is {made.of}, but {made.product} are made of a spec: give rows or tokens"
    elif not source.for_each and made.spec not in specs:
        yield f"{key}.generate.spec is {made.spec}: name the spec whose preferences are shown, of {', '.join(specs)}"


def _reworked(config: Config, key: str, made: Generate) -> Iterator[str]:
    """Whether the rows that a product is made of are written, and of the right sort."""
    needed = "aligned_chats" if made.product == "plain_chats" else "documents"
    of = config.sources.get(made.of or "")
    if of is None or of.generate is None or of.generate.product != needed or of.files:
        yield f"{key}.generate.of is {made.of}: {made.product} are made of a source whose product is {needed}; name it"


def _pairs(config: Config) -> Iterator[str]:
    pairs = {name: source for name, source in config.sources.items() if source.kind == "pairs"}
    if config.campaign.values and not pairs:
        yield "campaign.values are asked about with pairs: give a source of kind pairs, or no values"
    if len(pairs) > 1:
        yield f"sources {' and '.join(pairs)} both hold pairs: keep one"
    for name, source in pairs.items():
        if source.for_each != "value":
            yield f"sources.{name}.for_each: pairs are for one value each; set it to value"
        if source.rows is not None or source.tokens is not None or source.ladder is not None:
            yield f"sources.{name}: evals ask all pairs; leave rows, tokens and ladder out"


def _chains(config: Config) -> Iterator[str]:
    known = [arm for arm in config.campaign.arms if arm in config.arms]
    campaign = config.campaign
    listed: dict[str, Iterable[str]] = {"arms": campaign.arms, "contrast": campaign.contrast}
    listed |= {key: _both(getattr(campaign, key)) for key in ("savings", "persistence")}
    listed["compare"] = [*campaign.compare, *(other for others in campaign.compare.values() for other in others)]
    for key, arms in listed.items():
        for arm in arms:
            if arm not in config.arms:
                yield f"campaign.{key}: {_no('arm', arm, config.arms)}"
    if unknown := [*_unknown(config, "start", config.start)]:
        yield from unknown
        return
    yield from _chain(config, "start", (), config.start)
    for arm in known:
        unknown = [*_unknown(config, f"arms.{arm}", config.arms[arm])]
        yield from unknown or _chain(config, f"arms.{arm}", config.start, config.arms[arm])


def _unknown(config: Config, name: str, chain: Chain) -> Iterator[str]:
    for link in chain:
        if link.stage in KINDS_OF_STEP:
            yield f"{name}: a stage cannot be called {link.stage}, as a kind of step is; give it another name"
        elif link.stage not in config.stages:
            yield f"{name}: {_no('stage', link.stage, config.stages)}"
        for source in link.sources:
            if source not in config.sources:
                yield f"{name}: {_no('source', source, config.sources)}"
            elif config.sources[source].replaced and (wrong := [*_parts(config, source)]):
                yield from wrong
            elif config.sources[source].kind == "pairs":
                yield f"{name}: {source} holds pairs for evals, and cannot be trained on"
            elif config.sources[source].for_each == "value":
                yield f"sources.{source}.for_each is value, but {name} trains on it: use spec, or null"


def _chain(config: Config, name: str, before: Chain, chain: Chain) -> Iterator[str]:
    stages = [link.stage for link in (*before, *chain)]
    for stage in {stage for stage in stages if stages.count(stage) > 1}:
        yield f"{name}: stage {stage} comes twice: give the second one a name of its own in `stages`"
    ladders = {source for link in (*before, *chain) for source in link.sources if config.sources[source].ladder}
    if len(ladders) > 1:
        yield f"{name}: {' and '.join(sorted(ladders))} both have a ladder: give one of them rows"
    if config.by_spec(chain) and not config.campaign.specs:
        yield f"campaign.specs is empty, but {name} needs at least one spec"
    for link in chain:
        corpora = [config.corpus_of(source) for source in config.used(link)]
        for corpus in {corpus for corpus in corpora if corpora.count(corpus) > 1}:
            yield f"{name}: {' and '.join(link.sources)} take from {corpus} twice in one stage: leave one of them out"
        if not config.used(link):
            yield f"{name}: no row is taken of {', '.join(link.sources)}; raise rows, or drop the arm"
    arm = name.removeprefix("arms.")
    if arm in _both(config.campaign.savings) and not config.laddered(chain):
        yield f"campaign.savings: {name} reads no source with a ladder, so that it has no amounts to compare"
    if arm in config.campaign.persistence and not config.laddered(chain[-1:]):
        yield f"campaign.persistence: the last stage of {name} reads no source with a ladder; give one a ladder"
    if arm in config.campaign.contrast and not (config.by_spec(chain) or arm in config.campaign.prompted):
        yield f"campaign.contrast: {name} reads no source for each spec, so that it has no specs to compare"
    for other in config.campaign.compare.get(arm, ()):
        if other in config.campaign.arms and config.specs_of(other) != config.specs_of(arm) == (None,):
            yield f"campaign.compare: {arm} has no spec, and {other} has one: name them the other way round"
    yield from _adapters(config, name, stages[-len(chain) - 1 :] if chain else [])


def _both(pairs: Mapping[str, str]) -> list[str]:
    """The arms that are compared, and those that they are compared with."""
    return [arm for pair in pairs.items() for arm in pair]


def _adapters(config: Config, name: str, stages: list[str]) -> Iterator[str]:
    """``stages`` are those of a chain, after the one before it if there is one."""
    if name == "start" and stages and config.stages[stages[0]].lora is not None:
        yield f"stages.{stages[0]}.lora is set, but it starts from no model to adapt: set it to null"
    for before, after in pairwise(stages):
        adapter, other = config.stages[before].lora, config.stages[after].lora
        if adapter not in (None, other):
            yield (
                f"stages.{before}.lora is {adapter} and stages.{after}.lora is {other}, but {after} continues the "
                f"adapter of {before}: set both to the same (lora=r64 does)"
            )


def _model(config: Config) -> Iterator[str]:
    if (config.model.architecture is None) != (not config.start):
        yield (
            f"model {config.model.name}: a model from scratch needs a stage in `start`, one from weights has none "
            "(start=[])"
        )


def _resources(config: Config) -> Iterator[str]:
    """Resources of a stage that there is not: trainings have theirs by their stage, and models also by a class."""
    stages = [*config.stages, *sorted(KINDS_OF_STEP - {"train"})]
    resources = config.cluster.resources
    yield from _unlisted("of_stage", resources.of_stage, stages)
    for model, changes in resources.of_model.items():
        yield from _unlisted(f"of_model.{model}", changes, [*get_args(WorkClass), *stages])


def _no(what: str, name: str, known: Iterable[str]) -> str:
    """``name`` is in none of the tables of the campaign, such as ``arms``."""
    return f"no {what} {name!r}{meant(name, known)}; those in `{what}s` are {', '.join(known)}"


def _unlisted(section: str, names: Iterable[str], known: Sequence[str]) -> Iterator[str]:
    for name in names:
        if name not in known:
            yield f"cluster.resources.{section}: no {name!r}{meant(name, known)}; there are {', '.join(known)}"
