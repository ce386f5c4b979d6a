"""What a recipe judges a network by: postprocessing of its outputs, then a metric. The same for every runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgekit.agent.errors import AgentError
from edgekit.agent.postprocess import postprocess
from edgekit.data.metrics.metric import Metric, Outputs
from edgekit.data.metrics.table import find_metric
from edgekit.errors import DataError
from edgekit.schema.metric import MetricSpec, metric_drop
from edgekit.schema.postprocess import Postprocess

Named = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Score:
    """A metric of postprocessed outputs.

    Attributes:
        steps: of the recipe's `postprocess`, in order.
        classes: names of the classes, where the data name them; details are told by them.
    """

    metric: Metric
    steps: tuple[Postprocess, ...] = ()
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: MetricSpec, steps: Sequence[Postprocess] = (), classes: Sequence[str] = ()) -> Score:
        """What a recipe asks for.

        Raises:
            DataError: no such metric, or not with these arguments.
        """
        metric = find_metric(spec.name, spec.arguments, spec.output, spec.larger_is_better)
        return cls(metric, tuple(steps), tuple(classes))

    def prepare(self, inputs: Named, outputs: Named) -> Outputs:
        """What the metric is given: the only output that is left as it is, several as a dict.

        Args:
            inputs: (N, ...) by the network's names, as the network takes them.
            outputs: (N, ...) floats by the network's names.

        Raises:
            DataError: a step does not fit the network.
        """
        if self.steps:
            try:
                outputs = postprocess([step.step for step in self.steps], inputs, outputs)
            except AgentError as err:
                raise DataError(err.what, f"recipe, {err.where}", err.fix) from err
        return next(iter(outputs.values())) if len(outputs) == 1 else dict(outputs)

    def __call__(self, inputs: Named, outputs: Named, labels: NDArray[Any]) -> float:
        """The metric of a network's outputs (N, ...); `inputs` and `outputs` as `prepare` takes them."""
        return self.metric(self.prepare(inputs, outputs), labels)

    def with_details(self, prepared: Outputs, labels: NDArray[Any]) -> tuple[float, dict[str, float]]:
        """The metric of what `prepare` gave, and its parts by name: none where the metric has none."""
        names = {f"class {index}": f"class {name}" for index, name in enumerate(self.classes)}
        value, found = self.metric.with_details(prepared, labels)
        return value, {names.get(name, name): part for name, part in found.items()}

    def drop(self, before: float, after: float) -> float:
        """How much worse `after` is than `before`: see `metric_drop`."""
        kind = self.metric
        return metric_drop(before, after, larger_is_better=kind.larger_is_better, is_share=kind.is_share)


def take(outputs: Outputs, indices: NDArray[Any]) -> Outputs:
    """The rows at `indices` of what `Score.prepare` gave."""
    if isinstance(outputs, Mapping):
        return {name: array[indices] for name, array in outputs.items()}
    return outputs[indices]
