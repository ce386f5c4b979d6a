import pytest
from pydantic import ValidationError

from edgekit.schema.prune import PruneOptions

BUDGET = {"budget": {"macs_ratio": 0.5}}


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({**BUDGET, "autobot": {"steps": 50}}, "autobot with method search"),
        ({"channel_ratio": 0.5, "method": "autobot"}, "channel_ratio"),
        ({"channel_ratio": 0.5, "method": "search"}, "channel_ratio with method search"),
        ({**BUDGET, "global_ranking": False}, "global_ranking with method search"),
        ({**BUDGET, "method": "autobot", "importance": "taylor"}, "ranks nothing"),
        ({**BUDGET, "method": "autobot", "global_ranking": False}, "ranks nothing"),
        ({**BUDGET, "method": "autobot", "loss": "mse", "autobot": {"label_smoothing": 0.1}}, "label_smoothing"),
        ({**BUDGET, "method": "autobot", "autobot": {"steps": 9}}, "greater than or equal to 10"),
        ({**BUDGET, "method": "ranking", "loss": "mse"}, "a loss with importance magnitude"),
    ],
)
def test_options_that_say_nothing_together_are_refused(given, what):
    with pytest.raises(ValidationError, match=what):
        PruneOptions(**given)


def test_gates_are_trained_with_any_loss():
    assert PruneOptions(**BUDGET, method="autobot", loss="mse").loss == "mse"
