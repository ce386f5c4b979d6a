"""The `edgekit` command: one table of commands, each imported when it is called, and errors as exit codes."""

from __future__ import annotations

import errno
import importlib
import shutil
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgekit import __version__
from edgekit.cli.output import print_error
from edgekit.errors import DeviceError, EdgekitError, MissingExtraError
from edgekit.schema.find import suggest
from edgekit.store.place import default_home

# name -> where its click command is, and its line in --help; printing the help so imports none of them
COMMANDS: Mapping[str, tuple[str, str]] = {
    "init": ("edgekit.cli.init:init", "Write a first recipe for a model and data of your own."),
    "build": ("edgekit.cli.build:build", "Turn a recipe into a measured, gated bundle."),
    "plan": ("edgekit.cli.plan:plan", "Say what a build would do, and what is cached."),
    "predict": ("edgekit.cli.predict:predict", "Estimate a network's latency on a board that is not here."),
    "profile": ("edgekit.cli.profile:profile", "Measure an artifact or a bundle on a device."),
    "history": ("edgekit.cli.history:history", "List what was measured, newest first; mark releases."),
    "compare": ("edgekit.cli.compare:compare", "Compare two builds, artifacts or profiles, with intervals."),
    "bisect": ("edgekit.cli.bisect:bisect", "Find the first build of the history that is slower."),
    "debug": ("edgekit.cli.debug:debug", "Find the layer at which an artifact departs from its network."),
    "verify": ("edgekit.cli.verify:verify", "Check a bundle's digests, and with --parity its outputs."),
    "recipes": ("edgekit.cli.recipes:recipes", "List the ready recipes, or show one."),
    "targets": ("edgekit.cli.targets:targets", "List the classes of hardware, or show one."),
    "passes": ("edgekit.cli.passes:passes", "List the passes, or show one with its options."),
    "devices": ("edgekit.cli.devices:devices", "List, add, reach and check the boards of devices.yaml."),
    "schema": ("edgekit.cli.schema:schema", "Print the JSON Schema of a recipe, a target, a pass, ..."),
    "completion": ("edgekit.cli.completion:completion", "Print what lets bash, zsh or fish complete edgekit."),
    "doctor": ("edgekit.cli.doctor:doctor", "Check this machine, and say how to fix what is wrong."),
}

_LEAST_FREE_BYTES = 1 << 20
# top-level module -> the extra that brings it
_EXTRAS = {
    **dict.fromkeys(("torch", "torchao", "accelerate", "sklearn", "scipy"), "torch"),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "onnx"),
    **dict.fromkeys(("litert_torch", "ai_edge_litert"), "tflite"),
    "PIL": "images",
    "matplotlib": "report",
    "psycopg": "postgres",
}
EXIT_ERROR, EXIT_DEVICE, EXIT_INTERRUPTED = 1, 4, 130
_AS_JSON = "edgekit.as_json"


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and turns edgekit's errors into exit codes."""

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]] = COMMANDS, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now; a usage error that names the nearest where there is none."""
        if cmd_name not in self.table:
            if ctx.resilient_parsing:  # the shell asks what may follow: nothing
                return None
            ctx.fail(f"no command is called {cmd_name!r}; {suggest(cmd_name, self.table, 'commands')}")
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands with their lines from the table, so that help imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.table.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Commands with their lines from the table, then options."""
        found = [
            CompletionItem(name, help=line) for name, (_, line) in self.table.items() if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, noting whether errors are to be JSON."""
        ctx.meta[_AS_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an edgekit error is printed and becomes exit code 1, or 4 where a device failed."""
        try:
            return super().invoke(ctx)
        except EdgekitError as error:
            print_error(error, ctx.meta[_AS_JSON])
            ctx.exit(EXIT_DEVICE if isinstance(error, DeviceError) else EXIT_ERROR)
        except KeyboardInterrupt:
            click.echo("interrupted: run the same command to resume", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of a pipe has gone; click ends quietly
                raise
            where = str(error.filename or _full_disks() or "the system")
            found = EdgekitError(f"{error.strerror or error}", where, "check free space and permissions")
            print_error(found, ctx.meta[_AS_JSON])
            ctx.exit(EXIT_ERROR)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # a bug of ours: the user gets a message, and we the traceback
            print_error(_fault(error), ctx.meta[_AS_JSON])
            ctx.exit(EXIT_ERROR)


def _full_disks() -> str:
    """Folders that edgekit writes to and whose disks are full: an error of writing does not say where it was."""
    folders = {"temporary files": Path(tempfile.gettempdir()), "working directory": Path(), "store": default_home()}
    found = (f"{what}: {path.resolve()}" for what, path in folders.items() if path.exists() and _is_full(path))
    return ", ".join(found)


def _is_full(path: Path) -> bool:
    return shutil.disk_usage(path).free < _LEAST_FREE_BYTES


def _fault(error: Exception) -> EdgekitError:
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("edgekit"):
        library = error.name.partition(".")[0]
        fix = f"pip install 'edgekit[{_EXTRAS.get(library, 'all')}]'; `edgekit doctor` says what else is missing"
        return MissingExtraError(f"{library} is not installed", f"this environment: {sys.prefix}", fix)
    handle, path = tempfile.mkstemp(prefix="edgekit-fault-", suffix=".txt")
    with open(handle, "w", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return EdgekitError(
        f"a fault in edgekit: {type(error).__name__}: {error}",
        f"{last.filename}, line {last.lineno}",
        f"report it with {path}, which holds the traceback",
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgekit")
def cli() -> None:
    """Turn a trained network into a measured, gated, verifiable bundle for an edge board."""


def main() -> None:
    """The console script. Exit codes: 0 done, 1 an edgekit error, 2 usage, 3 a gate failed, 4 not measured."""
    cli(prog_name="edgekit")
