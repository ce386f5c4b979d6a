"""`edgekit verify`: is this bundle what it says it is, and does it answer here as it did there?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from edgekit import api
from edgekit.cli.output import console, counted, json_option, print_json, table

if TYPE_CHECKING:
    from edgekit.release.verify import VerifyReport


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--parity", is_flag=True, help="Also run the bundle's parity samples again, on this machine.")
@json_option
def verify(path: Path, parity: bool, as_json: bool) -> None:
    """Check every digest of the bundle at PATH. Runs none of your own code. Exit code 1 when anything is wrong."""
    report = api.verify(path, parity=parity)
    if as_json:
        print_json(_document(report))
    else:
        _print(report, parity=parity)
    if not report.ok:
        click.get_current_context().exit(1)


def _document(report: VerifyReport) -> dict[str, object]:
    manifest = report.manifest
    return {
        "path": str(report.path),
        "ok": report.ok,
        "files": report.files,
        "content_digest": manifest.content_digest if manifest else None,
        "verdict": manifest.verdict if manifest else None,
        "problems": [vars(problem) for problem in report.problems],
        "parity": [vars(check) for check in report.parity],
    }


def _print(report: VerifyReport, *, parity: bool) -> None:
    out = console()
    if report.parity:
        cells = [
            (
                check.artifact,
                check.runtime,
                check.samples,
                None if check.max_abs_error is None else f"{check.max_abs_error:.3g}",
                check.max_code_error,
                "passed" if check.passed else "FAILED",
            )
            for check in report.parity
        ]
        columns = ("artifact", "runtime", "samples", "largest output error", "largest code error", "parity")
        out.print(table("Parity samples, run again here", columns, cells))
    if not report.ok:
        rows = [(problem.kind, problem.path, problem.detail) for problem in report.problems]
        out.print(table("Problems", ("problem", "file", "detail"), rows))
        out.print(Text.assemble(("NOT VERIFIED  ", "bold red"), f"{report.path}: {counted(len(rows), 'problem')}"))
        return
    assert report.manifest is not None
    checked = f"{counted(report.files, 'file')}, content digest {report.manifest.content_digest[:12]}"
    out.print(Text.assemble(("VERIFIED  ", "bold green"), f"{report.path}: {checked}"))
    if not parity:
        out.print("parity samples not run again: add --parity", style="dim")
    out.print("no signature: this says that nothing changed since the build, not who built it", style="dim")
    out.print(f"its build's verdict: {report.manifest.verdict}", style="dim")
