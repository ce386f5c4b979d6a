"""Completion, asked as a shell asks: by click's protocol, and once in a real bash."""

import shutil
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from edgekit.cli.completion import COMPLETE_VARIABLE
from edgekit.cli.main import COMMANDS, cli
from edgekit.schema.find import names


@pytest.fixture
def complete(tmp_path, monkeypatch):
    """Completes a command line whose last word is not finished; gives the values."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        asked = ShellComplete(cli, {}, "edgekit", COMPLETE_VARIABLE)
        return [item.value for item in asked.get_completions(list(words[:-1]), words[-1])]

    return run


def test_commands_are_completed_without_importing_them(complete):
    assert complete("") == list(COMMANDS)
    assert complete("pro") == ["profile"]
    assert "--version" in complete("--")
    assert complete("no-such-command", "") == list(COMMANDS)  # click starts again; there is no traceback


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("build", "--target", "jetson-o"), ["jetson-orin-nano"]),
        (("plan", "--target", "jets"), [name for name in ("jetson", *names("target")) if name.startswith("jets")]),
        (("build", "--device", "l"), ["local"]),
        (("build", "net.onnx", "--calib", "digi"), ["digits"]),
        (("profile", "a.onnx", "--device", ""), ["local"]),
        (("devices", "ping", "lo"), ["local"]),
        (("build", "resnet2"), ["resnet20-cifar10", "resnet20-cifar10-pruned"]),
        (("recipes", "show", "quick"), ["quickstart"]),
        (("passes", "show", "re"), ["reparam"]),
        (("schema", "calib"), ["calibration-set"]),
        (("completion", "z"), ["zsh"]),
        (("build", "--no-m"), ["--no-measure"]),
    ],
)
def test_names_are_completed_where_they_are_asked_for(complete, words, expected):
    found = complete(*words)
    assert [name for name in found if name in expected] == expected
    assert all(name.startswith(words[-1]) for name in found)


def test_names_and_files_of_the_working_directory_count_too(complete, tmp_path):
    for folder, name in (("recipes", "mine"), ("targets", "mine-board")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.yaml").write_text("name: 5\n")
    (tmp_path / "mixed.onnx").touch()
    assert complete("build", "mi") == ["mine", "mixed.onnx"]
    assert complete("build", "nothing/") == ["nothing/"]  # the shell completes paths itself
    # a target that cannot be read is not offered, and hides no other
    assert complete("build", "--target", "mine") == []
    assert complete("build", "--target", "jetson-a") == ["jetson-agx-orin"]


def test_a_broken_devices_file_is_no_traceback(complete, tmp_path):
    (tmp_path / "devices.yaml").write_text("devices: [")
    assert complete("build", "--device", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_shells_own(edgekit, edgekit_json, shell):
    result = edgekit("completion", shell)
    assert result.exit_code == 0
    assert f"{COMPLETE_VARIABLE}={shell}_complete" in result.stdout
    assert edgekit_json("completion", shell) == (0, {"shell": shell, "script": result.stdout.removesuffix("\n")})


def test_an_unknown_shell_is_a_usage_error(edgekit):
    assert edgekit("completion", "tcsh").exit_code == 2


def test_bash_completes_a_target(tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    program = tmp_path / "edgekit"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from edgekit.cli.main import main; main()" "$@"\n')
    program.chmod(0o755)
    script = f"""
    PATH={tmp_path}:$PATH
    eval "$(edgekit completion bash)"
    COMP_WORDS=(edgekit build --target jetson-a)
    COMP_CWORD=3
    $(complete -p edgekit | sed 's/.*-F \\([^ ]*\\).*/\\1/') edgekit
    echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([bash, "--norc", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["jetson-agx-orin"], done.stderr
