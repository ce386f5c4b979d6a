"""`edgekit bisect`: which build made it slower? Asked of the stored history; nothing is built or measured."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.text import Text

from edgekit.cli import complete
from edgekit.cli.output import console, counted, json_option, print_json
from edgekit.store.place import profile_database

if TYPE_CHECKING:
    from edgekit.store.bisect import Bisection, Quantity


@click.command()
@click.option("--good", required=True, metavar="BUILD", help="One that was fast: a digest, commit, release, folder.")
@click.option("--bad", required=True, metavar="BUILD", help="A later one that is not.")
@click.option(
    "--of",
    "of",
    type=click.Choice(["p50_ms", "p99_ms", "peak_rss_bytes"]),
    default="p50_ms",
    show_default=True,
    help="What got worse.",
)
@click.option("--artifact", metavar="NAME", help="File name of the artifact, where several were measured.")
@click.option("--device", metavar="NAME", shell_complete=complete.devices, help="Where several devices measured both.")
@click.option("--runtime", metavar="NAME", help="Where several runtimes measured both.")
@json_option
def bisect(
    good: str,
    bad: str,
    of: Quantity,
    artifact: str | None,
    device: str | None,
    runtime: str | None,
    as_json: bool,
) -> None:
    """Find the first build that is significantly worse than the good one, up to the bad one.

    Only builds and profiles in the database count: see `edgekit history`. Exit code 0 whatever is found.
    """
    from edgekit.report.history import bisection_table
    from edgekit.store.bisect import Wished
    from edgekit.store.bisect import bisect as search
    from edgekit.store.profiles import ProfileStore
    from edgekit.store.sides import find_side

    with ProfileStore(profile_database()) as store:
        ends = find_side(store, good), find_side(store, bad)
        found = search(store, *ends, of, Wished(device=device, runtime=runtime, artifact=artifact))
    if as_json:
        print_json({**asdict(found), "told": _told(found)})
        return
    out = console()
    head = f"{found.artifact} of {found.recipe} for {found.target}, {found.runtime} on {found.device}, {found.of}"
    out.print(Text(head, style="bold cyan"))
    out.print(bisection_table(found))
    inside = max(len(found.points) - 2, 0)
    out.print(f"{counted(inside, 'build')} and {counted(found.between, 'profile')} between the two ends")
    out.print(Text(_told(found), style="bold" if found.conclusive else "bold yellow"))


def _told(found: Bisection) -> str:
    if found.first_bad is None or found.last_good is None:
        return f"inconclusive: {found.reason}"
    commit = f" (commit {found.first_bad.git_commit[:12]})" if found.first_bad.git_commit else ""
    first = f"first worse build: {found.first_bad.digest[:12]}{commit}"
    if found.conclusive:
        return first
    return f"inconclusive: {first}, after {found.last_good.digest[:12]}, but {found.reason}"
