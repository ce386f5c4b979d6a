import math

import pytest

from edgekit.schema.metric import MetricSpec, metric_drop


@pytest.mark.parametrize(
    ("before", "after", "larger_is_better", "is_share", "drop"),
    [
        (0.9, 0.8, True, True, 0.1),
        (0.8, 0.9, True, True, -0.1),
        (4.0, 4.2, False, False, 0.05),
        (-2.0, -3.0, True, False, 0.5),
        (0.02, 0.03, False, True, 0.01),
        (0.0, 0.0, False, False, 0.0),
        (0.0, 0.1, False, False, math.inf),
        (0.0, 0.1, True, False, -math.inf),
    ],
)
def test_a_drop_is_positive_where_it_is_worse_and_relative_where_no_share(
    before, after, larger_is_better, is_share, drop
):
    found = metric_drop(before, after, larger_is_better=larger_is_better, is_share=is_share)
    assert found == pytest.approx(drop)


def test_a_metric_is_written_as_a_name_or_with_what_it_is_given():
    assert MetricSpec.model_validate("top1") == MetricSpec(name="top1")
    assert MetricSpec.model_validate({"name": "top_k", "arguments": {"k": 3}}).arguments == {"k": 3}
