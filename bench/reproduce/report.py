"""Verdicts as a table, figures as files, and the page of results."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from bench.plot import STYLE, save
from bench.reproduce.experiment import Experiment, Scope, Verdict
from bench.rows import machine, versions

__all__ = ["judge", "publish", "table", "write"]

BENCH = Path(__file__).parents[1]
PAGE, RESULTS = BENCH / "RESULTS.md", BENCH / "results"
COLUMNS = (
    ("rows", "seed_rows", 7),
    ("claim", "text", 32),
    ("published", "published", 20),
    ("measured", "measured", 20),
    ("verdict", "verdict", 13),
)
"""Title, field and width of the columns of the table: 100 characters with the gaps."""
KEPT = ("subsampled_newton", "numpy", "numba")
"""Versions that are columns of the results."""
HEAD = """\
# Results: the experiments of the papers

Written by `python -m bench reproduce all`; do not edit. Every claim of the papers is
shown with what was measured, whether it holds or not. "Rows" names the rows of the
inventory of the papers. Props count propagations as the papers do; levels are remaining
parts of the gap between the first and the best loss; ranges are over seeds.
"""


def judge(
    experiment: Experiment, rows: pd.DataFrame, scope: Scope, seconds: float
) -> dict[str, Any]:
    """Claims with all that must be known to read them, as JSON."""
    reading: Callable[..., str] | None = getattr(experiment, "reading", None)
    computer = machine(None)
    return {
        "name": experiment.name,
        "title": experiment.title,
        "date": date.today().isoformat(),
        "quick": scope.quick,
        "seeds": scope.seeds,
        "seconds": round(seconds, 1),
        "machine": computer | {"memory_gib": _memory()},
        "versions": versions(),
        "claims": [claim.as_dict() for claim in experiment.claims(rows, scope)],
        "reading": reading(rows, scope) if reading else "",
    }


def write(
    experiment: Experiment,
    rows: pd.DataFrame,
    record: dict[str, Any],
    scope: Scope,
    out: Path,
) -> list[Path]:
    """Write rows, claims and figures; return the paths. Adds the figures to the record.

    Rows get the versions as columns. Figures are drawn in the style of the benchmark's.
    """
    results = out / f"{experiment.name}.csv"
    found = {name: record["versions"][name] for name in KEPT}
    rows.assign(**found).to_csv(results, index=False)
    files = [results]
    record["figures"] = []
    with matplotlib.rc_context(STYLE):
        for stem, figure in experiment.figures(rows, scope).items():
            path = out / f"{stem}.png"
            save(figure, path)
            files.append(path)
            record["figures"].append(stem)
    claims = out / f"{experiment.name}-claims.json"
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    claims.write_text(text, encoding="utf-8")
    return [*files, claims]


def table(record: dict[str, Any]) -> str:
    """Text of the verdicts, 100 characters wide."""
    if not record["claims"]:
        return "No claims."
    lines = [_line([title for title, _, _ in COLUMNS]), "-" * 100]
    for claim in record["claims"]:
        cells = [
            textwrap.wrap(claim[field], width, break_on_hyphens=False) or [""]
            for _, field, width in COLUMNS
        ]
        for k in range(max(map(len, cells))):
            lines.append(_line([cell[k] if k < len(cell) else "" for cell in cells]))
        if claim["remark"]:
            indent = " " * (COLUMNS[0][2] + 2)
            lines += textwrap.wrap(
                claim["remark"],
                100,
                initial_indent=indent,
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
        lines.append("")
    return "\n".join(lines).rstrip()


def publish(record: dict[str, Any], out: Path) -> Path:
    """Put an experiment on the page of results; the others stay as they are."""
    RESULTS.mkdir(exist_ok=True)
    for stem in record["figures"]:
        (RESULTS / f"{stem}.png").write_bytes((out / f"{stem}.png").read_bytes())
    name = f"{record['name']}-claims.json"
    (RESULTS / name).write_bytes((out / name).read_bytes())
    records = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RESULTS.glob("*-claims.json"))
    ]
    PAGE.write_text(page(records), encoding="utf-8")
    return PAGE


def page(records: list[dict[str, Any]]) -> str:
    """Text of the page."""
    from bench.reproduce.registry import NAMES

    order = {name: k for k, name in enumerate(NAMES)}
    records = sorted(records, key=lambda r: (order.get(r["name"], 99), r["name"]))
    claims = [(record["title"], c) for record in records for c in record["claims"]]
    counts = {verdict.value: 0 for verdict in Verdict}
    for _, claim in claims:
        counts[claim["verdict"]] += 1
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    lines = [HEAD, f"Claims: {summary}."]
    failed = [
        f"- {title}. {claim['text']}: {claim['measured']}"
        for title, claim in claims
        if claim["verdict"] == Verdict.DOES_NOT_HOLD.value
    ]
    if failed:
        lines += ["\nWhat does not hold:\n", *failed]
    return "\n".join([*lines, *map(_section, records)])


def _section(record: dict[str, Any]) -> str:
    computer, found = record["machine"], record["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in found.items())
    lines = [
        f"\n## {record['title']}\n",
        f"`python -m bench reproduce {record['name']}`",
    ]
    lines[-1] += (
        f", {record['seeds']} seeds, {record['date']}. {computer['cpu']}, "
        f"{computer['cores']} cores, {computer['memory_gib']} GiB; {packages}.\n"
    )
    if record["reading"]:
        lines.append(record["reading"] + "\n")
    lines += [f"![{stem}](results/{stem}.png)\n" for stem in record["figures"]]
    if record["claims"]:
        lines += [
            "| rows | claim | source | published | measured | verdict |",
            "|---|---|---|---|---|---|",
        ]
    for claim in record["claims"]:
        text = claim["text"] + (f" *{claim['remark']}*" if claim["remark"] else "")
        cells = [
            claim["seed_rows"],
            text,
            claim["source"],
            claim["published"],
            claim["measured"],
            f"**{claim['verdict']}**",
        ]
        escaped = [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]
        lines.append(f"| {' | '.join(escaped)} |")
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    """Cells in their columns."""
    widths = [width for _, _, width in COLUMNS]
    padded = [f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(padded).rstrip()


def _memory() -> int | None:
    """Memory of the machine in GiB, where the system tells."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    kib = next(
        int(line.split()[1])
        for line in info.read_text().splitlines()
        if line.startswith("MemTotal")
    )
    return round(kib / 2**20)
