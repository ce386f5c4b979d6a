"""A chain of weak students whose weighted sum approaches the teacher, each trained on what those before it leave.

Medina et al., Mamba-based progressive knowledge distillation, arXiv:2503.01727. Reconstructed: the paper states neither
the residual rule nor the sizes. Here, with F_0 = 0, student k is trained by alpha * cross-entropy(F_{k-1} + f_k) +
(1 - alpha) * tau^2 * KL(teacher || F_{k-1} + f_k) + residual * mean((f_k - (teacher - F_{k-1}))^2), and
F_k = F_{k-1} + eta_k * f_k with the eta_k in [0, 2] that makes the first two terms least on held-out samples.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.nets.chain import Chain
from edgekit.nets.count import count_macs
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.distill.kd import divergence
from edgekit.passes.loop import digest_state, fit
from edgekit.passes.losses import Inputs, find_loss, only_output
from edgekit.schema.distill import ChainOptions, DistillOptions
from edgekit.schema.distilled import ChainExit, ChainRow, ChainStudent, DistillRow

_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_LARGEST = 2.0
_HALVINGS = 60  # of the golden section: to the last digits of a float
_BATCH = 256
_GOLDEN = (math.sqrt(5) - 1) / 2


def teach_chain(model: Model, teaching: Model, options: DistillOptions, context: Context) -> Model:
    """The chain after its students learned one after the other, and what it answers after each, recorded.

    A killed run goes on with the student that it was at: each has a checkpoint of its own.

    Raises:
        PassError: the network is no chain; else as `distill`.
    """
    own = options.chain or ChainOptions()
    network = copy.deepcopy(model.network)
    if not isinstance(network, Chain):
        raise PassError(
            f"method chain trains a {type(network).__name__}, which is no chain of students",
            "step distill, method",
            "set model.factory: edgekit.nets.chain:chain, with a list of students as its arguments",
        )
    teacher = copy.deepcopy(teaching.network).eval().requires_grad_(False)
    hard = find_loss("cross_entropy", "step distill", options.label_smoothing)
    count = len(network.students)
    held_out, split = _held_out(context)
    known, labels = _logits(teacher, held_out), held_out.labels
    total = torch.zeros_like(known)
    for index, student in enumerate(network.students):
        before = copy.deepcopy(network)  # the students that are done, apart from the one that is trained
        done = _first(before, index).eval().requires_grad_(False)

        def loss(outputs: Any, inputs: Inputs, labels: Tensor, done: Callable[..., Tensor | None] = done) -> Tensor:
            given = only_output(outputs, "step distill, method chain")
            with torch.no_grad():
                told = only_output(teacher.to(given.device)(*inputs), "step distill, teacher")
                so_far = done.to(given.device)(*inputs)  # type: ignore[attr-defined]  # a module
            whole = given if so_far is None else so_far + given
            _check(whole, told)
            soft = divergence(whole, [told], own.temperature)
            value = own.alpha * hard(whole, inputs, labels) + (1 - own.alpha) * soft
            return value + own.residual * F.mse_loss(whole, told)

        said = "".join(digest_state(one) for one in (teacher, done))
        fit(
            student,
            options,
            loss,
            _for_student(context, index, count),
            "distill",
            loss_digest=hashlib.sha256(said.encode()).hexdigest(),
        )
        term = _logits(student, held_out)
        _check(term, known)

        def objective(eta: float, total: Tensor = total, term: Tensor = term) -> float:
            whole = total + eta * term
            soft = divergence(whole, [known], own.temperature)
            return float(own.alpha * F.cross_entropy(whole, labels) + (1 - own.alpha) * soft)

        eta = line_search(objective, _LARGEST)
        network.weight(index).fill_(eta)
        total = total + eta * term
    context.record(DistillRow(chain=_row(model, network.eval(), held_out, split)))
    return model.with_(network, "distill")


def line_search(objective: Callable[[float], float], largest: float) -> float:
    """Where in [0, largest] a convex function of one number is least, by golden section.

    Cross-entropy and divergence are convex in the logits, which are linear in the number.
    """
    low, high = 0.0, largest
    for _ in range(_HALVINGS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if objective(left) <= objective(right):
            high = right
        else:
            low = left
    return (low + high) / 2


class _Done(nn.Module):
    """The first students of a chain; None where there is none yet."""

    def __init__(self, students: Sequence[nn.Module], weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.students = nn.ModuleList(students)
        for index, weight in enumerate(weights):
            self.register_buffer(f"weight{index}", weight)

    def forward(self, *inputs: Tensor) -> Tensor | None:
        terms = [
            getattr(self, f"weight{index}") * only_output(student(*inputs), "step distill, method chain")
            for index, student in enumerate(self.students)
        ]
        return torch.stack(terms).sum(0) if terms else None


def _first(network: Chain, count: int) -> _Done:
    return _Done(list(network.students)[:count], [network.weight(index) for index in range(count)])


@dataclass(frozen=True)
class _Part:
    """Progress of one student as that of a chain."""

    context: Context
    index: int
    count: int

    def __call__(self, done: int, total: int, note: str = "") -> None:
        student = f"student {self.index + 1} of {self.count}, "
        self.context.progress(self.index * total + done, self.count * total, student + note)


def _for_student(context: Context, index: int, count: int) -> Context:
    return replace(context, folder=context.folder / f"student{index}", progress=_Part(context, index, count))


def _held_out(context: Context) -> tuple[Samples, str]:
    selection = context.splits.selection
    return (context.splits.calibration, "calibration") if selection is None else (selection, "selection")


def _logits(network: nn.Module, samples: Samples) -> Tensor:
    network.cpu().eval()
    with torch.no_grad():
        parts = [
            only_output(network(*samples.batch(start, start + _BATCH)), "step distill")
            for start in range(0, len(samples), _BATCH)
        ]
    return torch.cat(parts)


def _check(given: Tensor, told: Tensor) -> None:
    if given.shape != told.shape or given.dim() != 2:
        raise PassError(
            f"a student gives {tuple(given.shape)} outputs and the teacher {tuple(told.shape)}",
            "step distill, method chain",
            "use students and a teacher with one row of logits a sample, of the same classes",
        )


def _row(model: Model, network: Chain, samples: Samples, split: str) -> ChainRow:
    macs = [count_macs(Model(student, model.source, model.outputs)) for student in network.students]
    work = torch.tensor(macs, dtype=torch.float64).cumsum(0)
    with torch.no_grad():
        sums = [_top1(partial, samples) for partial in network.partial_sums(*samples.inputs)]
        exits = []
        for threshold in _THRESHOLDS:
            logits, runs = network.answer(*samples.inputs, threshold=threshold)
            ratio = float((work[runs - 1] / work[-1]).mean())
            exits.append(ChainExit(threshold=threshold, top1=_top1(logits, samples), macs_ratio=ratio))
    students = tuple(
        ChainStudent(weight=float(network.weight(index)), macs=macs[index], top1=sums[index])
        for index in range(len(sums))
    )
    return ChainRow(samples=len(samples), split=split, students=students, exits=tuple(exits))


def _top1(logits: Tensor, samples: Samples) -> float:
    return float((logits.argmax(-1) == samples.labels).double().mean())
