"""Metrics: from outputs and labels to one number. `table.py` names them all."""

from edgekit.data.metrics.metric import Labels, Metric, Outputs
from edgekit.data.metrics.table import METRICS, find_metric

__all__ = ["METRICS", "Labels", "Metric", "Outputs", "find_metric"]
