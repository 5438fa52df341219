"""Random libsvm files, good and bad, read twice: ``python -m tests.fuzz``.

A file is written with every freedom of the format and, more or less often, with
mistakes; its bytes may then be changed. What `datasets.read_libsvm` makes of it must be
what a slow parser makes of it, which knows nothing but the format: the same numbers to
the bit, or a `ValueError` that names the same line.

The first million of seed 0: 450,082 read, the others refused, none wrongly (November
2026, Python 3.11, NumPy 2.4; a quarter of an hour of one core).
"""

import argparse
import bz2
import gzip
import io
import lzma
import random
import sys
import time
from typing import NamedTuple

import numpy as np

import datasets

WIDTHS = (1, 9, 9, 9, 300, 2**31 - 1)
GOOD = (
    "0 1 -1 +1 7 10 007 -0 +0 -0.0 0.5 .5 5. -.5 +.25 1.25 1e3 1E3 1e+3 1e-3 -2e-1 "
    "3.14159 2.5e0 1e0000000001 4.9e-324 -4.9e-324 2.4e-324 2e-400 1e308 123456789 "
    "1.7976931348623157e308 0.1000000000000000055511151231257827 1e23 8.5e22 9e15 "
    "2.2250738585072011e-308 9007199254740993 1e-00 00000000000000000000000000001"
)
BAD = (
    "nan NaN -nan inf -inf Infinity 1e999 -1e999 1.7976931348623159e308 1e99999999999 "
    "0x10 0b1 1_0 1__0 1e 1e+ e5 . - + +- --1 1.2.3 1,5 1;5 1d5 1f 1L 1j abc None "
    "١ ½ １ 1\u0660 ∞ 1\u2212 true NA ? * '1' \"1\" 1: :1 1:1 (1) 1/2 1% $1 #"
)
NUMBERS, NO_NUMBERS = GOOD.split(), BAD.split()
SPACES = (" ", " ", " ", " ", "  ", "\t", " \t ", "\t\t")
NO_SPACES = (
    "\x0b",
    "\x0c",
    "\xa0",
    "\r",
    "\x00",
    ",",
    ";",
    "\x1c",
    "\x85",
    "\u2028",
    "",
)
ENDS = (
    "\n",
    "\n",
    "\n",
    "\n",
    "\r\n",
    " \n",
    "\t\r\n",
    " # c\n",
    "#1 1:2\n",
    "#é \x0b\n",
)
NO_ENDS = ("\r", "\n\r", "", "\r\r\n", "\x00\n", " \x0c\n", "\x1a", " 1\n", " qid:1\n")
EMPTY = (
    "\n",
    "\r\n",
    "  \n",
    "#\n",
    "# 1 1:2\n",
    " #\r\n",
    "\t\n",
    "#\x00\n",
    "\r\r\n",
)


class Refused(NamedTuple):
    """Why a slow parser refuses a file: the line, if one is to blame."""

    line: int | None


class Row(NamedTuple):
    label: float
    entries: list[tuple[int, float]]


def random_file(rng):
    """Content of a file and the number of its columns."""
    width = rng.choice(WIDTHS)
    mistakes = rng.choice((0.0, 0.0, 0.0, 0.0, 0.01, 0.05, 0.3))

    def one_of(good, bad):
        return rng.choice(bad if rng.random() < mistakes else good)

    def number():
        kind = rng.random()
        if kind < 0.2 * (mistakes > 0.0) * mistakes:
            return rng.choice(NO_NUMBERS)
        if kind < 0.4:
            return repr(rng.uniform(-10.0, 10.0))
        if kind < 0.5:
            digits = rng.randrange(10 ** rng.randrange(1, 25))
            return f"{rng.choice('+-')}{digits}e{rng.randrange(-365, 283)}"
        return one_of(NUMBERS, NO_NUMBERS)

    def indices():
        count = min(width, rng.choice((0, 1, 1, 2, 3, 5)))
        top = rng.choice((width, min(width, 9)))
        chosen = sorted({rng.randint(1, top) for _ in range(count)})
        if chosen and rng.random() < 0.1:
            chosen[-1] = width
        if rng.random() < mistakes:
            chosen.insert(
                rng.randint(0, len(chosen)),
                rng.choice((0, 1, width, width + 1, -1, 2**31, 2**63, 10**30)),
            )
        return chosen

    def index(j):
        if rng.random() < 0.1:
            return "0" * rng.choice((1, 2, 40)) + str(j)
        if rng.random() < mistakes:
            return rng.choice(
                (f"+{j}", f"{j}.0", f"{j}e0", f"{j}_0", "qid", "", f" {j}")
            )
        return str(j)

    text = []
    for _ in range(rng.choice((0, 1, 1, 2, 3, 4, 8))):
        if rng.random() < 0.15:
            text.append(rng.choice(EMPTY))
            continue
        if rng.random() < 0.1:
            text.append(rng.choice(SPACES))
        text.append(number())
        for j in indices():
            text += [
                one_of(SPACES, NO_SPACES),
                index(j),
                one_of((":",), ("=", "::", " :", ": ")),
                number(),
            ]
        text.append(one_of(ENDS, NO_ENDS))
    content = "".join(text).encode()
    if rng.random() < mistakes:
        content = rng.choice(
            (
                b"\xef\xbb\xbf" + content,
                content.rstrip(b"\n"),
                content.decode().encode("utf-16"),
            )
        )
    if rng.random() < 0.3:
        content = mutated(content, rng)
    return content, width


def mutated(content, rng):
    """Content with one to three changes of its bytes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randint(0, len(data))
        way = rng.randrange(6)
        if way == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif way == 1:
            data[place:place] = rng.choice(
                (rng.randbytes(1), rng.choice(b" \t\n\r#:.-+e0").to_bytes())
            )
        elif way == 2:
            del data[place : place + rng.choice((1, 1, 5))]
        elif way == 3:
            data[place:place] = data[place : place + rng.randrange(10)]
        elif way == 4 and place < len(data):
            data[place] = rng.randrange(256)
        else:
            del data[place:]
    return bytes(data)


def slow_read(content, width, final_newline=True):
    """Rows of a file by the letter of the format, or `Refused`."""
    if content.startswith((b"BZh", b"\x1f\x8b", b"\xfd7zXZ\x00")):
        return Refused(None)
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    elif final_newline:
        return Refused(len(lines))
    rows, order, size = [], [], []
    for number, line in enumerate(lines, 1):
        line = line.split(b"#")[0]
        if not line.strip(b" \t\r"):
            continue
        if line.endswith(b"\r"):
            line = line[:-1]
        label, *pairs = [word for word in line.replace(b"\t", b" ").split(b" ") if word]
        entries = []
        for pair in pairs:
            index, colon, value = pair.partition(b":")
            if not (
                colon
                and index
                and set(index) <= set(b"0123456789")
                and is_number(value)
            ):
                return Refused(number)
            entries.append((index.lstrip(b"0"), float(value)))
        if not is_number(label):
            return Refused(number)
        # Longer ones are above every width; Python refuses to convert very long ones.
        places = [int(j or b"0") if len(j) < 20 else 10**20 for j, _ in entries]
        if any(not a < b <= width for a, b in zip([0, *places], places)):  # noqa: B905
            order.append(number)
        values = [float(label), *(value for _, value in entries)]
        if any(abs(value) == float("inf") for value in values):
            size.append(number)
        rows.append(Row(values[0], list(zip(places, values[1:], strict=True))))
    if not rows:
        return Refused(None)
    bad = order or size
    return Refused(bad[0]) if bad else rows


def is_number(text):
    """Whether it is a decimal number without anything around it."""
    try:
        return set(text) <= set(b"0123456789.eE+-") and float(text) is not None
    except ValueError:
        return False


def check(content, width, final_newline=True):
    """Raise `AssertionError` where the two parsers disagree; True if they read it."""
    expected = slow_read(content, width, final_newline)
    found = read(content, width, final_newline)
    if isinstance(found, str):
        assert isinstance(expected, Refused), f"refused: {found}"
        place = (
            f"libsvm file, line {expected.line}: " if expected.line else "libsvm file"
        )
        assert found.startswith(place), f"expected {place!r}, got {found!r}"
        return False
    X, y = found
    assert not isinstance(expected, Refused), f"must be refused: {expected}"
    assert X.shape == (len(expected), width)
    labels = np.array([row.label for row in expected])
    assert y.dtype == X.dtype == np.float64
    assert y.tobytes() == labels.tobytes()
    places = [place - 1 for row in expected for place, _ in row.entries]
    values = np.array([value for row in expected for _, value in row.entries])
    assert X.indices.tolist() == places
    assert np.diff(X.indptr).tolist() == [len(row.entries) for row in expected]
    assert X.data.tobytes() == values.tobytes()
    return True


def check_compressed(content, width, rng):
    """The same for a compressed file whose bytes may have been changed."""
    half = rng.randint(0, len(content))
    pack = rng.choice((gzip.compress, bz2.compress, lzma.compress))
    parts = (content,) if rng.random() < 0.7 else (content[:half], content[half:])
    packed = b"".join(map(pack, parts))
    changed = mutated(packed, rng) if rng.random() < 0.7 else packed
    found = read(changed, width)
    if isinstance(found, str):
        assert found.startswith("libsvm file")
        assert changed != packed or isinstance(slow_read(content, width), Refused)
        return False
    # Changed were bytes that do not count, such as a time; or all of the second stream
    # was cut off, and what is left is a whole file.
    whole = (
        changed == packed or len(parts) == 1 or not same(found, read(parts[0], width))
    )
    assert not whole or same(found, read(content, width))
    return True


def read(content, width, final_newline=True):
    """What the reader makes of a file: its numbers, or the text of its refusal."""
    try:
        return datasets.read_libsvm(
            io.BytesIO(content), n_features=width, final_newline=final_newline
        )
    except ValueError as error:
        return str(error)


def same(a, b):
    """Whether two files have the same numbers."""
    if isinstance(a, str) or isinstance(b, str):
        return False
    (X, y), (Z, z) = a, b
    return X.data.tobytes() + y.tobytes() == Z.data.tobytes() + z.tobytes()


def run(cases, seed=0, progress=lambda k: None):
    """Check so many cases; returns how many files were read."""
    read = 0
    for k in range(cases):
        rng = random.Random(seed * 10**12 + k)
        content, width = random_file(rng)
        try:
            if k % 20 == 19:
                read += check_compressed(content, width, rng)
            else:
                read += check(content, width, final_newline=k % 10 != 0)
        except Exception as error:
            raise AssertionError(
                f"case {k} of seed {seed}, {width} columns: {content!r}"
            ) from error
        progress(k)
    return read


def main(arguments=None):
    """Read random files until one is read wrongly."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=main.__doc__
    )
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    start = time.perf_counter()

    def progress(k):
        if k % 20_000 == 19_999:
            rate = (k + 1) / (time.perf_counter() - start)
            left = (options.cases - k - 1) / rate
            print(f"{k + 1} cases, {rate:.0f} a second, {left:.0f} s left", flush=True)

    read = run(options.cases, options.seed, progress)
    print(f"{options.cases} files: {read} read, the others refused, none wrongly")
    return 0


if __name__ == "__main__":
    sys.exit(main())
