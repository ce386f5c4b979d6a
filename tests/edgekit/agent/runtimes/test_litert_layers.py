"""Rows from events as LiteRT 2.3 gave them for a convolution, CUMSUM and another convolution; the rest in profiling."""

import pytest

from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.litert_layers import operator_rows, precision_of

RUN = [
    ("LiteRT::Run[buffer registration]", 1, 16),
    ("Invoke", 1, 70),
    ("Transpose (ND, X32) Transpose", 8, 2),
    ("Convolution (NHWC, F32) IGEMM", 8, 19),
    ("CUMSUM", 2, 3),
    ("Clamp (NC)", 8, 0),
    ("Convolution (NHWC, F32) IGEMM", 8, 25),
    ("Invoke", 32, 4294967296),
    ("LiteRT::Run[Buffer sync]", 1, 15),
]
SLOWER = [(tag, kind, us + 2 * (tag == "CUMSUM")) for tag, kind, us in RUN]


def test_operators_are_told_apart_by_their_place_and_averaged_over_the_runs():
    rows = operator_rows([*RUN, *SLOWER], 2)
    assert [(row["name"], row["mean_ms"], row["runs"]) for row in rows] == [
        ("0 Transpose (ND, X32) Transpose", 0.002, 2),
        ("1 Convolution (NHWC, F32) IGEMM", 0.019, 2),
        ("2 CUMSUM", 0.004, 2),
        ("3 Clamp (NC)", 0.0, 2),
        ("4 Convolution (NHWC, F32) IGEMM", 0.025, 2),
    ]
    assert [row["operator"] for row in rows] == ["Transpose", "Convolution", "CUMSUM", "Clamp", "Convolution"]


@pytest.mark.parametrize("events", [RUN, [*RUN, *RUN[:-4]], []])
def test_runs_that_do_not_agree_are_refused(events: list[tuple[str, int, int]]):
    with pytest.raises(AgentError, match="2 were made"):
        operator_rows(events, 2)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("Convolution (NHWC, QC8) DWConv", "int8"),
        ("Fully Connected (NC, QS8, QC8W) GEMM", "int8"),
        ("Convolution (NHWC, F32) IGEMM", "fp32"),
        ("Convolution (NHWC, F16) IGEMM", "fp16"),
        ("Convolution (NHWC, PF32) IGEMM", "fp32"),  # on arm64
        ("Transpose (ND, X32) Transpose", None),
        ("CUMSUM", None),
    ],
)
def test_precision_is_what_the_kernels_name_says(tag: str, expected: str | None):
    assert precision_of(tag) == expected
