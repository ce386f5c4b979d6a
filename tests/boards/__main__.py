"""`python -m tests.boards up NAME | down [ALIAS] | make`: boards by hand, as root."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.boards.board import Board
from tests.boards.host import BoardError, cache, call, say, why_not
from tests.boards.recipe import RECIPES
from tests.boards.root import USER, root_of


def up(name: str, user: str) -> None:
    """Start a board that stays until `down`."""
    with root_of(RECIPES[name]) as root:
        made = Board(name, root, Path(tempfile.mkdtemp(prefix=f"edgekit-{name}-")), user=user, stays=True)
        try:
            made.start()
        except BaseException:
            made.stop()
            shutil.rmtree(made.folder)
            raise
    told = {"pid": made.holder_pid, "interface": made.link.interface, "folder": str(made.folder), "name": name}
    (cache() / f"up-{made.alias}.json").write_text(json.dumps(told))
    print(f"ssh -F {made.ssh_config} {made.alias}")


def down(alias: str | None) -> None:
    """Stop one board that `up` started, or every one."""
    found = sorted(cache().glob(f"up-{alias or '*'}.json"))
    if alias is not None and not found:
        raise BoardError(f"no board {alias} was started here")
    for file in found:
        told = json.loads(file.read_text())
        folder = Path(told["folder"])
        with suppress(OSError):
            if str(folder).encode() in Path(f"/proc/{told['pid']}/cmdline").read_bytes():  # still the same process
                os.kill(told["pid"], signal.SIGKILL)
        with suppress(BoardError):
            call(["ip", "link", "delete", told["interface"]])
        shutil.rmtree(folder, ignore_errors=True)
        file.unlink()
        say(f"{told['name']}: stopped")


def main() -> int:
    """Read the command line; 1 where boards cannot be made."""
    parser = argparse.ArgumentParser(prog="python -m tests.boards", description="arm64 test boards under emulation")
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help="start a board, and print the ssh command that logs in")
    starting.add_argument("name", choices=sorted(RECIPES))
    starting.add_argument("--user", default=USER, choices=(USER, "root"))
    stopping = commands.add_parser("down", help="stop a board that was started so")
    stopping.add_argument("alias", nargs="?", help="as ssh calls it; all of them if left out")
    commands.add_parser("make", help="make the roots only, into the cache")
    given = parser.parse_args()
    if (reason := why_not()) is not None:
        print(reason, file=sys.stderr)
        return 1
    try:
        if given.command == "up":
            up(given.name, given.user)
        elif given.command == "down":
            down(given.alias)
        else:
            for recipe in RECIPES.values():
                with root_of(recipe) as root:
                    print(root)
    except BoardError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
