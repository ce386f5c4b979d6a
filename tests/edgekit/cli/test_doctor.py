import pytest

from edgekit.cli import doctor
from edgekit.devices.checks import Check
from edgekit.errors import DeviceError
from edgekit.schema.device import Device
from edgekit.schema.profile import Conditions
from edgekit.store.profiles import ProfileStore

REQUIREMENTS = [
    "Click>=8.1",
    "sql_alchemy>=2.0",
    "torch>=2.9; extra == 'torch'",
    "edgekit[torch]; extra == 'onnx'",
    'onnx>=1.18 ; extra == "onnx"',
    "psycopg[binary]>=3.2; extra == 'postgres'",
]


def by_name(checks):
    return {check.name: check for check in checks}


def test_the_report_covers_this_machine(edgekit, edgekit_json):
    code, document = edgekit_json("doctor")
    assert code == 0
    checks = {check["name"]: check for check in document["checks"]}
    assert checks["python"]["state"] == "ok"
    assert "pydantic " in checks["core libraries"]["found"]
    assert checks["targets and devices"]["found"].startswith("9 targets")
    assert {"disk", "memory", "cpu", "EDGEKIT_DATA", "ONNX Runtime", "extra torch"} <= set(checks)
    result = edgekit("doctor")
    assert result.exit_code == 0
    for check in checks.values():
        assert bool(check["fix"]) is (check["state"] != "ok"), check


def test_only_what_breaks_the_core_is_exit_code_1(edgekit, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.check_disk(10**9)])
    result = edgekit("doctor")
    assert result.exit_code == 0
    assert "disk: free 1.0 GB, or work on another disk" in result.stdout
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.check_python((3, 10, 1))])
    assert edgekit("doctor").exit_code == 1


def test_a_broken_target_of_the_users_is_named(edgekit_json, tmp_path):
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "mine.yaml").write_text("name: mine\nformat: []\n")
    code, document = edgekit_json("doctor")
    check = next(check for check in document["checks"] if check["name"] == "targets and devices")
    assert (code, check["state"]) == (0, "problem")
    assert "unknown key 'format'" in check["found"]


def test_libraries_are_grouped_by_the_extra_that_brings_them():
    checks = by_name(doctor.check_requirements(REQUIREMENTS, {"click": "8.1", "sql-alchemy": "2.0", "onnx": "1.18"}))
    assert checks["core libraries"].state == "ok"
    assert checks["core libraries"].found == "click 8.1, sql-alchemy 2.0"
    assert checks["extra onnx"].state == "ok"
    assert (checks["extra torch"].state, checks["extra torch"].fix) == ("absent", "pip install 'edgekit[torch]'")
    assert checks["extra postgres"].found == "no psycopg"
    broken = by_name(doctor.check_requirements(REQUIREMENTS, {"click": "8.1"}))["core libraries"]
    assert (broken.state, broken.fix) == ("broken", "pip install sql-alchemy")


def test_two_flavours_of_onnx_runtime_clash():
    both = doctor.check_onnxruntimes({"onnxruntime": "1.22", "onnxruntime-gpu": "1.22"})
    assert both.state == "problem"
    assert both.fix == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    assert doctor.check_onnxruntimes({"onnxruntime": "1.22"}).state == "ok"
    assert doctor.check_onnxruntimes({}).state == "absent"


@pytest.mark.parametrize(
    ("machine", "flags", "state"),
    [
        ("x86_64", {"avx2", "avx512_vnni"}, "ok"),
        ("x86_64", {"avx2", "avx_vnni"}, "ok"),
        ("x86_64", {"avx2", "avx512f"}, "problem"),
        ("aarch64", {"asimd", "asimddp"}, "ok"),
        ("aarch64", {"asimd"}, "problem"),
        ("arm64", set(), "ok"),
        ("riscv64", set(), "problem"),
    ],
)
def test_the_cpu_is_judged_by_its_8_bit_dot_product(machine, flags, state):
    check = doctor.check_cpu(machine, frozenset(flags))
    assert check.state == state
    assert bool(check.fix) is (state == "problem")


def test_the_flags_of_the_first_cpu_are_read(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert doctor._cpu_flags(cpuinfo) == {"fpu", "avx2", "avx_vnni"}
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert doctor._cpu_flags(cpuinfo) == {"fp", "asimd", "asimddp"}
    assert doctor._cpu_flags(tmp_path / "absent") == frozenset()


def test_the_data_folder_is_looked_into(tmp_path):
    assert doctor.check_data(None).state == "absent"
    assert doctor.check_data(str(tmp_path / "absent")).state == "problem"
    (tmp_path / "weights").mkdir()
    (tmp_path / "mnist.npz").touch()
    assert doctor.check_data(str(tmp_path)).found == f"{tmp_path}: mnist.npz, weights/"


def test_python_outside_the_range_is_broken():
    assert [doctor.check_python((3, minor, 0)).state for minor in (10, 11, 13, 14)] == ["broken", "ok", "ok", "broken"]


def test_a_board_is_reported_like_this_machine(edgekit, edgekit_json, monkeypatch):
    checks = [Check("reached", "ok", "local, 3 ms"), Check("disk", "problem", "0.1 GB free", "sudo apt clean")]
    monkeypatch.setattr("edgekit.devices.diagnosis.diagnose", lambda device, target, others: checks)
    result = edgekit("doctor", "--device", "local")
    assert result.exit_code == 0
    assert "device local, cpu-x86-64" in result.stdout
    assert "disk: sudo apt clean" in result.stdout
    code, document = edgekit_json("doctor", "--device", "local")
    assert (code, document["device"], document["target"]) == (0, "local", "cpu-x86-64")
    assert document["checks"][1] == {
        "name": "disk",
        "state": "problem",
        "found": "0.1 GB free",
        "fix": "sudo apt clean",
    }


def test_a_broken_board_is_1_and_one_that_is_not_there_is_4(edgekit, monkeypatch):
    broken = [Check("python", "broken", "3.6.9", "sudo apt install -y python3.8")]
    monkeypatch.setattr("edgekit.devices.diagnosis.diagnose", lambda device, target, others: broken)
    assert edgekit("doctor", "--device", "local").exit_code == 1
    assert edgekit("devices", "doctor", "local").exit_code == 1  # another way to the same

    def unreachable(device, target, others):
        raise DeviceError("the link is lost", f"device {device.name}", "check that it is on")

    monkeypatch.setattr("edgekit.devices.diagnosis.diagnose", unreachable)
    assert edgekit("doctor", "--device", "local").exit_code == 4
    assert edgekit("devices", "doctor", "local").exit_code == 4
    assert edgekit("doctor", "--device", "no-such-board").exit_code == 4


def test_a_copied_card_is_found_in_the_history(edgekit, draft_of, tmp_path, monkeypatch):
    profiles = [
        profile.model_copy(update={"device": name, "conditions": Conditions(extra={"identity": identity})})
        for profile, name, identity in zip(draft_of().full_profiles, ("pi5-a", "pi5-b"), ("aa", "bb"), strict=True)
    ]
    monkeypatch.setenv("EDGEKIT_DB", str(tmp_path / "profiles.sqlite"))
    with ProfileStore(tmp_path / "profiles.sqlite") as store:
        for profile in profiles:
            store.add(profile)
    asked = {}

    def diagnose(device, target, others):
        asked.update(others)
        return []

    monkeypatch.setattr("edgekit.devices.diagnosis.diagnose", diagnose)
    devices = "devices:\n  - {name: pi5-b, target: raspberry-pi-5, transport: ssh, address: pi5-b}\n"
    (tmp_path / "devices.yaml").write_text(devices)
    assert edgekit("doctor", "--device", "pi5-b").exit_code == 0
    assert asked == {"aa": "pi5-a"}


def test_no_history_is_made_by_looking_for_one(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_DB", str(tmp_path / "none.sqlite"))
    board = Device(name="pi5", target="raspberry-pi-5", transport="ssh", address="pi5")
    assert doctor.measured_boards(board) == {}
    assert list(tmp_path.iterdir()) == []
