"""What is known about each data set: files, checksums, addresses, shapes, licences.

A file has an address only if its content there is known to be the pinned one: the
checksum was published for that address, or the content was compared with a copy from
there.
"""

from __future__ import annotations

from dataclasses import replace

from datasets._libsvm_sets import LIBSVM_SETS
from datasets._records import DataFile, DataSet

_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_WINE = (
    "https://archive.ics.uci.edu/ml/machine-learning-databases/wine-quality/"
    "winequality-"
)


def _covtype(name: str, target: str, integer_target: bool = False) -> DataSet:
    return DataSet(
        name=name,
        shape=(581_012, 54),
        target=target,
        licence="CC BY 4.0",
        origin="J. A. Blackard, Colorado State University; UCI Machine Learning "
        "Repository, Covertype, https://doi.org/10.24432/C50K5N",
        form="embedded",
        integer_target=integer_target,
    )


def _mnist(name: str, n: int, stem: str, *content: tuple[str, str, int]) -> DataSet:
    files = tuple(
        DataFile(
            stems=(
                f"mnist-{stem}-{kind}-ubyte".replace("-idx", ".idx"),
                f"{stem}-{kind}-ubyte",
                f"{stem}-{kind}-ubyte".replace("-idx", ".idx"),
            ),
            sha256=(sha256,),
            size=size,
            addresses=(f"{_MNIST}{stem}-{kind}-ubyte.gz",),
        )
        for kind, sha256, size in content
    )
    return DataSet(
        name=name,
        shape=(n, 784),
        target="digit, 0 to 9; X holds grey levels 0 to 255",
        licence="usually given as CC BY-SA 3.0",
        origin="Y. LeCun, C. Cortes, C. J. C. Burges",
        form="idx",
        integer_target=True,
        files=files,
    )


def _wine(colour: str, n: int, sha256: str, size: int) -> DataSet:
    stem = f"winequality-{colour}.csv"
    return DataSet(
        name=f"wine.{colour}",
        shape=(n, 11),
        target="quality, 3 to 9 (float64)",
        licence="CC BY 4.0",
        origin="P. Cortez, A. Cerdeira, F. Almeida, T. Matos, J. Reis; UCI Machine "
        "Learning Repository, Wine Quality, https://doi.org/10.24432/C56S3T",
        form="wine",
        files=(DataFile((stem,), (sha256,), size, (f"{_WINE}{colour}.csv",)),),
    )


_RED = _wine(
    "red",
    1_599,
    "4a402cf041b025d4566d954c3b9ba8635a3a8a01e039005d97d6a710278cf05e",
    84_199,
)
_WHITE = _wine(
    "white",
    4_898,
    "76c3f809815c17c07212622f776311faeb31e87610d52c26d87d6e361b169836",
    264_426,
)

_ALL = (
    _covtype("covtype", "class, 1 to 7", integer_target=True),
    _covtype("covtype.binary", "+1 for class 2, -1 for the others"),
    _covtype("covtype.binary.scale", "+1 for class 2, -1 for the others"),
    DataSet(
        name="covtype.synthetic",
        shape=(581_012, 54),
        target="-1 and +1",
        licence="that of this project",
        origin="generated, see datasets.covtype_like",
        form="generated",
    ),
    *LIBSVM_SETS,
    _mnist(
        "mnist",
        60_000,
        "train",
        (
            "images-idx3",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            47_040_016,
        ),
        (
            "labels-idx1",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            60_008,
        ),
    ),
    _mnist(
        "mnist.t",
        10_000,
        "t10k",
        (
            "images-idx3",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            7_840_016,
        ),
        (
            "labels-idx1",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            10_008,
        ),
    ),
    replace(_RED, name="wine", shape=(6_497, 11), files=_RED.files + _WHITE.files),
    _RED,
    _WHITE,
)

DATA_SETS = {data_set.name: data_set for data_set in _ALL}
