"""Write ``nist.json.xz`` from NIST's files.

Run from the root of the repository, with the folder of the 27 ``.dat`` files::

    python -m datasets.make_nist folder
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets.nist import ARCHIVE, MODELS

HEADER_LINES = 60
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


def parse(text: str) -> dict[str, Any]:
    """Read one file of NIST.

    Parameters
    ----------
    text : str
        Content. Sixty lines of header, then the data.

    Returns
    -------
    dict
        Of numbers and lists.

    Raises
    ------
    ValueError
        If the numbers of observations or of parameters are not those of the header.
    """
    lines = text.splitlines()
    header = "\n".join(lines[:HEADER_LINES])
    rows = [[float(v) for v in line.split()] for line in lines[HEADER_LINES:] if line]
    parameters = [
        [float(v) for v in re.findall(_NUMBER, line.partition("=")[2])]
        for line in header.splitlines()
        if re.match(r"\s*b\d+ =", line)
    ]
    if len(rows) != _named(header, "Number of Observations", int):
        raise ValueError("the number of rows is not that of the header")
    # Not from the degrees of freedom: those of Rat43 are a misprint (9, not 11).
    count = re.search(r"(\d+) Parameters", header)
    if count is None or [len(p) for p in parameters] != [4] * int(count.group(1)):
        raise ValueError("the number of parameters is not that of the header")
    first, second, certified, deviation = zip(*parameters, strict=True)
    level = re.search(r"(\w+) Level of Difficulty", header)
    if level is None:
        raise ValueError("the header must state a level of difficulty")
    return {
        "difficulty": level.group(1).lower(),
        "y": [row[0] for row in rows],
        "x": [row[1:] for row in rows],
        "starts": [first, second],
        "params": certified,
        "standard_errors": deviation,
        "sum_of_squares": _named(header, "Residual Sum of Squares", float),
        "residual_std": _named(header, "Residual Standard Deviation", float),
    }


def _named(header: str, name: str, kind: Any) -> Any:
    found = re.search(rf"{name}:\s+({_NUMBER})", header)
    if found is None:
        raise ValueError(f"the header must state the {name}")
    return kind(found.group(1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    """
    parser = argparse.ArgumentParser(description="Write the embedded NIST file.")
    parser.add_argument("folder", type=Path, help="folder of the .dat files")
    parser.add_argument("--output", type=Path, default=ARCHIVE)
    options = parser.parse_args(arguments)
    records = {
        name: parse((options.folder / f"{name}.dat").read_text("ascii"))
        for name in MODELS
    }
    content = json.dumps(records, separators=(",", ":")).encode("ascii")
    packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    options.output.write_bytes(packed)
    digest = hashlib.sha256(content).hexdigest()
    print(f"{options.output}: {len(packed)} bytes, content sha256 {digest}")


if __name__ == "__main__":
    main()
