"""Pages of HTML that load nothing from elsewhere: how their templates are read, and the style that all share."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def page_templates(package: str) -> Environment:
    """The templates beside the modules of a package, which can include ``page.css``."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(each, package_path="") for each in (package, "msm_hpc.base")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percentage"] = percentage
    return environment


def percentage(share: float) -> str:
    """A share as ``1.5%``, or with two decimals where it is below 1%."""
    return f"{100 * share:.1f}%" if share >= 0.01 else f"{100 * share:.2f}%" if share else "0%"
