"""Which options belong to which pass, and where each method was published. A row is added by hand."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.errors import SchemaError
from edgekit.schema.base import Options
from edgekit.schema.distill import DistillOptions
from edgekit.schema.find import suggest
from edgekit.schema.passes import EqualiseOptions, QuantizeOptions, ReparamOptions
from edgekit.schema.prune import PruneOptions
from edgekit.schema.recipe import Step
from edgekit.schema.train import TrainOptions
from edgekit.schema.validate import Key, validate

PASS_OPTIONS: Mapping[str, type[Options]] = {
    "train": TrainOptions,
    "distill": DistillOptions,
    "prune": PruneOptions,
    "reparam": ReparamOptions,
    "equalise": EqualiseOptions,
    "quantize": QuantizeOptions,
}

PASS_SOURCES: Mapping[str, str] = {
    "train": "Loshchilov and Hutter, SGDR, arXiv:1608.03983; label smoothing: Szegedy et al., arXiv:1512.00567",
    "distill": "Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, arXiv:1503.02531; DKD, "
    "arXiv:2203.08679; NKD and USKD, arXiv:2303.13005; FitNets, arXiv:1412.6550; attention transfer, arXiv:1612.03928; "
    "RKD, arXiv:1904.05068; MGD, arXiv:2205.01529; MEAL V2, arXiv:2009.08453; chains, arXiv:2503.01727",
    "prune": "Fang et al., DepGraph: Towards Any Structural Pruning, arXiv:2301.12900; "
    "gates: Castells and Yeom, AutoBot, arXiv:2111.09635",
    "reparam": "Ding et al., RepVGG: Making VGG-style ConvNets Great Again, arXiv:2101.03697",
    "equalise": "Nagel et al., arXiv:1906.04721; SmoothQuant, arXiv:2211.10438; AWQ, arXiv:2306.00978; "
    "QuaRot, arXiv:2404.00456",
    "quantize": "Jacob et al., arXiv:1712.05877; Nagel et al., Neural Network Quantization, arXiv:2106.08295; "
    "GPTQ, arXiv:2210.17323; AdaRound, arXiv:2004.10568; BRECQ, arXiv:2102.05426; QDrop, arXiv:2203.05740",
}


_INSTEAD = "remove it; passes with a recover block: " + ", ".join(
    name for name, options in PASS_OPTIONS.items() if "recover" in options.model_fields
)


def options_class(name: str, where: str, table: Mapping[str, type[Options]] = PASS_OPTIONS) -> type[Options]:
    """The Options class of the pass called `name`.

    Raises:
        SchemaError: no such pass; names the nearest.
    """
    if name not in table:
        raise SchemaError(f"no pass is called {name!r}", where, suggest(name, sorted(table), "passes"))
    return table[name]


def parse_options(
    step: Step,
    where: str,
    origins: Mapping[tuple[Key, ...], str] | None = None,
    table: Mapping[str, type[Options]] = PASS_OPTIONS,
) -> Options:
    """The checked options of a step; `where` is the step's place, such as `kws.yaml: steps.2`.

    `origins` names what came from elsewhere, by key path from the pass's name on; see `validate`.

    Raises:
        SchemaError: no such pass, an unknown option, or a value that the pass does not take.
    """
    model = options_class(step.name, where, table)
    if "recover" in step.options and "recover" not in model.model_fields:
        raise SchemaError(
            f"recover after {step.name!r}: {_why_no_recovery(step.name)}", f"{where}.{step.name}", _INSTEAD
        )
    return validate(model, step.options, where, prefix=(step.name,), origins=origins)


def _why_no_recovery(name: str) -> str:
    if name == "quantize":
        return "training moves weights off the codes that were found for them, and codes are not trained here"
    return "it trains the network itself; raise its epochs"
