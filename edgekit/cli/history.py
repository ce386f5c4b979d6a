"""`edgekit history`: everything that was measured, newest first; which builds were released."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from edgekit.cli import complete
from edgekit.cli.output import console, counted, json_option, print_json
from edgekit.store.place import profile_database

if TYPE_CHECKING:
    from edgekit.store.database import Database

T = TypeVar("T")
_UNFOLDED = 1000  # characters


@click.group(invoke_without_command=True)
@click.option("--device", metavar="NAME", shell_complete=complete.devices, help="Only what was measured on it.")
@click.option("--artifact", metavar="NAME|SHA256", help="A file name, or six digits or more of its sha256.")
@click.option("--recipe", metavar="NAME", shell_complete=complete.preset_names, help="Only artifacts of this recipe.")
@click.option(
    "--target", metavar="NAME", shell_complete=complete.targets, help="Only artifacts for this class of hardware."
)
@click.option("--runtime", metavar="NAME", help="Only what was measured in it.")
@click.option("--since", metavar="WHEN", help="A moment (2026-03-01) or an age (24h, 7d).")
@click.option("--valid-only", is_flag=True, help="Leave out stand-ins and what is INVALID.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many lines.")
@json_option
@click.pass_context
def history(
    context: click.Context,
    device: str | None,
    artifact: str | None,
    recipe: str | None,
    target: str | None,
    runtime: str | None,
    since: str | None,
    valid_only: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List what was measured, newest first.

    Read from .edgekit/profiles.sqlite (EDGEKIT_HOME), or the database of EDGEKIT_DB: a path, or an SQLAlchemy URL
    such as postgresql+psycopg://user@host/name.
    """
    if context.invoked_subcommand is not None:
        return
    from edgekit.store.history import Wanted, parse_since, read_history

    wanted = Wanted(
        device=device,
        artifact=artifact,
        recipe=recipe,
        target=target,
        runtime=runtime,
        since_s=parse_since(since) if since is not None else None,
        valid_only=valid_only,
        limit=limit + 1,  # one more, to know whether there are more
    )
    where, found = _ask(lambda database: read_history(database, wanted))
    lines = found or ()
    more, lines = len(lines) > limit, lines[:limit]
    if as_json:
        print_json({"database": where, "more": more, "profiles": [asdict(line) for line in lines]})
        return
    from edgekit.report.history import history_table

    if not lines:
        click.echo(f"no such profile in {where}")
        return
    out = console()
    if not out.is_terminal:
        out.width = _UNFOLDED  # one line a profile, whatever reads it
    out.print(history_table(lines))
    click.echo(f"{counted(len(lines), 'profile')} in {where}" + ("; more with --limit" if more else ""))


@history.command("mark-release")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="v1.2, for example; else the first digits of its content digest.")
@json_option
def mark_release(bundle: Path, name: str | None, as_json: bool) -> None:
    """Mark the BUNDLE folder as released: the gate latency_regression holds later builds against it.

    Its profiles are taken into the database where they are not in it yet.
    """
    from edgekit.store.profiles import ProfileStore
    from edgekit.store.released import mark_bundle

    with ProfileStore(profile_database()) as store:
        release, added = mark_bundle(store, bundle, name)
        where = store.database.where
    if as_json:
        print_json({"database": where, "release": asdict(release), "profiles_added": added})
        return
    click.echo(f"release {release.name}: build {release.build[:12]} of {release.recipe} for {release.target}")
    click.echo(f"{counted(added, 'profile')} taken from the bundle into {where}")


@history.command("releases")
@click.option("--recipe", metavar="NAME", shell_complete=complete.preset_names, help="Only of this recipe.")
@click.option("--target", metavar="NAME", shell_complete=complete.targets, help="Only for this class of hardware.")
@json_option
def releases(recipe: str | None, target: str | None, as_json: bool) -> None:
    """List the releases, newest first."""
    from edgekit.store.builds import read_releases

    where, found = _ask(lambda database: read_releases(database, recipe=recipe, target=target))
    if as_json:
        print_json({"database": where, "releases": [asdict(row) for row in found or ()]})
        return
    from edgekit.report.history import release_table

    if not found:
        click.echo(f"no release is marked in {where}")
        return
    console().print(release_table(found))


def _ask(question: Callable[[Database], T]) -> tuple[str, T | None]:
    """Where the database is, and its answer; None where there is no file: a look should not make one."""
    from edgekit.store.database import Database

    place = str(profile_database())
    if "://" not in place and not Path(place).exists():
        return place, None
    database = Database(place)
    try:
        return database.where, question(database)
    finally:
        database.close()
