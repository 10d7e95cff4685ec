"""Groups of commands of which only the one that is called is imported: each needs other parts of the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class Deferred:
    """A command in ``place`` (``module:function``) of ``msm_hpc/cli/commands``.

    ``help`` is the first line of the function's docstring; ``on_campaign`` says whether its arguments name a campaign.
    """

    place: str
    help: str
    on_campaign: bool = True

    def load(self, name: str) -> Any:
        """The command itself."""
        module, _, function = self.place.partition(":")
        call = getattr(import_module(f"msm_hpc.cli.commands.{module}"), function)
        app = typer.Typer(rich_markup_mode=None, add_completion=False)
        app.command(name, cls=_campaign_command() if self.on_campaign else None)(call)
        return typer.main.get_command(app)


def _campaign_command() -> type[TyperCommand]:
    from msm_hpc.cli.arguments import CampaignCommand

    return CampaignCommand


class DeferredGroup(TyperGroup):
    """A group that lists ``deferred`` commands, ahead of its others, by what is known of them without importing any."""

    deferred: ClassVar[Mapping[str, Deferred]]

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = {name: TyperCommand(name, help=each.help) for name, each in self.deferred.items()} | {
            **self.commands
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called, or completed."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, self.deferred[name].load(name) if name and name in self.deferred else command, rest
