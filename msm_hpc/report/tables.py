"""The results as CSV, for plots and tables of one's own: a row for each model, condition or contrast, and value."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msm_hpc.base.position import BY_POSITION
from msm_hpc.report.finding import is_finding
from msm_hpc.report.results import Estimate, Measurement, Results, ValueResult

Row = dict[str, Any]

CONDITION = ("model", "arm", "spec", "size")
COUNTS = ("preferred", "n", "orders_agree")
OVER_PAIRS = ("rate", "rate_pairs_low", "rate_pairs_high", "log_odds", "log_odds_pairs_low", "log_odds_pairs_high")
INDEPENDENT = tuple(column.replace("_pairs_", "_independent_") for column in OVER_PAIRS)
"""Of one model: its pairs are not clustered by domain, so that the interval is too narrow."""
OVER_SEEDS = ("rate_seeds_low", "rate_seeds_high", "log_odds_seeds_low", "log_odds_seeds_high")

MODELS = (*CONDITION, "seed", "value", *COUNTS, *INDEPENDENT, "step")
CONDITIONS = (*CONDITION, "seeds", "value", *COUNTS, *OVER_PAIRS, *OVER_SEEDS)
CONTRASTS = ("value", "spec", "other_spec", "model", "arm", "size", "seeds", *OVER_PAIRS, *OVER_SEEDS, "finding")
COMPARISONS = (
    *("eval", "metric", "model", "arm", "spec", "other_arm", "other_spec", "size", "seeds"),
    *("difference", "low", "high", "over", "p", "holm", "again", "saturated"),
)
MEASUREMENTS = (
    *(*CONDITION, "seed", "seeds", "eval", "metric", "group", "rate", "n", "asked", "missing", "total", "mean"),
    *("low", "high", "over", "again", "steps"),
)
SAVINGS = (
    *("value", "model", "arm", "spec", "reference", "seeds"),
    *("size", "factor", "bound", "low", "high", "over", "learnt"),
)


def models_csv(results: Results) -> str:
    """One row a model and value, with the step that measured it; a missing model has one row without numbers."""
    return _csv(
        MODELS, (row for result in results.cells for row in _rows(vars(result.cell), result.values, "independent"))
    )


def conditions_csv(results: Results) -> str:
    """One row a condition and value, its seeds together; a missing condition has one row without numbers."""
    return _csv(
        CONDITIONS,
        (
            row
            for condition in results.conditions
            for row in _rows({**vars(condition), "seeds": condition.evaluated}, condition.values)
        ),
    )


def contrasts_csv(results: Results) -> str:
    """One row a contrast, and whether it is a finding."""
    return _csv(
        CONTRASTS,
        (
            {
                **vars(contrast),
                "seeds": len(contrast.seeds),
                **_estimates(contrast.rate, contrast.log_odds),
                "finding": is_finding(contrast),
            }
            for contrast in results.contrasts
        ),
    )


def savings_csv(results: Results) -> str:
    """One row an arm whose need of data is compared, spec, value and size of the arm that it is compared with."""
    return _csv(SAVINGS, ({**vars(saved), **vars(saving)} for saved in results.saved for saving in saved.savings))


def comparisons_csv(results: Results) -> str:
    """One row a comparison of two arms, or two specs, by an eval."""
    return _csv(COMPARISONS, ({**vars(each), "seeds": len(each.seeds)} for each in results.compared))


def measurements_csv(rows: Sequence[Measurement]) -> str:
    """One row a measurement, of one model or all seeds together."""
    return _csv(MEASUREMENTS, map(_measurement, rows))


def measurements_parquet(rows: Sequence[Measurement]) -> bytes:
    """The same, with types."""
    import pyarrow as pa  # here: commands start without it
    import pyarrow.parquet as pq

    text, count, number = pa.string(), pa.int64(), pa.float64()
    types = {"size": count, "seed": count, "seeds": count, "n": count, "asked": count, "rate": pa.bool_()}
    types |= dict.fromkeys(("total", "mean", "low", "high", "again"), number)
    schema = pa.schema([(name, types.get(name, text)) for name in MEASUREMENTS])
    written = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([_measurement(row) for row in rows], schema), written, compression="zstd")
    return bytes(written.getvalue())


def _measurement(row: Measurement) -> Row:
    missing = ", ".join(f"{reason} {count}" for reason, count in row.missing.items())
    return {**vars(row), "missing": missing, "steps": " ".join(row.steps)}


def _rows(what: Row, values: Sequence[ValueResult], pairs: str = "pairs") -> Iterator[Row]:
    if not values:
        yield what
    for result in values:
        found = result.preference
        yield {**what, "value": result.value, **vars(found), **_estimates(found.rate, found.log_odds, pairs)}


def _estimates(rate: Estimate | None, log_odds: Estimate, pairs: str = "pairs") -> Row:
    """Means and intervals; ``pairs`` is what columns call the interval over pairs."""
    row: Row = {}
    for name, found in (("rate", rate), ("log_odds", log_odds)):
        if found is None:
            row[name] = BY_POSITION
            continue
        row[name] = found.mean
        for over, interval in ((pairs, found.pairs), ("seeds", found.seeds)):
            if interval is not None:
                row |= {f"{name}_{over}_low": interval.low, f"{name}_{over}_high": interval.high}
    return row


def _csv(columns: Sequence[str], rows: Iterable[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
