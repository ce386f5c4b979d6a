"""Minifloats beside integers of 3 to 8 bits: accuracy by simulation, hardware cost by a model.

    EDGEKIT_DATA=<folder> python benchmarks/minifloat.py [--quick] [--cases NAME ...] [--json F] [--markdown F]

METHOD says how. No runtime computes with minifloats: nothing here is a speed, and no area was synthesised.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rows import Interval, Results, describe_machine, describe_versions, paired_difference, write_json

from edgekit.data.observers import Seen, observe
from edgekit.data.splits import LoadedData, find_data
from edgekit.errors import EdgekitError
from edgekit.nets.graph import tensor_of
from edgekit.nets.load import build
from edgekit.nets.operators import DATA_MOVEMENT, kind_of
from edgekit.nets.program import Program, trace
from edgekit.numerics.cost import accumulator_bits, lut_proxy
from edgekit.numerics.number import Integer, find_number
from edgekit.passes.quantize.quantize import first_table
from edgekit.passes.quantize.simulate import Simulation, simulate, weighted, written
from edgekit.schema.load import load_recipe
from edgekit.schema.passes import QuantizeOptions

METHOD = """\
The question is that of Aggarwal et al., *Shedding the Bits* ([arXiv:2311.12359](https://arxiv.org/abs/2311.12359)):
is a float of 3 to 8 bits a better format than an integer, for accuracy and for the area of a multiply-accumulate unit?

- Weights and activations have the same format, in every layer, the first and the last among them. Weights have a scale
  per output channel, activations one per tensor; both are those of least squared error. Weights are rounded to nearest,
  and biases take back the mean shift of rounding. Integers of activations have a zero point, minifloats have none. No
  learned rounding and no equalisation: the paper reports the best of all techniques, this is one technique for all.
- *ExMy* has x exponent and y mantissa bits, subnormals, no infinity. E1My is left out: it is a sign-magnitude integer.
- *top-1* is **simulated** in PyTorch with float32 sums, on the first images of the test split. *to float* is the
  difference to the float network on the same images, with its 95 % interval.
- *accumulator* is the width of a register that holds the network's longest dot product exactly: for minifloats
  2^ea + ma + 2^eb + mb + ceil(log2 n) - 1 bits, for integers ra + rb + ceil(log2 n) + 1.
- *LUT proxy* is a formula with **uncalibrated** weights (`edgekit/numerics/cost.py`), made to order formats. It is no
  count of look-up tables, nothing was synthesised, and turning sums back into a narrow float is not in it.
- **front**: no other format is at least as accurate at no more cost: *A* by accumulator bits, *L* by the LUT proxy."""
LIBRARIES = ("torch", "numpy", "matplotlib")
EXPONENTS = range(2, 6)
WIDTHS = range(3, 9)
SYSTEM = "edgekit, simulated"
_COSTS = {"accumulator_bits": "exact accumulator, bits", "lut_proxy": "LUT proxy (uncalibrated model)"}
_NEAR = 0.03  # top-1 below float, in the closer look
_BATCH = 50
_CALIBRATION = 500


@dataclass(frozen=True)
class Case:
    """One network: its name here, and its recipe."""

    name: str
    recipe: str


CASES = (Case("resnet-20", "resnet20-cifar10"), Case("vit-d6", "vit-cifar10"))


@dataclass(frozen=True)
class Point:
    """One format of one network.

    Attributes:
        to_float: difference in top-1 to the float network.
    """

    number: str
    top1: float
    to_float: Interval
    accumulator_bits: int
    lut_proxy: float

    @property
    def is_integer(self) -> bool:
        """Or a minifloat."""
        return isinstance(find_number(self.number), Integer)


@dataclass(frozen=True)
class Found:
    """What was found of one network."""

    case: Case
    float_top1: float
    images: int
    longest: int
    points: tuple[Point, ...]


def formats() -> list[str]:
    """Names of all formats: integers, then minifloats, each by rising width."""
    integers = [f"int{bits}" for bits in WIDTHS]
    floats = [f"e{e}m{bits - 1 - e}" for bits in WIDTHS for e in EXPONENTS if bits - 1 - e >= 0]
    return integers + floats


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="500 images instead of 2,000")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only cases whose name contains one of these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page, and plots into images/")
    given = parser.parse_args(arguments)
    chosen = [case for case in CASES if given.cases is None or any(part in case.name for part in given.cases)]
    if not chosen:
        parser.error(f"no such case; cases: {', '.join(case.name for case in CASES)}")
    torch.set_num_threads(1)
    results, machine, versions = Results(), describe_machine(), describe_versions(LIBRARIES)
    command = shlex.join(["python", "benchmarks/minifloat.py", *(sys.argv[1:] if arguments is None else arguments)])
    found = []
    try:
        for case in chosen:
            found.append(run_case(case, 500 if given.quick else 2000))
            add_rows(found[-1], results)
        if given.json:
            write_json(given.json, results, machine, versions)
        if given.markdown:
            write_page(given.markdown, found, command, versions)
    except EdgekitError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


def run_case(case: Case, images: int) -> Found:
    """Every format on the first `images` of the test split."""
    recipe = load_recipe(case.recipe).recipe
    model, data = build(recipe.model), find_data(recipe.data)
    program = trace(model, _BATCH)
    seen, rounded, longest = _observe(program, data), _computed(program), longest_dot_product(program)
    test = data.test.head(images)
    labels = test.labels.numpy()
    with torch.no_grad():
        wanted = torch.cat([model.network(part) for part in torch.split(test.inputs[0], _BATCH)])
    own = wanted.argmax(1).numpy() == labels
    points = []
    for name in formats():
        options = QuantizeOptions(weights=name, activations=name, weight_observer="mse")
        table = first_table(program, seen, options)
        outputs = simulate(Simulation(program, table, rounded), test.inputs[0], _BATCH)
        right = outputs.argmax(1).numpy() == labels
        points.append(_point(name, right, own, longest))
        print(f"{case.name} {name}: {points[-1].top1:.4f}", flush=True)
    return Found(case, float(own.mean()), len(test), longest, tuple(points))


def _observe(program: Program, data: LoadedData) -> Seen:
    seen = Seen()
    inputs = data.splits.calibration.inputs[0][:_CALIBRATION]
    observe(program, [(part,) for part in torch.split(inputs, _BATCH) if len(part) == _BATCH], seen)
    return seen


def _computed(program: Program) -> set[str]:
    """Activations that are rounded: not what is only moved around, which has been rounded before."""
    return set(written(program)) - {name for node, name in program.names.items() if kind_of(node) in DATA_MOVEMENT}


def longest_dot_product(program: Program) -> int:
    """Products in the longest sum of a convolution or linear layer."""
    layers = weighted(program).values()
    return max(tensor_of(program.module, node.args[1])[0].numel() for node in layers)  # type: ignore[arg-type]


def _point(name: str, right: NDArray[np.bool_], own: NDArray[np.bool_], longest: int) -> Point:
    number = find_number(name)
    return Point(
        number=name,
        top1=float(right.mean()),
        to_float=paired_difference(right, own),
        accumulator_bits=accumulator_bits(number, number, longest),
        lut_proxy=lut_proxy(number, number, longest),
    )


def add_rows(found: Found, results: Results) -> None:
    """Rows of the float network and of every format."""
    results.add(f"{found.case.name} fp32", "float network", "top1", found.float_top1, "share")
    for point in found.points:
        case = f"{found.case.name} {point.number}"
        results.add(case, SYSTEM, "top1", point.top1, "share")
        results.add_interval(case, SYSTEM, "top1 to float", point.to_float, "share")
        results.add(case, SYSTEM, "accumulator", point.accumulator_bits, "bits")
        results.add(case, SYSTEM, "LUT proxy, uncalibrated", point.lut_proxy, "points")


def front(points: Sequence[Point], cost: str) -> list[Point]:
    """Points that no other beats: none is at least as accurate at no more cost, and better in one of the two."""

    def beats(other: Point, point: Point) -> bool:
        a, b = float(getattr(other, cost)), float(getattr(point, cost))
        return a <= b and other.top1 >= point.top1 and (a < b or other.top1 > point.top1)

    kept = [point for point in points if not any(beats(other, point) for other in points)]
    return sorted(kept, key=lambda point: float(getattr(point, cost)))


def write_page(path: Path, found: Sequence[Found], command: str, versions: dict[str, str]) -> None:
    """The page with a table and a plot for every network."""
    parts = ["# Minifloats and integers", METHOD, f"Made by `{command}`; every number is of that run."]
    parts.append("Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    for one in found:
        image = path.parent / "images" / f"minifloat-{one.case.name}.svg"
        plot(one, image)
        parts += [
            f"## {one.case.name}",
            f"Float: {one.float_top1:.4f} on the first {one.images:,} test images. "
            f"Longest dot product: {one.longest:,} products.",
            f"![accuracy against cost, {one.case.name}](images/{image.name})",
            table(one),
        ]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def table(found: Found) -> str:
    """Formats down, by width and then by cost."""
    fronts = {"A": front(found.points, "accumulator_bits"), "L": front(found.points, "lut_proxy")}
    heads = ("format", "bits", "top-1, simulated", "to float", "accumulator, bits", "LUT proxy", "front")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for point in sorted(found.points, key=lambda p: (find_number(p.number).bits, p.lut_proxy)):
        name = point.number if point.is_integer else point.number.upper()
        ends = f"[{point.to_float.low:+.4f}, {point.to_float.high:+.4f}]"
        lines.append(
            f"| {name} | {find_number(point.number).bits} | {point.top1:.4f} | {point.to_float.value:+.4f} {ends} "
            f"| {point.accumulator_bits} | {point.lut_proxy:.0f} "
            f"| {' '.join(letter for letter, kept in fronts.items() if point in kept)} |"
        )
    return "\n".join(lines)


def plot(found: Found, path: Path) -> None:
    """Accuracy against both costs, with the front of integers and minifloats together; below, what comes near float."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": found.case.name, "svg.fonttype": "none", "font.size": 9}):
        figure, panels = pyplot.subplots(2, 2, figsize=(11, 9), sharey="row", layout="constrained")
        for column, (cost, label) in enumerate(_COSTS.items()):
            near = [p for p in found.points if p.top1 > found.float_top1 - _NEAR]
            for panel, points in ((panels[0, column], found.points), (panels[1, column], near)):
                _draw(panel, found, cost, points)
                panel.set_xlabel(label)
        panels[0, 0].set_ylabel(f"top-1, simulated, {found.images:,} images")
        panels[1, 0].set_ylabel(f"the same, within {_NEAR} of float")
        panels[0, 0].legend(loc="center right")
        figure.suptitle(f"{found.case.name}: weights and activations in one format")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def _draw(panel: Any, found: Found, cost: str, points: Sequence[Point]) -> None:
    kept = [point for point in front(found.points, cost) if point in points]
    panel.plot([getattr(p, cost) for p in kept], [p.top1 for p in kept], color="0.6", zorder=1, label="front")
    for integer, marker, colour in ((True, "s", "tab:blue"), (False, "o", "tab:orange")):
        own = [point for point in points if point.is_integer == integer]
        name = "integer" if integer else "minifloat"
        at = [getattr(p, cost) for p in own], [p.top1 for p in own]
        panel.scatter(*at, marker=marker, color=colour, zorder=2, label=name)
    for point in points:
        panel.annotate(point.number, (getattr(point, cost), point.top1), (4, 3), textcoords="offset points", fontsize=7)
    panel.axhline(found.float_top1, color="0.8", linestyle="--", linewidth=1, zorder=0)


if __name__ == "__main__":
    sys.exit(main())
