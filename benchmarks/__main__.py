"""The command `./dev bench [name]...`: measures figures, prints a table, says whether the targets are kept."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import clone, first_token, frame_cost, gateway_memory, machine, overhead, settlements, start
from benchmarks.figures import Figure
from benchmarks.table import as_json, render

MEASURES: dict[str, Callable[[], list[Figure]]] = {
    "start": start.measure,
    "first-token": first_token.measure,
    "overhead": overhead.measure,
    "gateway-memory": gateway_memory.measure,
    "frame-cost": frame_cost.measure,
    "settlements": settlements.measure,
    "clone": clone.measure,
}


def main(arguments: Sequence[str]) -> int:
    """Measure what was named, or everything. The exit code is 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"figures to measure: {', '.join(MEASURES)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in MEASURES]
    if unknown:
        parser.error(f"unknown figure {unknown[0]!r}; there are: {', '.join(MEASURES)}")
    where = machine.describe()
    print("  ".join(f"{name}: {value}" for name, value in where.items()), flush=True)
    if float(where["load"]) >= machine.QUIET_LOAD:
        print(f"This machine is busy (load {where['load']}): the figures below are not worth keeping.", flush=True)
    figures: list[Figure] = []
    try:
        for name in options.names or MEASURES:
            print(f"measuring {name}, load {os.getloadavg()[0]:.2f} ...", file=sys.stderr, flush=True)
            figures += MEASURES[name]()
    finally:  # minutes of measuring are not lost to the figure that failed
        print(f"\n{render(figures)}")
        if options.json:
            _write(options.json, where, figures)
    return int(any(figure.verdict == "MISSED" for figure in figures))


def _write(path: Path, where: dict[str, str], figures: list[Figure]) -> None:
    result = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": where}
    path.write_text(json.dumps({**result, "figures": [as_json(figure) for figure in figures]}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
