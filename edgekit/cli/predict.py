"""`edgekit predict`: latency of a network on a class of boards that are not here, as an estimate with its error bar."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from edgekit.cli import complete
from edgekit.cli.output import console, json_option, print_json, table
from edgekit.store.place import profile_database

_WARNING = "an estimate, not a measurement: it satisfies no gate"


@click.command()
@click.argument("subject", metavar="RECIPE|FILE.onnx", shell_complete=complete.recipes)
@click.option(
    "--target",
    required=True,
    metavar="NAME",
    shell_complete=complete.targets,
    help="Class of hardware; see `edgekit targets list`.",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Lay a value over the recipe.")
@click.option(
    "--artifacts",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder with bundles or .onnx files that were measured; ./dist and the store are looked through anyway.",
)
@json_option
def predict(subject: str, target: str, settings: tuple[str, ...], artifacts: tuple[Path, ...], as_json: bool) -> None:
    """Estimate the latency of a network in ONNX Runtime on a target, without a board.

    The floor is a roofline of published peaks. The estimate is fitted to what was measured of other networks on boards
    of that target (`edgekit history`); its error bar is how far networks left out of the fit were missed.
    """
    from edgekit.pipeline.predict import predict as predict_latency

    folders = [folder for folder in (Path("dist"), *artifacts) if folder.is_dir()]
    found = predict_latency(subject, target, profile_database(), settings=settings, artifacts=folders)
    if as_json:
        print_json(
            {
                "kind": "estimate",
                "note": _WARNING,
                "subject": found.subject,
                "macs": found.costs.macs,
                "kernels": len(found.costs.kernels),
                "left_out": list(found.left_out),
                "estimates": [asdict(one) for one in found.estimates],
            }
        )
        return
    out = console()
    rows = [(one.precision, one.text, _floor(one.floor_ms), one.method or "none") for one in found.estimates]
    title = f"{found.subject} on {target}, {found.costs.macs / 1e6:.3g} M MACs in {len(found.costs.kernels)} kernels"
    out.print(table(title, ("type", "estimate", "roofline", "method"), rows))
    for one in found.estimates:
        out.print(Text(f"{one.precision}: {one.basis}"), soft_wrap=True)
    if found.left_out:
        out.print(Text(f"not counted, because not run yet: {', '.join(found.left_out)}"), soft_wrap=True)
    out.print(Text(_WARNING, style="yellow"))


def _floor(floor_ms: float | None) -> str:
    return "not available" if floor_ms is None else f"{floor_ms:.3g} ms"
