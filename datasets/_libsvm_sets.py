"""The sets that come as libsvm text; see `_registry` for the rule of addresses."""

from __future__ import annotations

from datasets._records import DataFile, DataSet

_LIBSVM = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary/"
_ADULT = (
    "B. Becker, R. Kohavi; UCI Machine Learning Repository, Adult; features of LIBSVM"
)
_IJCNN = "D. Prokhorov, Ford Research Laboratory; features of C.-C. Chang, C.-J. Lin"
_REUTERS = "Reuters-21578, money-fx against the rest; features of LASVM"
_WEB = "J. Platt, 1998; features of LIBSVM"


def _libsvm(
    name: str,
    shape: tuple[int, int],
    n_entries: int,
    sha256: str | tuple[str, ...],
    size: int,
    *,
    address: str | None = None,
    stem: str | None = None,
    target: str = "-1 and +1",
    licence: str = "none stated",
    origin: str,
    sparse: bool = True,
    labels: tuple[tuple[float, float], ...] = (),
    integer_target: bool = False,
) -> DataSet:
    file = DataFile(
        stems=(stem or name,),
        sha256=(sha256,) if isinstance(sha256, str) else sha256,
        size=size,
        addresses=() if address is None else (_LIBSVM + address,),
    )
    return DataSet(
        name=name,
        shape=shape,
        target=target,
        licence=licence,
        origin=origin,
        form="libsvm",
        sparse=sparse,
        n_entries=n_entries,
        labels=labels,
        integer_target=integer_target,
        files=(file,),
    )


LIBSVM_SETS = (
    _libsvm(
        "ijcnn1",
        (49_990, 22),
        649_870,
        "16506cad788cf7c9607454150ed1994788204bac2ff4c9cb3b320036b6950d3f",
        7_744_897,
        address="ijcnn1.bz2",
        origin=_IJCNN,
        sparse=False,
    ),
    _libsvm(
        "ijcnn1.t",
        (91_701, 22),
        1_192_113,
        "e7b0bbd518641980dc322746c6bc59d019d3153934e6258e48f9d8cfae2c4bb8",
        14_213_968,
        address="ijcnn1.t.bz2",
        origin=_IJCNN,
        sparse=False,
    ),
    _libsvm(
        "a9a",
        (32_561, 123),
        451_592,
        "f5d5ffd8d865ff41328e7ee043e4b020816914ff6843ff15b98905ddbedce906",
        2_329_875,
        address="a9a",
        licence="CC BY 4.0",
        origin=_ADULT,
    ),
    _libsvm(
        "a9a.t",
        (16_281, 123),
        225_731,
        "1f448a153f0320399a7e40836eb207655b0bde0f21fc941cc472193daa9f5de9",
        1_164_628,
        address="a9a.t",
        licence="CC BY 4.0",
        origin=_ADULT,
    ),
    _libsvm(
        "mushrooms",
        (8_124, 112),
        170_604,
        # LIBSVM's file has labels 1 and 2. The other content in circulation has 0 in
        # place of 2 and no newline at its end; otherwise they are equal.
        (
            "f39a4eb628dc61a7d43760815b061c9e497aa728ce1ad8bde57a09ef6043b538",
            "b0d855abdc099142ea4fadb3b8c6cea523ce290e12591be1704e5c85d8a4160a",
        ),
        879_712,
        address="mushrooms",
        target="+1 poisonous, -1 edible",
        licence="CC BY 4.0",
        origin="UCI Machine Learning Repository, Mushroom; features of LIBSVM",
        labels=((1.0, 1.0), (2.0, -1.0), (0.0, -1.0)),
    ),
    _libsvm(
        "w8a",
        (49_749, 300),
        579_586,
        "6a9fa8fd5f524303240a5db07d4b3d4a51e8b7b4b20a914105d8e3e8c81640f2",
        3_478_238,
        address="w8a",
        origin=_WEB,
    ),
    _libsvm(
        "w8a.t",
        (14_951, 300),
        174_276,
        "618929ecb01bebb841daec4cae4aa07b97832d29b08652452775598929547fde",
        1_045_870,
        address="w8a.t",
        origin=_WEB,
    ),
    _libsvm(
        "reuters",
        (7_770, 8_315),
        339_837,
        "caacd2baf041b15b51ab65c0ec2ac834a439a561fb6708427c1c002c10ac7215",
        8_274_096,
        stem="reuters.trn",
        licence="free for research",
        origin=_REUTERS,
    ),
    _libsvm(
        "reuters.t",
        (3_299, 8_315),
        136_821,
        "6e267dcb1f83c68bcb1c3f30d7a70dd9fe059e1da39b9c191456ff827507539f",
        2_241_732,
        stem="reuters.tst",
        licence="free for research",
        origin=_REUTERS,
    ),
    # No address: the text was written from a binary copy, so that LIBSVM's file, with
    # the same numbers, may differ in its bytes.
    _libsvm(
        "news20",
        (15_935, 62_061),
        1_272_569,
        "1d6eb77c42e1c78e86f36af834268de933da3607f38e3703aef15f7a9f11e506",
        9_003_251,
        target="newsgroup, 1 to 20",
        origin="K. Lang, 1995; features of J. D. M. Rennie and R. Rifkin",
        integer_target=True,
    ),
)
