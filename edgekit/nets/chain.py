"""A chain of small networks whose weighted sum is the answer: Dennis et al., B-DISTIL; Medina et al., arXiv:2503.01727.

One module, so it is trained, compressed and exported as any other; its factory is all that makes it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from edgekit.errors import ModelError
from edgekit.schema.reference import check_arguments, import_function

_KEYS = {"factory", "arguments"}


class Chain(nn.Module):
    """sum of weight_k * student_k(x): every student takes the same inputs and gives logits (N, C).

    A weight is a part of the state, and no parameter: `distill` with `method: chain` finds it by line search.
    """

    def __init__(self, students: Sequence[nn.Module]) -> None:
        super().__init__()
        self.students = nn.ModuleList(students)
        for index in range(len(students)):
            self.register_buffer(f"weight{index}", torch.ones(()))

    def weight(self, index: int) -> Tensor:
        """Weight of one student, a scalar."""
        return cast(Tensor, getattr(self, f"weight{index}"))

    def partial_sums(self, *inputs: Tensor) -> Iterator[Tensor]:
        """What the chain answers after one student, after two, and on: (N, C) each."""
        total: Tensor | None = None
        for index, student in enumerate(self.students):
            term = student(*inputs) * self.weight(index)
            total = term if total is None else total + term
            yield total

    def forward(self, *inputs: Tensor) -> Tensor:
        """(N, C): what the whole chain answers."""
        *_, last = self.partial_sums(*inputs)
        return last

    def answer(self, *inputs: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        """Run students in turn, each on the samples of which those before it are not sure enough.

        Args:
            threshold: a sample leaves where the largest of its softmax values is above it.

        Returns:
            Logits (N, C), and how many students ran for each sample, (N,) int64.
        """
        waiting = torch.arange(len(inputs[0]), device=inputs[0].device)
        runs = torch.zeros_like(waiting)
        answers: Tensor | None = None
        for index, student in enumerate(self.students):
            term = student(*(tensor[waiting] for tensor in inputs)) * self.weight(index)
            answers = (
                torch.zeros(len(runs), term.shape[-1], dtype=term.dtype, device=term.device) if index == 0 else answers
            )
            assert answers is not None
            answers = answers.index_add(0, waiting, term)
            runs[waiting] += 1
            waiting = waiting[answers[waiting].softmax(-1).amax(-1) <= threshold]
            if not len(waiting):
                break
        assert answers is not None
        return answers, runs


def chain(students: Sequence[Mapping[str, Any]]) -> nn.Module:
    """A chain of networks that factories make.

    Args:
        students: of each its `factory`, package.module:function, and the `arguments` that it is called with, in the
            order in which they run: the first answers first.

    Raises:
        ModelError: a student is not written so, or its factory cannot be found or called.
    """
    where = "model.arguments.students"
    if not isinstance(students, list | tuple) or not students:
        raise ModelError(
            f"{students!r} is no list of students", where, "write [{factory: module:function, arguments: {}}]"
        )
    made = []
    for index, student in enumerate(students):
        at = f"{where}.{index}"
        if not isinstance(student, Mapping) or "factory" not in student or not set(student) <= _KEYS:
            raise ModelError(f"{student!r} is no student", at, "write {factory: module:function, arguments: {}}")
        function = import_function(student["factory"], f"{at}.factory", ModelError)
        arguments = student.get("arguments") or {}
        check_arguments(function, arguments, f"factory {student['factory']}", f"{at}.arguments", ModelError)
        made.append(function(**arguments))
    return Chain(made)
