"""Shows the figures in one table, and the missed bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from rows import BENCHMARKS, Benchmark, Bound

#: Figures of every repetition, by benchmark and variant.
Results = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]


def bounds(results: Results) -> Iterator[tuple[str, Bound, float]]:
    """Yield each bound with the name of its benchmark and the measured value."""
    for name, rows in results.items():

        def of(variant: str, figure: str, rows: Any = rows) -> float:
            return median(run[figure] for run in rows[variant])

        for bound in BENCHMARKS[name].bounds:
            yield name, bound, bound.value(of)


def missed(results: Results) -> list[str]:
    """Return a line for each missed bound."""
    return [
        f"{name}: {value:.3g} {bound.label}, the bound is {bound.limit:g}"
        for name, bound, value in bounds(results)
        if not bound.holds(value)
    ]


def table(results: Results, *, messages: int) -> str:
    """Return the table: medians, lowest and highest figures, and the bounds."""
    rows: list[tuple[str, ...]] = [("", "median", "lowest", "highest", "")]
    found = list(bounds(results))
    for name, variants in results.items():
        benchmark = BENCHMARKS[name]
        rows += [(), (benchmark.title.format(messages=messages),)]
        for key, runs in variants.items():
            rows.append(_row(benchmark, benchmark.variants[key].label, runs))
        for of, bound, value in found:
            if of == name:
                verdict = "ok" if bound.holds(value) else "MISSED"
                side = "at least" if bound.at_least else "at most"
                limit = f"{side} {bound.limit:g} {bound.label}: {verdict}"
                rows.append(("  bound", f"{value:.3g}", "", "", limit))
    return _align(rows)


def _row(
    benchmark: Benchmark, label: str, runs: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    figure, unit, decimals = benchmark.figure
    values = [run[figure] for run in runs]
    cells = [f"{v:.{decimals}f}" for v in (median(values), min(values), max(values))]
    also = [
        f"{median(run[name] for run in runs):.{places}f} {text}"
        for name, text, places in benchmark.also
        if all(run.get(name) is not None for run in runs)
    ]
    return (f"  {label}", *cells, ", ".join([unit, *also]))


def _align(rows: Sequence[tuple[str, ...]]) -> str:
    full = [row for row in rows if len(row) > 1]
    widths = [max(len(row[column]) for row in full) for column in range(4)]
    lines = []
    for row in rows:
        if len(row) < 2:
            lines.append("".join(row))
            continue
        label, *cells, rest = row
        numbers = "  ".join(
            cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)
        )
        lines.append(f"{label.ljust(widths[0])}  {numbers}  {rest}".rstrip())
    return "\n".join(lines)
