"""Names of metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from edgekit.data.metrics.detection import average_precisions, map50_95
from edgekit.data.metrics.language import perplexity
from edgekit.data.metrics.metric import Labels, Metric, Outputs, mean_of_classes
from edgekit.data.metrics.ranking import auc, class_recalls, per_class, top1, top5, top_k
from edgekit.data.metrics.regression import absolute_by_target, mae, mse, squared_by_target
from edgekit.errors import DataError, EdgekitError
from edgekit.schema.find import suggest
from edgekit.schema.reference import check_arguments, import_function

Result = TypeVar("Result")

METRICS: Mapping[str, Metric] = {
    "top1": Metric(top1),
    "top5": Metric(top5),
    "top_k": Metric(top_k),
    "per_class": Metric(per_class, details=class_recalls, of_details=mean_of_classes),
    "auc": Metric(auc),
    "mse": Metric(mse, larger_is_better=False, is_share=False, details=squared_by_target),
    "mae": Metric(mae, larger_is_better=False, is_share=False, details=absolute_by_target),
    "perplexity": Metric(perplexity, larger_is_better=False, is_share=False),
    "map50_95": Metric(map50_95, details=average_precisions, of_details=mean_of_classes),
}


def find_metric(
    name: str,
    arguments: Mapping[str, Any] = MappingProxyType({}),
    output: str | None = None,
    larger_is_better: bool | None = None,
    table: Mapping[str, Metric] = METRICS,
) -> Metric:
    """The metric that a recipe names, or the user's own of `package.module:function`, bound to its arguments.

    The user's may be a function of (outputs, labels), or a `Metric`, which says more. A function's number counts as
    better when larger and as a share, unless `larger_is_better` is False: then it is neither.

    Args:
        arguments: passed to the metric by name.
        output: the network's output that the metric is of; None: the only one. The user's own function is given all of
            several.
        larger_is_better: None: as the metric itself says.

    Raises:
        DataError: no such metric; names the nearest. Arguments that it does not take, or lacks. A metric of edgekit's
            that is said to be better the other way round.
    """
    own = ":" in name
    if own:
        found = import_function(name, "metric", DataError)
        metric = found if isinstance(found, Metric) else Metric(found, is_share=larger_is_better is not False)
    elif name in table:
        metric = table[name]
    else:
        raise DataError(f"no metric is called {name!r}", "metric", suggest(name, sorted(table), "metrics"))
    check_arguments(metric.compute, arguments, name, "metric.arguments", DataError, before=2)
    if larger_is_better not in (None, metric.larger_is_better):
        if not own:
            raise DataError(
                f"{name} is better when {'larger' if metric.larger_is_better else 'smaller'}",
                "metric.larger_is_better",
                "leave it out; it is for a metric of your own",
            )
        metric = dataclasses.replace(metric, larger_is_better=bool(larger_is_better))
    bind = _bind_own if own else _bind
    return dataclasses.replace(
        metric,
        compute=bind(metric.compute, name, arguments, output),
        details=None if metric.details is None else bind(metric.details, name, arguments, output),
    )


def _bind(
    function: Callable[..., Result], name: str, arguments: Mapping[str, Any], output: str | None
) -> Callable[[Outputs, Labels], Result]:
    return lambda outputs, labels: function(_one_output(outputs, name, output), labels, **arguments)


def _bind_own(
    function: Callable[..., Result], name: str, arguments: Mapping[str, Any], output: str | None
) -> Callable[[Outputs, Labels], Result]:
    def compute(outputs: Outputs, labels: Labels) -> Result:
        chosen = outputs if output is None else _one_output(outputs, name, output)
        try:
            found = function(chosen, labels, **arguments)
        except EdgekitError:
            raise
        except Exception as err:  # a user's function may raise anything
            raise DataError(
                f"the metric raised {err!r}", f"metric: {name}", "make it take (outputs, labels) as NumPy arrays"
            ) from err
        if not isinstance(found, Mapping | float | int | np.number):
            raise DataError(f"the metric returned {type(found).__name__}", f"metric: {name}", "return one number")
        return found

    return compute


def _one_output(outputs: Outputs, name: str, output: str | None) -> np.ndarray[Any, Any]:
    if not isinstance(outputs, Mapping):
        return np.asarray(outputs)
    if output is None and len(outputs) == 1:
        (output,) = outputs
    if output is None:
        raise DataError(
            f"the network has outputs {', '.join(outputs)}, and {name} is of one",
            "metric",
            f"name it: `metric: {{name: {name}, output: {next(iter(outputs))}}}`",
        )
    if output not in outputs:
        raise DataError(f"no output is called {output!r}", "metric.output", suggest(output, sorted(outputs), "outputs"))
    return np.asarray(outputs[output])
