"""The contrast between specs over the size of the models: does what a spec does grow with the model?"""

from __future__ import annotations

from collections.abc import Sequence

from msm_hpc.report.curves import Chart, Line, charts
from msm_hpc.report.results import Contrast, Measurement, Results


def size_charts(results: Results) -> list[Chart]:
    """A chart for each value, with a line for each family of models that has several sizes, arm and two specs."""
    evals = []
    for value in dict.fromkeys(contrast.value for contrast in results.contrasts):
        lines: dict[Line, dict[int, Measurement]] = {}
        contrasts = _on(value, results.contrasts)
        several = len({contrast.other_spec for contrast in contrasts}) > 1
        for contrast in contrasts:
            if of := results.models.get(contrast.model):
                arm = contrast.arm if contrast.size is None else f"{contrast.arm} {contrast.size:,}"
                minus = f" (minus {contrast.other_spec})" if several else ""
                line = ("", f"{of.family} \N{MIDDLE DOT} {arm}{minus}", contrast.spec)
                lines.setdefault(line, {})[of.parameters] = _measured(contrast)
        if lines:
            evals.append((next(iter(next(iter(lines.values())).values())), lines))
    return charts(evals, called=_billions)


def _on(value: str, contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Those on a value: of the spec that is named as it is, where there is one, since the others say nothing of it."""
    found = [contrast for contrast in contrasts if contrast.value == value]
    return [contrast for contrast in found if contrast.spec == value] or found


def _measured(contrast: Contrast) -> Measurement:
    """The difference in log-odds, as a number of its own."""
    shown = contrast.log_odds.shown
    return Measurement(
        model=contrast.model,
        arm=contrast.arm,
        spec=contrast.spec,
        size=contrast.size,
        seed=None,
        seeds=len(contrast.seeds),
        eval=contrast.value,
        metric="difference in log_odds",
        group=None,
        rate=False,
        n=len(contrast.seeds),
        asked=len(contrast.seeds),
        missing={},
        total=sum(contrast.by_seed),
        mean=contrast.log_odds.mean,
        low=shown.low if shown else None,
        high=shown.high if shown else None,
        over="seeds" if contrast.log_odds.seeds else "items",
        again=None,
        steps=(contrast.model,),
    )


def _billions(parameters: int) -> str:
    """Such as ``0.5B``."""
    return f"{parameters / 1e9:.1f}B"
