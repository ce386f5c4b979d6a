"""What `edgekit predict` prints: always that it is an estimate."""


def test_a_floor_is_printed_as_an_estimate(edgekit, edgekit_json):
    result = edgekit("predict", "quickstart", "--target", "raspberry-pi-5")
    assert result.exit_code == 0
    assert "estimate: not below" in result.stdout
    assert "an estimate, not a measurement: it satisfies no gate" in result.stdout
    assert "not available" in result.stdout  # fp16: no peak is published
    code, document = edgekit_json("predict", "quickstart", "--target", "raspberry-pi-5")
    assert (code, document["kind"]) == (0, "estimate")
    first = document["estimates"][0]
    assert first["ms"] is None
    assert first["floor_ms"] > 0
    assert document["macs"] > 0


def test_a_typing_error_is_named(edgekit):
    assert edgekit("predict", "quickstrat", "--target", "raspberry-pi-5").exit_code == 1
    assert edgekit("predict", "quickstart", "--target", "raspbery").exit_code == 1
