from pathlib import Path

import pytest

from edgekit.devices.book import add_device
from edgekit.errors import DeviceError, SchemaError
from edgekit.schema.device import Device
from edgekit.schema.load import load_devices

PI = Device(name="pi", target="raspberry-pi-5", transport="ssh", address="pi.lab", port=2222, python="/opt/py")


def test_a_board_is_added_below_the_others_and_every_comment_stays(tmp_path: Path):
    path = tmp_path / "devices.yaml"
    path.write_text(
        "# mine\ndevices:\n    - name: local  # here\n      target: cpu-x86-64\n\n# the shelf:\n# none yet\n"
    )
    add_device(PI, path)
    assert path.read_text() == (
        "# mine\ndevices:\n    - name: local  # here\n      target: cpu-x86-64\n"
        "    - name: pi\n      target: raspberry-pi-5\n      transport: ssh\n      address: pi.lab\n      port: 2222\n"
        "      python: /opt/py\n\n# the shelf:\n# none yet\n"
    )
    assert load_devices(path).devices.devices[1] == PI


def test_a_new_file_has_this_machine_too(tmp_path: Path):
    add_device(PI, tmp_path / "deep" / "devices.yaml", "cpu-arm64")
    found = load_devices(tmp_path / "deep" / "devices.yaml").devices.devices
    assert [(device.name, device.target) for device in found] == [("local", "cpu-arm64"), ("pi", "raspberry-pi-5")]


def test_a_name_is_given_once(tmp_path: Path):
    add_device(PI, tmp_path / "devices.yaml")
    before = (tmp_path / "devices.yaml").read_text()
    with pytest.raises(DeviceError) as caught:
        add_device(PI, tmp_path / "devices.yaml")
    assert caught.value.what == "there is a device called 'pi'"
    assert (tmp_path / "devices.yaml").read_text() == before


@pytest.mark.parametrize("text", ["devices: [{name: local, target: jetson}]\n", "devices: []\n", "devices:\n"])
def test_what_cannot_be_added_to_is_left_as_it_was(tmp_path: Path, text: str):
    path = tmp_path / "devices.yaml"
    path.write_text(text)
    with pytest.raises(SchemaError):
        add_device(PI, path)
    assert path.read_text() == text
    assert [entry.name for entry in tmp_path.iterdir()] == ["devices.yaml"]


def test_the_ssh_configuration_lies_beside_the_file(tmp_path: Path):
    add_device(PI.model_copy(update={"ssh_config": Path("lab.config")}), tmp_path / "devices.yaml")
    assert load_devices(tmp_path / "devices.yaml").devices.devices[1].ssh_config == tmp_path / "lab.config"
