import errno
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgekit import __version__
from edgekit.cli.main import _EXTRAS, COMMANDS, LazyGroup, cli
from edgekit.errors import DeviceError, PassError


def group_that_raises(error: BaseException) -> LazyGroup:
    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def fail(as_json: bool) -> None:
        raise error

    class Group(LazyGroup):
        def get_command(self, ctx, cmd_name):
            return fail

    return Group(name="edgekit", table={"fail": ("nowhere:fail", "fails")})


def test_an_error_is_three_lines_on_stderr_and_exit_code_1():
    result = CliRunner().invoke(group_that_raises(PassError("lost 3 %", "step 2: prune", "keep more")), ["fail"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == ["error: lost 3 %", "where: step 2: prune", "  fix: keep more"]


def test_an_error_under_json_is_one_document_on_stdout():
    result = CliRunner().invoke(group_that_raises(PassError("a [b]", "c", "d")), ["fail", "--json"])
    assert result.exit_code == 1
    assert result.stderr == ""
    document = (
        '{\n  "error": {\n    "type": "PassError",\n    "what": "a [b]",\n    "where": "c",\n    "fix": "d"\n  }\n}\n'
    )
    assert result.stdout == document


def test_what_looks_like_markup_is_printed_as_it_is():
    result = CliRunner().invoke(group_that_raises(PassError("[red]x[/red]", "[1, 2]", "write [/]")), ["fail"])
    assert result.stderr.splitlines() == ["error: [red]x[/red]", "where: [1, 2]", "  fix: write [/]"]


def test_a_device_that_fails_is_exit_code_4():
    assert CliRunner().invoke(group_that_raises(DeviceError("a", "b", "c")), ["fail"]).exit_code == 4


def test_an_interrupt_is_exit_code_130_and_says_how_to_go_on():
    result = CliRunner().invoke(group_that_raises(KeyboardInterrupt()), ["fail"])
    assert result.exit_code == 130
    assert "run the same command to resume" in result.stderr


def test_an_unknown_command_is_a_usage_error():
    result = CliRunner().invoke(cli, ["biuld"])
    assert result.exit_code == 2
    assert "did you mean 'build'?" in result.stderr


def test_a_fault_of_ours_is_three_lines_and_its_traceback_lies_in_a_file():
    result = CliRunner().invoke(group_that_raises(KeyError("axis")), ["fail"])
    assert result.exit_code == 1
    what, where, fix = result.stderr.splitlines()
    assert what == "error: a fault in edgekit: KeyError: 'axis'"
    assert "test_main.py, line" in where
    (path,) = (Path(word.strip(",")) for word in fix.split() if word.startswith("/"))
    assert "raise error" in path.read_text()
    path.unlink()


def test_a_library_of_an_extra_that_is_absent_is_named_with_its_cure():
    error = ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    result = CliRunner().invoke(group_that_raises(error), ["fail"])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "error: torch is not installed"
    assert "pip install 'edgekit[torch]'" in result.stderr


def test_every_library_of_the_table_is_brought_by_the_extra_that_is_named():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {"sklearn": "scikit-learn", "PIL": "pillow"}
    for library, extra in _EXTRAS.items():
        name = names.get(library, library.replace("_", "-"))
        assert any(line.startswith(name) for line in project["optional-dependencies"][extra]), library


def test_what_the_system_refuses_is_no_traceback_either():
    error = PermissionError(errno.EACCES, "Permission denied", "/x/profiles.sqlite")
    result = CliRunner().invoke(group_that_raises(error), ["fail"])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[:2] == ["error: Permission denied", "where: /x/profiles.sqlite"]


def test_nothing_that_is_piped_ends_in_blanks():
    for command in (["targets", "list"], ["targets", "show", "jetson"], ["doctor"], ["passes", "show", "train"]):
        lines = CliRunner().invoke(cli, command).output.splitlines()
        assert len(lines) > 3
        assert [line for line in lines if line != line.rstrip()] == []


def test_help_lists_every_command_with_its_line():
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    for name, (_, line) in COMMANDS.items():
        assert f"{name} " in result.output
        assert line.split(",")[0] in result.output


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_row_of_the_table_is_a_command_that_takes_json(name):
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    for leaf in leaves:
        assert "--json" in {option for parameter in leaf.params for option in parameter.opts}, leaf.name


def test_python_m_edgekit_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "edgekit", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.strip() == f"edgekit, version {__version__}"
