"""`edgekit debug parity`: which comparisons a request means, and each of them made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.debug.compare import compare
from edgekit.debug.layers import inputs_of
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
        return DebugReport(comparisons=_Comparer(request, reporter, files, None).within_bundle(network, files))
    other, others = open_source(request.second, request.target, reporter)
    comparer = _Comparer(request, reporter, [*files, *others], other)
    candidates: Sequence[FloatNetwork | ArtifactFile] = others or ([other] if other is not None else [])
    return DebugReport(comparisons=tuple(comparer.compare(network or files[0], candidate) for candidate in candidates))


@dataclass(frozen=True)
class _Comparer:
    """Makes comparisons of one request.

    Attributes:
        files: whose parity samples may be taken.
        data_of: whose data may be taken, where the reference is a file.
    """

    request: ParityRequest
    reporter: Reporter
    files: Sequence[ArtifactFile]
    data_of: FloatNetwork | None

    def within_bundle(self, network: FloatNetwork, files: Sequence[ArtifactFile]) -> tuple[Comparison, ...]:
        """Each artifact with the network, and with each one after it."""
        made = [self.compare(network, file) for file in files]
        for i, file in enumerate(files):
            names = {row.candidate_layer: row.layer for row in made[i].layers}
            made += [self.compare(file, other, names) for other in files[i + 1 :]]
        return tuple(made)

    def compare(
        self,
        reference: FloatNetwork | ArtifactFile,
        candidate: FloatNetwork | ArtifactFile,
        names: Mapping[str, str] | None = None,
    ) -> Comparison:
        """One comparison; a network is run at the batch of the other."""
        batch = next((s.side.batch for s in (reference, candidate) if isinstance(s, ArtifactFile)), None) or 1
        ours, theirs = (s.side if isinstance(s, ArtifactFile) else s.side(batch) for s in (reference, candidate))
        network = reference if isinstance(reference, FloatNetwork) else self.data_of
        wanted = [layer.tensor for layer in inputs_of(ours)]
        samples = find_samples(self.request.samples, self.request.count, network, self.files, wanted)
        declared = candidate.declared if isinstance(candidate, ArtifactFile) else {}
        with self.reporter.task(f"comparing {theirs.title} with {ours.title}"):
            made = compare(ours, theirs, samples, names, declared)
        notes = [reference.note] if isinstance(reference, FloatNetwork) and reference.note else []
        return made.model_copy(update={"notes": (*notes, *ours.notes(), *theirs.notes())})
