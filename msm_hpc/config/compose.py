"""Overrides in, checked :class:`~msm_hpc.config.campaign.Config` out: Hydra composes, pydantic checks.

The dataclasses of ``config/`` say which keys exist. An override of a key that they do not know is refused with the
nearest ones that they do; ``stages.midtrain.clip_grad=0.5`` works although no file of the tree mentions ``clip_grad``.
A campaign of several models is composed once for each, so that a model's file may choose its own layouts and rates.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from typing_extensions import is_typeddict

from msm_hpc.base.errors import UserError
from msm_hpc.base.text import meant
from msm_hpc.base.typed_json import adapter
from msm_hpc.config.campaign import Config
from msm_hpc.config.root import root_problems
from msm_hpc.config.sources import refuse_twice
from tokenization.reading.hub import DatasetName

GROUPS = ("campaign", "model", "cluster", "precision", "lora", "arms", "source")
NEW = ("+arms.", "+sources.", "+stages.", "+evals.")
"""Overrides that add a name to a table."""
DELETE = "~"
"""Overrides that take a name away."""
DEFAULT_ROOT = "runs"
NEAREST = 3
"""Keys that are offered in the place of an unknown one."""
_PATHS = re.compile(r"""((?:(?:\.file|\.files\.[^.=]+|\.folder|\.embeddings)=|\bfile: *)["']?)([^\s,}\]"']+)""")
"""What in an override is the path of a file or folder: ``sources.chats.file=``, ``{name: mine, file: mine.md}``."""
PACKAGE = Path(__file__).resolve().parent.parent
EACH = "{each}"
"""In the ``file`` of a source, the name of each spec, or value."""
OWN_FOLDER = "MSM_CONFIG"
"""The environment variable that names a folder of your own, searched before the shipped tree."""


def shipped_folder() -> Path:
    """The Hydra tree that is shipped: inside the installed package, or beside it in a checkout."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def own_folder() -> Path | None:
    """The user's own folder of configuration files, laid out like the shipped tree.

    Raises:
        UserError: there is no such folder.
    """
    named = os.environ.get(OWN_FOLDER)
    if not named:
        return None
    folder = Path(named).expanduser().resolve()
    if not folder.is_dir():
        raise UserError(f"{OWN_FOLDER} (--config-dir) is {named}: there is no such folder; correct the path")
    return folder


def find_file(name: str) -> Path:
    """``name``, such as ``spec/america.md``, in the user's own folder or else in the shipped tree."""
    own = own_folder()
    if own is not None and (own / name).is_file():
        return own / name
    return shipped_folder() / name


def choices(group: str) -> list[str]:
    """The names that ``group=NAME`` may choose among: the user's own and the shipped ones."""
    folders = [folder for folder in (own_folder(), shipped_folder()) if folder is not None]
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})


def load_configs(overrides: Sequence[str]) -> tuple[Config, ...]:
    """Compose the tree with Hydra overrides such as ``["campaign=demo", "sources.chats.ladder=[100,200]"]``.

    Returns:
        One configuration for each of ``campaign.models``; an override ``model=NAME`` is that one model alone.

    Raises:
        UserError: an unknown key or choice, a value of the wrong type, or values that do not go together.
    """
    _roots(overrides)
    overrides = [_at_home(override) for override in overrides]
    values = _composed(overrides)
    models = values["campaign"].get("models") or ()
    if not models or any(override.startswith("model=") for override in overrides):
        return (_validated(values),)
    if given := next((each for each in overrides if each.lstrip("+").startswith("model.")), None):
        raise UserError(f"{given} would change all of campaign.models; choose one with model=NAME, or leave it out")
    configs = tuple(_validated(_composed([*overrides, f"model={model}"])) for model in models)
    refuse_twice("campaign.models: model.name", tuple(config.model.name for config in configs))
    for model, config in zip(models, configs, strict=True):
        if (config.cluster, config.root) != (configs[0].cluster, configs[0].root):
            raise UserError(f"model={model} changes cluster or root, but all models of a campaign share them")
    return configs


def _composed(overrides: Sequence[str]) -> dict[str, Any]:
    """The files of the tree that some overrides choose, merged, with what the others put.

    These must be of keys that the schema knows, with the names of stages and sources in those files.
    """
    from msm_hpc.config.hydra_tree import Composed, key_of  # here, as most commands need no Hydra

    keys = {override: key_of(override) for override in overrides}
    choosing = [each for each, key in keys.items() if key in GROUPS or each.startswith((DELETE, *NEW))]
    found = Composed(choosing)
    known = list(_keys(Config, found.values))
    checked = [each if each in choosing else _known(each, keys[each], known) for each in overrides]
    if any(each.startswith(DELETE) for each in choosing):  # in the order in which they are given
        return Composed(checked).values
    for each in checked:
        if each not in choosing:
            found.put(each)
    return found.values


def root_of(overrides: Sequence[str]) -> Path:
    """The root folder that ``overrides`` name, or the default one.

    Raises:
        UserError: it cannot be one.
    """
    root = Path(_roots(overrides)[-1]).expanduser()
    for problem in root_problems(root):
        raise UserError(problem)
    return root


def _roots(overrides: Sequence[str]) -> Sequence[str]:
    """The default root, and those that ``overrides`` name."""
    given = (override.lstrip("+").partition("=") for override in overrides)
    named = [value.strip("\"'") for key, _, value in given if key == "root"]
    if not all(map(str.strip, named)):
        raise UserError("root= names no folder; is it a variable of the shell that is not set? root=. is this one")
    return (DEFAULT_ROOT, *named)


def with_absolute_paths(overrides: Sequence[str]) -> tuple[str, ...]:
    """``overrides`` that mean the same in another folder, without ``root=``."""
    return tuple(
        _PATHS.sub(lambda found: found[1] + str(_absolute(Path(found[2]))), override)
        for override in overrides
        if not override.startswith("root=")
    )


def _validated(values: Mapping[str, Any]) -> Config:
    _spell_out(values)
    try:
        config = adapter(Config).validate_python(values)
    except ValidationError as error:
        known = [name for name in _keys(Config, values) if not name.endswith(".*")]
        raise UserError("\n".join(_explain(dict(problem), known) for problem in error.errors())) from error
    _check_models(config)
    return _located(config)


def _spell_out(values: Mapping[str, Any]) -> None:
    """Each ``file: corpora/{each}.jsonl`` as the ``files`` of all specs, or values, that are not given by name."""
    campaign = values.get("campaign") or {}
    specs = [spec.get("name") for spec in campaign.get("specs") or () if isinstance(spec, Mapping)]
    names = {"spec": specs, "value": campaign.get("values") or ()}
    for source in values.get("sources", {}).values():
        if isinstance(source, dict) and EACH in str(source.get("file")) and source.get("for_each") in names:
            file = source.pop("file")
            named = {str(name): file.replace(EACH, str(name)) for name in names[source["for_each"]]}
            source["files"] = named | (source.get("files") or {})


def _check_models(config: Config) -> None:
    """A profile has words for models of any campaign: they are those that can be chosen, and this one."""
    known = dict.fromkeys((config.model.name, *choices("model")))
    for name in config.cluster.resources.of_model:
        if name not in known:
            raise UserError(
                f"cluster.resources.of_model: no model {name!r}{meant(name, known)}; there are {', '.join(known)}"
            )


def _located(config: Config) -> Config:
    """``config`` with absolute paths, so that it means the same wherever it is read again."""
    specs = (
        replace(spec, file=(spec.file or find_file(f"spec/{spec.name}.md")).absolute())
        for spec in config.campaign.specs
    )
    return replace(
        config,
        campaign=replace(config.campaign, specs=tuple(specs)),
        model=replace(config.model, folder=config.model.folder and _absolute(config.model.folder)),
        serving=replace(config.serving, python=_program(config.serving.python)),
        quality=replace(config.quality, embeddings=config.quality.embeddings and _absolute(config.quality.embeddings)),
        sources={
            name: replace(
                source,
                file=source.file and _absolute(source.file),
                files={each: _absolute(file) for each, file in source.files.items()},
            )
            for name, source in config.sources.items()
        },
    )


def _at_home(override: str) -> str:
    """``key=~/data`` with the home folder, since neither the shell nor Hydra reads ``~`` there."""
    key, sign, value = override.partition("=")
    return f"{key}{sign}{Path(value).expanduser()}" if value.startswith("~/") else override


def _program(python: str) -> str:
    """A path from any folder; a name alone is looked for in PATH."""
    return str(_absolute(Path(python))) if "/" in python else python


def _absolute(file: Path) -> Path:
    """``file`` from any folder; the name of a data set is one already."""
    return file if DatasetName.parse(file) else file.expanduser().absolute()


def _known(override: str, key: str, known: Sequence[str]) -> str:
    """An override with Hydra's add-or-replace sign, if its key is known."""
    free = [name for name in known if name.endswith(".*")]
    if key not in known and not any(key.startswith(name[:-1]) for name in free):
        raise UserError(f"unknown key {key!r}{_nearest(key, [name for name in known if name not in free])}")
    return f"++{override.lstrip('+')}"


def _keys(schema: Any, values: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a dataclass type, parents included.

    A mapping to dataclasses has the names that ``values`` has; a free mapping ends in ``.*``.
    """
    hints = typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        key = prefix + item.name
        yield key
        inner = values.get(item.name) if isinstance(values, Mapping) else None
        for option in _options(hints[item.name]):
            if dataclasses.is_dataclass(option):
                yield from _keys(option, inner, f"{key}.")
            elif typing.get_origin(option) is Mapping:
                yield from _entries(typing.get_args(option)[1], inner, key)


def _entries(schema: Any, values: Any, key: str) -> Iterator[str]:
    if schema in (str, Path, Any) or is_typeddict(schema) or typing.get_origin(schema) in (Mapping, types.UnionType):
        yield f"{key}.*"
        return
    for name in values if isinstance(values, Mapping) else ():
        yield f"{key}.{name}"
        if dataclasses.is_dataclass(schema):
            yield from _keys(schema, values[name], f"{key}.{name}.")


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _nearest(key: str, known: Sequence[str]) -> str:
    """The known keys that end in the word meant, or in words of its initials (``lr``); of its own section, if any."""
    parents, _, word = key.rpartition(".")
    words = sorted({name.rpartition(".")[2] for name in known})
    initials = [name for name in words if "".join(part[0] for part in name.split("_")) == word]
    ending = initials or difflib.get_close_matches(word, words, n=NEAREST, cutoff=0.7)
    near = [name for each in ending for name in known if name.rpartition(".")[2] == each]
    within = ([name for name in near if part in name.split(".")] for part in reversed(parents.split(".")))
    near = next(filter(None, within), near)
    siblings = [name for name in known if name.startswith(f"{parents}.")]
    near = near or difflib.get_close_matches(key, siblings or known, n=NEAREST, cutoff=0.75)
    return f"; did you mean {' or '.join(repr(name) for name in near[:NEAREST])}?" if near else ""


def _explain(problem: dict[str, Any], all_known: Sequence[str]) -> str:
    """One pydantic problem as ``key: what is wrong``."""
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{key}: unknown key{_nearest(key, all_known)}"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    if problem["type"] in ("missing_argument", "missing"):
        return f"{key}: missing; give it a value"
    if problem["type"] == "tuple_type":
        given = problem["input"]
        return f"{key}: write a list, such as [{'' if given is None else _flow(given)}], got {given!r}"
    if problem["type"] == "dataclass_type":
        fields = f"{{name: {_flow(problem['input'])}}}" if key.startswith("campaign.specs.") else f"{key}.FIELD=VALUE"
        return f"{key}: give its fields, {fields}, got {problem['input']!r}"
    if problem["type"] == "dict_type":
        return f"{key}: give each by name, such as {key}.NAME={_flow(problem['input'])}, got {problem['input']!r}"
    if problem["type"] == "path_type":
        return f"{key}: give one path, got {problem['input']!r}"
    if problem["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        return f"{key}: {problem['msg'].lower()}, got {problem['input']!r}{_nearest(str(problem['input']), known)}"
    if problem["input"] is None:
        return f"{key}: it has no value (null); give it one"
    return f"{key}: {problem['msg'].lower()}, got {problem['input']!r}"


def _flow(value: Any) -> str:
    """``value`` as in an override, without the brackets of a list that was quoted."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    return str(value).removeprefix("[").removesuffix("]")
