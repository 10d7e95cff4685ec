"""Overrides in, a checked :class:`~msm_hpc.config.campaign.Config` out: Hydra composes, pydantic checks.

The dataclasses of ``config/`` say which keys exist. An override of a key that they do not know is refused with the
nearest ones that they do; ``midtrain.clip_grad=0.5`` works although no file of the tree mentions ``clip_grad``.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError

from msm_hpc.base.errors import UserError
from msm_hpc.config.campaign import Config

GROUPS = ("campaign", "model", "cluster", "precision", "lora")
NEAREST = 3
"""Keys that are offered in the place of an unknown one."""


def config_folder() -> Path:
    """The Hydra tree: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def load_config(overrides: Sequence[str]) -> Config:
    """Compose the tree with Hydra overrides such as ``["campaign=demo", "aft.samples=[100,200]"]``.

    Raises:
        UserError: an unknown key or choice, a value of the wrong type, or values that do not go together.
    """
    checked = [_checked(override) for override in overrides]
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_folder())):
            composed = compose("config", checked)
        values = OmegaConf.to_container(composed, resolve=True)
    except YAMLError as error:
        raise UserError(f"a file of {config_folder()} is no YAML; mend it: {error}") from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(_innermost(error)) from error
    return _validated(values)


def _validated(values: Any) -> Config:
    try:
        return TypeAdapter(Config).validate_python(values)
    except ValidationError as error:
        raise UserError("\n".join(_explain(dict(problem)) for problem in error.errors())) from error


def _checked(override: str) -> str:
    """``override`` with Hydra's add-or-replace sign, once its key is known to the schema."""
    if "=" not in override and not override.startswith("~"):
        raise UserError(f"{override!r} is not an override; write key=value, such as aft.samples=[100,200]")
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise UserError(
            f"cannot read the override {override!r}: {_innermost(error)}. Quote a value with spaces or other special "
            "characters, and quote the whole override for the shell: \"root='/my runs'\""
        ) from error
    key = parsed.key_or_group
    if key in GROUPS or parsed.is_delete():
        return override
    known = list(_keys(Config))
    free = [name for name in known if name.endswith(".*")]
    if key not in known and not any(key.startswith(name[:-1]) for name in free):
        if key == "layout":
            raise UserError("unknown key 'layout': every training has its own; write midtrain.layout, aft.layout")
        raise UserError(f"unknown key {key!r}{_nearest(key, [name for name in known if name not in free])}")
    return f"++{override.lstrip('+')}"


def _keys(schema: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a dataclass type, parents included; a free mapping ends in ``.*``."""
    hints = typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        key = prefix + item.name
        yield key
        for option in _options(hints[item.name]):
            if dataclasses.is_dataclass(option):
                yield from _keys(option, f"{key}.")
            elif typing.get_origin(option) is Mapping:
                yield f"{key}.*"


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _nearest(key: str, known: Sequence[str]) -> str:
    """The known keys that end in the word meant, or in words of its initials (``lr``); those of its section alone."""
    section, word = key.partition(".")[0], key.rpartition(".")[2]
    words = sorted({name.rpartition(".")[2] for name in known})
    initials = [name for name in words if "".join(part[0] for part in name.split("_")) == word]
    meant = initials or difflib.get_close_matches(word, words, n=NEAREST, cutoff=0.7)
    near = [name for ending in meant for name in known if name.rpartition(".")[2] == ending]
    near = [name for name in near if name.startswith(f"{section}.")] or near
    near = near or difflib.get_close_matches(key, known, n=NEAREST, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(name) for name in near[:NEAREST])}?" if near else ""


def _explain(problem: dict[str, Any]) -> str:
    """One pydantic problem as ``key: what is wrong``."""
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "unexpected_keyword_argument":
        known = [name for name in _keys(Config) if not name.endswith(".*")]
        return f"{key}: unknown key{_nearest(key, known)}"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    if problem["type"] in ("missing_argument", "missing"):
        return f"{key}: missing; give it a value"
    if problem["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        return f"{key}: {problem['msg'].lower()}, got {problem['input']!r}{_nearest(str(problem['input']), known)}"
    return f"{key}: {problem['msg'].lower()}, got {problem['input']!r}"


def _innermost(error: BaseException) -> str:
    """The helpful message among those that Hydra wraps around each other, without its search path."""
    said = []
    cause: BaseException | None = error
    while cause is not None:
        said.append(str(cause).partition("Config search path")[0].strip())
        cause = cause.__cause__
    return next(text for text in reversed(said) if text not in ("", "None"))
