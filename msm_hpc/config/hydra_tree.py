"""What of composing a configuration is Hydra's: reading overrides, and merging the files that they choose."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from msm_hpc.base.errors import UserError
from msm_hpc.base.text import meant
from msm_hpc.config import compose as tree


class _OwnFolder(SearchPathPlugin):
    """Puts the folder of :data:`OWN_FOLDER` in front of Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if (own := tree.own_folder()) is not None:
            search_path.prepend("own", f"file://{own}", anchor="main")


Plugins.instance().register(_OwnFolder)
OmegaConf.register_new_resolver("shipped", lambda path: str(tree.PACKAGE / path))
"""``${shipped:evals/items}`` in a file of the tree is the path of what the package holds, wherever it is installed."""


class Composed:
    """The files of the tree that overrides choose, merged; values are not checked yet."""

    def __init__(self, overrides: Sequence[str]) -> None:
        """Merge them.

        Raises:
            UserError: a choice that there is not, or a file that cannot be read.
        """
        with _in_our_words(), initialize_config_dir(version_base="1.3", config_dir=str(tree.shipped_folder())):
            self._merged = compose("config", list(overrides))

    def put(self, override: str) -> None:
        """Set what ``++key=value`` says, as Hydra does once all files are merged.

        Raises:
            UserError: the value cannot be merged with what is there.
        """
        parsed = OverridesParser.create().parse_override(override)
        with _in_our_words():
            OmegaConf.update(self._merged, str(parsed.key_or_group), parsed.value(), merge=True, force_add=True)

    @property
    def values(self) -> dict[str, Any]:
        """What there is, by key."""
        with _in_our_words():
            return typing.cast(dict[str, Any], OmegaConf.to_container(self._merged, resolve=True))


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except UserError:  # a ValueError too, but with its message already
        raise
    except YAMLError as error:
        raise UserError(f"a file of the configuration is not valid YAML; fix it: {error}") from error
    except MissingConfigException as error:
        raise UserError(_no_such_choice(error)) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        said = _innermost(error)
        if found := re.match(r"Cannot merge DictConfig with ListConfig\s+full_key: (\S+)", said):
            raise UserError(f"{found[1]}: write a list, such as [{{…}}], got a mapping {{…}}") from error
        raise UserError(said) from error


def _no_such_choice(error: MissingConfigException) -> str:
    """Which file was asked for, and which there are beside it: what ``campaign=NAME`` may choose."""
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group or not error.options:
        return _innermost(error)
    here = f"{group}/{name}.yaml"
    own = f". {here} is in this folder: add --config-dir ." if Path(here).is_file() else ""
    return f"no {group} {name!r}{meant(name, error.options)}; there are {', '.join(error.options)}{own}"


def key_of(override: str) -> str:
    """The key that an override sets.

    Raises:
        UserError: it is not one.
    """
    if "=" not in override and not override.startswith("~"):
        raise UserError(f"{override!r} is not an override; write key=value, such as sources.chats.ladder=[100,200]")
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise UserError(
            f"cannot read the override {override!r}: {_innermost(error)}. Quote a value with spaces or other special "
            "characters, and quote the whole override for the shell: \"root='/my runs'\""
        ) from error
    if parsed.is_sweep_override():
        key, _, value = override.partition("=")
        raise UserError(f"{key}: write a list, '{key}=[{value}]', got {value!r}")
    return str(parsed.key_or_group)


def _innermost(error: BaseException) -> str:
    """The helpful message among those that Hydra wraps around each other, without its search path."""
    said = []
    cause: BaseException | None = error
    while cause is not None:
        said.append(str(cause).partition("Config search path")[0].strip())
        cause = cause.__cause__
    return next(text for text in reversed(said) if text not in ("", "None"))
