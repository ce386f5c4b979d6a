"""Advice on Python and runtimes, for boards as people have them."""

import pytest

from edgekit.devices.advice_libraries import advise_libraries, check_architecture
from edgekit.schema.load import load_target
from tests.edgekit.devices.boards import facts, orin, runtime

TARGET = load_target("raspberry-pi-5").target
VENV = "python3 -m venv --system-site-packages $HOME/edgekit-env && $HOME/edgekit-env/bin/python -m pip install"


def advice(found, target="raspberry-pi-5"):
    return {check.name: check for check in advise_libraries(found, load_target(target).target)}


def test_a_managed_python_gets_an_environment_of_its_own():
    checks = advice(facts())
    first = checks["runtime litert"]
    assert (first.state, first.found) == ("broken", "not installed")  # no runtime of the target works
    assert first.fix.startswith(f"{VENV} ai-edge-litert==")
    assert first.fix.endswith("set `python: /home/pi/edgekit-env/bin/python` for this device in devices.yaml")
    assert advice(facts(python={"venv": False}))["runtime litert"].fix.startswith(
        "sudo apt install -y python3-venv && "
    )


def test_the_first_runtime_matters_more_than_the_others():
    other = advice(facts(imports={"onnxruntime": runtime("1.23.2")}))
    assert other["runtime litert"].state == "problem"
    assert other["runtime onnxruntime"].state == "ok"
    first = advice(facts(imports={"litert": runtime("2.1.0")}))
    assert (first["runtime litert"].state, first["runtime onnxruntime"].state) == ("ok", "absent")


def test_numpy_is_the_agents_own_need():
    absent = advice(facts(imports={"numpy": runtime()}))["numpy"]
    assert (absent.state, absent.fix) == ("broken", "sudo apt install -y python3-numpy")
    failed = runtime(state="failed", error="ImportError: libf77blas.so.3: cannot open shared object file")
    broken = advice(facts(python={"externally_managed": False}, imports={"numpy": failed}))["numpy"]
    assert broken.state == "broken"
    assert broken.fix == "/usr/bin/python3 -m pip install --force-reinstall numpy"


def test_tflite_runtime_wants_numpy_1_and_litert_is_its_successor():
    failed = runtime(state="failed", error="it was compiled for numpy 1 and cannot run with numpy 2")
    old = facts(python={"virtual": True, "externally_managed": False}, imports={"tflite-runtime": failed})
    target = load_target("raspberry-pi-5").target
    rows = (target.formats[0].model_copy(update={"runtime": "tflite-runtime"}),)
    checks = {c.name: c for c in advise_libraries(old, target.model_copy(update={"formats": rows}))}
    fix = checks["runtime tflite-runtime"].fix
    assert fix.startswith("/usr/bin/python3 -m pip install 'numpy<2' or, in its place: ")
    assert "ai-edge-litert==" in fix


def test_two_flavours_of_onnx_runtime_leave_the_special_one():
    found = orin(packages={"onnxruntime": "1.23.2", "onnxruntime-gpu": "1.23.0", "onnxruntime-extensions": "0.14"})
    check = advice(found, "jetson-orin-nano")["ONNX Runtime flavours"]
    assert check.state == "problem"
    assert check.fix == (
        "/usr/bin/python3 -m pip uninstall -y onnxruntime onnxruntime-gpu && "
        "/usr/bin/python3 -m pip install onnxruntime-gpu"
    )
    assert "ONNX Runtime flavours" not in advice(orin(packages={"onnxruntime": "1.23.2"}), "jetson-orin-nano")


def test_jetpack_4_has_too_old_a_python():
    nano = facts(
        python={"version": "3.6.9", "externally_managed": False},
        system={"id": "ubuntu", "libc": "glibc 2.27", "name": "Ubuntu 18.04.6 LTS"},
        jetson={
            "l4t": "32.7.4",
            "packages": {},
            "mode": "0",
            "modes": {"0": "MAXN"},
            "trtexec": "/usr/src/tensorrt/bin/trtexec",
            "cuda": "10.2.300",
        },
        imports={"numpy": runtime("1.13.3")},
    )
    checks = advice(nano, "jetson-nano")
    assert checks["python"].state == "broken"
    assert "python3.8 -m venv $HOME/edgekit-env" in checks["python"].fix
    assert checks["libc"].state == "problem"
    assert (checks["runtime trtexec"].state, checks["runtime trtexec"].found) == ("ok", "/usr/src/tensorrt/bin/trtexec")
    debian = advice(facts(python={"version": "3.7.3"}))["python"]
    assert debian.state == "broken"
    assert "apt" not in debian.fix


def test_a_healthy_jetson_has_no_complaint():
    checks = advice(orin(), "jetson-orin-nano")
    assert checks["runtime tensorrt"].found == "10.3.0, CUDA 12.6.68, libnvinfer10 10.3.0.30-1+cuda12.5"
    assert {name: check.state for name, check in checks.items() if check.state != "ok"} == {"runtime litert": "absent"}


def test_a_wheel_beside_jetpacks_own_library_is_two_versions():
    check = advice(orin(imports={"tensorrt": runtime("10.9.0.34")}), "jetson-orin-nano")["runtime tensorrt"]
    assert check.state == "problem"
    assert check.fix.startswith("python3 -m pip uninstall -y tensorrt")


def test_old_tensorrt_fails_with_newer_numpy():
    packages = {"libnvinfer8": "8.5.2-1+cuda11.4"}
    found = orin(jetson={"packages": packages}, imports={"tensorrt": runtime("8.5.2.2"), "numpy": runtime("1.24.4")})
    check = advice(found, "jetson-orin-nano")["runtime tensorrt"]
    assert check.state == "problem"
    assert check.fix == "/usr/bin/python3 -m pip install 'numpy<1.24'"
    older = orin(jetson={"packages": packages}, imports={"tensorrt": runtime("8.5.2.2"), "numpy": runtime("1.23.5")})
    assert advice(older, "jetson-orin-nano")["runtime tensorrt"].state == "ok"


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"python": {"virtual": True}}, "/usr/bin/python3 -m venv --system-site-packages"),
        ({"python": {"executable": "/usr/bin/python3.11"}}, "set `python: /usr/bin/python3` for this device"),
        ({"jetson": {"packages": {}}}, "sudo apt update && sudo apt install -y nvidia-jetpack"),
    ],
)
def test_tensorrt_is_the_systems_not_pips(changes, fix):
    found = orin(**{**changes, "imports": {"tensorrt": runtime()}})
    check = advice(found, "jetson-orin-nano")["runtime tensorrt"]
    assert check.state == "problem"
    assert check.fix.startswith(fix)


def test_a_32_bit_system_and_a_wrong_target_are_broken():
    assert advice(facts(python={"bits": 32}))["python"].state == "broken"
    wrong = advice(facts(system={"architecture": "x86_64"}))["system"]
    assert wrong.state == "broken"
    assert "raspberry-pi-5 is aarch64" in wrong.fix
    assert check_architecture(facts(system={"architecture": "x86_64"}), TARGET, stand_in=True).state == "ok"
    assert advice(facts(system={"libc": None}))["libc"].state == "problem"


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        ("died of SIGILL", "does not have"),
        ("ImportError: /lib/libm.so.6: version `GLIBC_2.38' not found", "the package is for a newer system"),
        ("/opt/py does not start: No such file or directory", "correct `python_of`"),
        ("importing it took over 90 s", "says whether it ever ends"),
        ("ImportError: something else", "pip install --force-reinstall onnxruntime"),
    ],
)
def test_a_runtime_that_fails_says_why(error, fix):
    found = facts(imports={"onnxruntime": runtime(state="failed", error=error)})
    check = advice(found)["runtime onnxruntime"]
    assert (check.state, check.found) == ("problem", error)
    assert fix in check.fix


def test_a_python_of_its_own_is_named():
    found = facts(imports={"litert": runtime("2.1.0", python="/opt/litert/bin/python")})
    assert advice(found)["runtime litert"].found == "2.1.0, by /opt/litert/bin/python"


def test_jetpack_5_has_no_litert_and_is_told_of_its_predecessor():
    found = orin(python={"version": "3.8.10"}, system={"libc": "glibc 2.31"})
    check = advice(found, "jetson-orin-nano")["runtime litert"]
    assert check.state == "absent"
    assert check.fix.startswith("no ai-edge-litert is published for Python 3.8.10, glibc 2.31; its predecessor: ")
    assert "tflite-runtime==2.13.0 'numpy<2'" in check.fix
