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
    row = {"name": "bench", "target": "jetson-orin-nano", "transport": "local", "address": None, "stand_in_for": None}
    assert document["devices"] == [row]
    assert document["override"]["path"] == "devices.yaml"


def test_a_device_of_no_known_target_is_refused(edgekit, tmp_path):
    (tmp_path / "mine.yaml").write_text("devices: [{name: bench, target: jetsn}]")
    result = edgekit("devices", "list", "--file", "mine.yaml")
    assert result.exit_code == 1
    assert "did you mean 'jetson'?" in result.stderr
    assert edgekit("devices", "list", "--file", "absent.yaml").exit_code == 1


def test_add_writes_a_board_that_list_then_shows(edgekit, edgekit_json, tmp_path):
    result = edgekit("devices", "add", "pi", "--target", "pi5", "--address", "pi.lab", "--user", "ada")
    assert result.exit_code == 0
    assert "try: edgekit devices ping pi" in result.stdout
    _, document = edgekit_json("devices", "list")
    assert [(row["name"], row["transport"], row["address"]) for row in document["devices"]] == [
        ("local", "local", None),
        ("pi", "ssh", "pi.lab"),
    ]
    assert edgekit("devices", "add", "pi", "--target", "pi5", "--address", "pi.lab").exit_code == 4
    wrong = edgekit("devices", "add", "pi2", "--target", "pi6", "--address", "pi.lab")
    assert wrong.exit_code == 1
    assert "did you mean" in wrong.stderr
    option = edgekit("devices", "add", "pi2", "--target", "pi5", "--address=-oProxyCommand=reboot")
    assert option.exit_code == 1


def test_ping_says_what_this_machine_is(edgekit, edgekit_json):
    result = edgekit("devices", "ping", "local")
    assert result.exit_code == 0
    assert "local (this machine) was reached in" in result.stdout
    _, document = edgekit_json("devices", "ping", "local")
    assert document["cpu_count"] >= 1
    assert document["emulated"] == ""


def test_ping_of_a_board_that_is_not_there_is_exit_code_4(edgekit, tmp_path):
    (tmp_path / "nothing").write_text("")
    given = ("--address", "board.invalid", "--ssh-config", str(tmp_path / "nothing"))
    assert edgekit("devices", "add", "pi", "--target", "pi5", *given).exit_code == 0
    result = edgekit("devices", "ping", "pi")
    assert result.exit_code == 4
    assert "nothing is called 'board.invalid'" in result.stderr
