"""`edgekit debug parity`: which comparisons a request means, and each of them made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.debug.compare import compare
from edgekit.debug.layers import Side, inputs_of
from edgekit.debug.sources import COUNT, ArtifactFile, FloatNetwork, find_samples, open_source
from edgekit.errors import SchemaError
from edgekit.pipeline.progress import Reporter, Silent
from edgekit.schema.debug import Comparison, DebugReport


@dataclass(frozen=True)
class ParityRequest:
    """What to compare.

    Attributes:
        first: a bundle, a recipe, or an .onnx or .tflite file: the reference. A bundle stands for its float network.
        second: the same: the candidate. A bundle stands for its artifacts. None: `first` is a bundle, whose artifacts
            are held against its float network and against each other.
        samples: an .npz or a calibration set; None: a bundle's parity samples, the recipe's data, or random numbers.
        target: that a recipe is planned for; None: any, since a float network seldom depends on it.
    """

    first: str
    second: str | None = None
    samples: str | None = None
    count: int = COUNT
    target: str | None = None


def debug_parity(request: ParityRequest, reporter: Reporter | None = None) -> DebugReport:
    """Every comparison that a request means.

    Raises:
        EdgekitError: something cannot be found, read, paired or run.
    """
    reporter = reporter or Silent()
    network, files = open_source(request.first, request.target, reporter)
    if request.second is None:
        if network is None or not files:
            raise SchemaError(
                "one thing cannot be compared", request.first, "name a bundle, or a second recipe or artifact"
            )
        return DebugReport(comparisons=_within_bundle(network, files, request, reporter))
    other_network, others = open_source(request.second, request.target, reporter)
    if others:
        candidates = [file.side for file in others]
    else:
        assert other_network is not None
        candidates = [other_network.side(files[0].side.batch or 1 if network is None else 1)]
    return DebugReport(
        comparisons=tuple(
            _compare(network or files[0], candidate, [*files, *others], other_network, request, reporter)
            for candidate in candidates
        )
    )


def _within_bundle(
    network: FloatNetwork, files: list[ArtifactFile], request: ParityRequest, reporter: Reporter
) -> tuple[Comparison, ...]:
    made = [_compare(network, file.side, files, None, request, reporter) for file in files]
    for i, file in enumerate(files):
        names = {row.candidate_layer: row.layer for row in made[i].layers}
        for other in files[i + 1 :]:
            made.append(_compare(file, other.side, files, None, request, reporter, names))
    return tuple(made)


def _compare(
    reference: FloatNetwork | ArtifactFile,
    candidate: Side,
    files: list[ArtifactFile],
    data_of: FloatNetwork | None,
    request: ParityRequest,
    reporter: Reporter,
    names: Mapping[str, str] | None = None,
) -> Comparison:
    """One comparison.

    Args:
        files: whose parity samples may be taken.
        data_of: whose data may be taken, where the reference is a file.
    """
    notes: list[str] = []
    if isinstance(reference, FloatNetwork):
        side, data_of = reference.side(candidate.batch or 1), reference
        notes += [reference.note] if reference.note else []
    else:
        side = reference.side
    wanted = [layer.tensor for layer in inputs_of(side)]
    samples = find_samples(request.samples, request.count, data_of, files, wanted)
    with reporter.task(f"comparing {candidate.title} with {side.title}"):
        made = compare(side, candidate, samples, names)
    return made.model_copy(update={"notes": (*notes, *side.notes(), *candidate.notes())})
