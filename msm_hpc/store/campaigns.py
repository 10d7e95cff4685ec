"""What a campaign was asked for: its configuration, and the files from outside as they were then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_json, write_json
from msm_hpc.base.text import meant

REHEARSAL = "rehearsal"
"""The folder below a root that is the root of what is rehearsed."""


@dataclass(frozen=True)
class Known:
    """A file or folder from outside, as it was: the identity of its content, and a stamp of sizes and times.

    Where the stamp is the same, the content is taken to be the same without reading it. ``rows`` is how many a corpus
    has.
    """

    identity: str
    stamp: str
    rows: int | None = None


@dataclass(frozen=True)
class CampaignRecord:
    """``ROOT/campaigns/NAME.json``.

    Attributes:
        configs: the composed configuration of each model, as JSON values.
        config_dir: the user's own folder of configuration files, if there was one.
        files: what is known of the files from outside, by their path or ``package:NAME``.
        steps: the ids of all its steps, whatever other versions of this package would name them.
        commit: of the code that ran it, marked ``-dirty`` where it was changed since; None outside of a checkout.
    """

    name: str
    overrides: tuple[str, ...]
    configs: tuple[Mapping[str, Any], ...]
    config_dir: str | None
    files: Mapping[str, Known]
    steps: tuple[str, ...]
    commit: str | None
    at: str


def write_campaign(root: Path, record: CampaignRecord) -> None:
    """Write the record below ``root``, in the place of an earlier one of that name."""
    write_json(_folder(root) / f"{record.name}.json", asdict(record))


def read_campaign(root: Path, name: str) -> CampaignRecord:
    """What the campaign ``name`` below ``root`` was asked for.

    Raises:
        UserError: there is none of that name, or its record is damaged.
    """
    path = _folder(root) / f"{name}.json"
    try:
        values = read_json(path)
        files = {key: Known(**known) for key, known in values["files"].items()}
        return CampaignRecord(**values | {"files": files})
    except FileNotFoundError as error:
        known = campaigns(root)
        raise UserError(
            f"no campaign {name!r} was run below root={root}{meant(name, known)}; those that were: "
            f"{', '.join(known) or 'none'}. Give root=FOLDER, or "
            f"campaign={name} where it is still to be run{rehearsed(root, name)}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); run the campaign again with campaign=NAME and overrides"
        ) from error


def campaigns(root: Path) -> list[str]:
    """The names of the campaigns that were run below ``root``."""
    return sorted(path.stem for path in _folder(root).glob("*.json"))


def rehearsed(root: Path, name: str | None = None) -> str:
    """Where campaigns were rehearsed, if this one was, or without ``name`` any; to stand behind what was not found."""
    found = [each for each in campaigns(root / REHEARSAL) if name in (None, each)]
    return f". Rehearsed here, and to be asked about with root={root / REHEARSAL}: {', '.join(found)}" if found else ""


def _folder(root: Path) -> Path:
    return root / "campaigns"
