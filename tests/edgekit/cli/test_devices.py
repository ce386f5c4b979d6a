from edgekit.schema.find import shipped_folder


def test_list_gives_the_shipped_devices_and_their_file(edgekit, edgekit_json):
    result = edgekit("devices", "list")
    assert result.exit_code == 0
    assert str(shipped_folder() / "devices.yaml") in result.stdout
    _, document = edgekit_json("devices", "list")
    assert document["devices"][0]["name"] == "local"
    assert document["override"] is None


def test_a_devices_file_of_the_users_wins_and_says_so(edgekit, edgekit_json, tmp_path):
    (tmp_path / "devices.yaml").write_text("devices: [{name: bench, target: jetson}]")
    result = edgekit("devices", "list")
    assert "devices.yaml stands in for the shipped file" in result.stderr
    _, document = edgekit_json("devices", "list")
    row = {"name": "bench", "target": "jetson-orin-nano", "transport": "local", "stand_in_for": None}
    assert document["devices"] == [row]
    assert document["override"]["path"] == "devices.yaml"


def test_a_device_of_no_known_target_is_refused(edgekit, tmp_path):
    (tmp_path / "mine.yaml").write_text("devices: [{name: bench, target: jetsn}]")
    result = edgekit("devices", "list", "--file", "mine.yaml")
    assert result.exit_code == 1
    assert "did you mean 'jetson'?" in result.stderr
    assert edgekit("devices", "list", "--file", "absent.yaml").exit_code == 1
