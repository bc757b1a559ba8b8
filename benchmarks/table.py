"""Figures as a table for people and as values for JSON; measures nothing."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.figures import Figure

HEAD = ("figure", "target", "median (min..max)", "p99", "runs", "verdict")


def render(figures: Sequence[Figure]) -> str:
    """A Markdown table, its columns aligned, so that it can be read here and pasted into the docs."""
    rows = [HEAD, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def as_json(figure: Figure) -> dict[str, object]:
    """One figure with everything that was derived from it."""
    return {
        "figure": figure.name,
        "unit": figure.unit,
        "target": figure.target,
        "median": figure.median,
        "min": min(figure.values),
        "max": max(figure.values),
        "p99": figure.p99,
        "runs": figure.runs,
        "verdict": figure.verdict,
    }


def _row(figure: Figure) -> tuple[str, ...]:
    target = "" if figure.target is None else f"<= {figure.target:g} {figure.unit}"
    measured = f"{number(figure.median)} {figure.unit}"
    if len(figure.values) > 1:
        measured += f" ({number(min(figure.values))}..{number(max(figure.values))})"
    p99 = "" if figure.p99 is None else f"{number(figure.p99)} {figure.unit}"
    return (figure.name, target, measured, p99, str(figure.runs), figure.verdict)


def number(value: float) -> str:
    """About three digits, however large it is."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"
