import pytest
from pydantic import ValidationError

from edgekit.schema.prune import PruneOptions

BUDGET = {"budget": {"macs_ratio": 0.5}}


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({**BUDGET, "autobot": {"steps": 50}}, "method ranking"),
        ({"channel_ratio": 0.5, "method": "autobot"}, "channel_ratio"),
        ({**BUDGET, "method": "autobot", "importance": "taylor"}, "ranks nothing"),
        ({**BUDGET, "method": "autobot", "global_ranking": False}, "ranks nothing"),
        ({**BUDGET, "method": "autobot", "loss": "mse", "autobot": {"label_smoothing": 0.1}}, "label_smoothing"),
        ({**BUDGET, "method": "autobot", "autobot": {"steps": 9}}, "greater than or equal to 10"),
        ({**BUDGET, "loss": "mse"}, "a loss with importance magnitude"),
    ],
)
def test_options_that_say_nothing_together_are_refused(given, what):
    with pytest.raises(ValidationError, match=what):
        PruneOptions(**given)


def test_gates_are_trained_with_any_loss():
    assert PruneOptions(**BUDGET, method="autobot", loss="mse").loss == "mse"
