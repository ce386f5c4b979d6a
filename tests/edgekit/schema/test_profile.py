import json

from edgekit.schema.profile import Cadence, Conditions, LayerRow, MeasureSettings


def test_settings_from_before_have_the_key_that_they_had():
    known = {
        "threads": 1,
        "batch": 1,
        "warmup_ms": 200.0,
        "warmup_runs": 10,
        "duration_s": 3.0,
        "min_runs": 100,
        "percentile": 99.0,
    }
    assert MeasureSettings().model_dump(mode="json") == known
    assert json.loads(MeasureSettings(**known).model_dump_json()) == known


def test_other_modes_have_keys_of_their_own_and_come_back():
    for change in ({"fps": 30.0}, {"sustained_s": 1800.0}, {"idle_s": 0.0}, {"layers": True}):
        settings = MeasureSettings(**change)
        document = settings.model_dump(mode="json")
        assert {key: document[key] for key in change} == change
        assert len(document) == 8
        assert MeasureSettings.model_validate(document) == settings


def test_conditions_from_before_are_read():
    found = Conditions.model_validate({"cpu": "A Fine CPU", "throttled": False, "extra": {"identity": "1f"}})
    assert (found.clock_mhz_min, found.throttled_by, found.throttle_source) == (None, (), "")


def test_a_share_of_missed_frames():
    assert Cadence(fps=30.0, due=200, missed=3, dropped=1).missed_ratio == 0.015
    assert Cadence(fps=30.0, due=0, missed=0, dropped=0).missed_ratio == 0.0


def test_a_layer_may_not_know_its_precision():
    assert LayerRow(name="a", operator="Conv", mean_ms=0.5, ratio=1.0, runs=10).precision is None
