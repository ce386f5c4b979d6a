"""What every method that improves a quantisation table is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from edgekit.data.samples import Samples
from edgekit.nets.model import Model
from edgekit.nets.quantisation import QuantisationTable
from edgekit.passes.context import Context
from edgekit.schema.passes import QuantizeOptions


@dataclass(frozen=True)
class Task:
    """A network to be quantised, and how.

    Attributes:
        samples: the calibration samples that `options` asks for.
    """

    model: Model
    samples: Samples
    options: QuantizeOptions
    context: Context


Improve: TypeAlias = Callable[[Task, QuantisationTable], QuantisationTable]
