import yaml

from edgekit.schema.find import shipped_folder


def test_list_names_every_target_with_its_aliases(edgekit, edgekit_json):
    result = edgekit("targets", "list")
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if "jetson-orin-nano" in line)
    assert "jetson, jetson-orin" in row
    assert "tensorrt, onnx, tflite" in row
    code, document = edgekit_json("targets", "list")
    assert code == 0
    assert [row["name"] for row in document["targets"]] == sorted(
        p.stem for p in (shipped_folder() / "targets").iterdir()
    )
    assert document["refused"] == []


def test_output_that_is_piped_has_no_colour(edgekit):
    assert "\x1b" not in edgekit("targets", "list").output
    assert "\x1b" not in edgekit("targets", "show", "nowhere").output


def test_show_gives_facts_with_their_sources_and_the_gates(edgekit, edgekit_json):
    result = edgekit("targets", "show", "jetson")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert any("bandwidth" in line and "68 GB/s" in line and "DS-11105-001" in line for line in lines)
    assert any("latency_p50_ms" in line and "at most 33.3" in line for line in lines)
    _, document = edgekit_json("targets", "show", "jetson")
    assert document["name"] == "jetson-orin-nano"
    assert document["bandwidth"]["value"] == 68
    first = document["formats"][0]
    assert {key: first[key] for key in ("format", "convention", "runtime", "note")} == {
        "format": "tensorrt",
        "convention": "tensorrt",
        "runtime": "tensorrt",
        "note": "",
    }
    assert first["sparse"]["pattern"] == "2:4"


def test_show_of_what_is_not_there_names_the_nearest(edgekit, edgekit_json):
    result = edgekit("targets", "show", "raspbery-pi-5")
    assert result.exit_code == 1
    assert "did you mean 'raspberry-pi-5'?" in result.stderr
    code, document = edgekit_json("targets", "show", "raspbery-pi-5")
    assert code == 1
    assert document["error"]["type"] == "SchemaError"


def test_a_target_of_the_users_is_announced_and_a_bad_one_listed_as_refused(edgekit, edgekit_json, tmp_path):
    (tmp_path / "targets").mkdir()
    content = yaml.safe_load((shipped_folder() / "targets" / "raspberry-pi-5.yaml").read_text())
    content["gates"]["latency_p50_ms"] = {"at_most": 10}
    (tmp_path / "targets" / "raspberry-pi-5.yaml").write_text(yaml.safe_dump(content))
    content["gates"]["latency_p50_ms"] = {"at_most": 1000}
    content["name"] = "raspberry-pi-4"
    (tmp_path / "targets" / "raspberry-pi-4.yaml").write_text(yaml.safe_dump(content))
    result = edgekit("targets", "list")
    assert result.exit_code == 0
    assert "targets/raspberry-pi-5.yaml stands in for the shipped file" in result.stderr
    assert "raspberry-pi-4 cannot be used: loosens the shipped gate 'latency_p50_ms'" in result.stderr
    _, document = edgekit_json("targets", "list")
    assert [row["name"] for row in document["refused"]] == ["raspberry-pi-4"]
    override = next(row["override"] for row in document["targets"] if row["name"] == "raspberry-pi-5")
    assert override["path"] == "targets/raspberry-pi-5.yaml"
