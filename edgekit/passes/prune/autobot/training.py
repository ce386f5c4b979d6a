"""Training of the gates: what they minimise, and the descent."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.passes.checkpoint import Checkpoint, load_checkpoint, restore_optimizer, save_checkpoint
from edgekit.passes.context import Context
from edgekit.passes.loop import digest_state
from edgekit.passes.losses import LossFunction
from edgekit.passes.prune.autobot.counts import Cost
from edgekit.passes.prune.autobot.gates import Gates
from edgekit.passes.prune.autobot.rounds import Round
from edgekit.passes.settings import reproducible
from edgekit.schema.prune import AutobotOptions

logger = logging.getLogger(__name__)

_SETTLED = 0.6  # share of the steps after which a state may be the one that is kept
_BETWEEN_CHECKPOINTS = 20


def budget_term(cost: Tensor, target: float, whole: float) -> Tensor:
    """L_g: 1 for the whole network, 0 at the target, and rising to 1 again below it. () each."""
    return (cost - target) / (whole - target) if cost > target else 1 - cost / target


def binary_term(vectors: Iterable[Tensor]) -> Tensor:
    """L_h: the mean over vectors of the mean distance of their gates to 0 or 1, whichever is nearer; at most 0.5."""
    return torch.stack([(gates - gates.detach().round()).abs().mean() for gates in vectors]).mean()


@dataclass(frozen=True)
class Aim:
    """What the gates are trained to: the loss of the task, at a cost of `target` of `whole`."""

    loss: LossFunction
    cost: Cost
    target: float
    whole: float


def train_gates(
    network: nn.Module,
    gates: Gates,
    part: Round,
    aim: Aim,
    samples: Samples,
    options: AutobotOptions,
    context: Context,
) -> Tensor:
    """Logits (len(gates),) of the gates after a round, on the CPU.

    L = L_task + beta * L_g + gamma * L_h by Adam on the logits alone; the network is in eval mode and its weights are
    fixed, so nothing of it changes. Kept is the state of the lowest loss among steps i > 0.6 * steps, since the cost
    swings around the target at these rates. A step's batch depends on the seed and the step alone, and every 20 steps
    leave a checkpoint: a run that was killed goes on to the same gates.

    Args:
        network: takes the inputs of `samples`; the layers that gates stand before are in it.

    Raises:
        PassError: the loss does not fit the outputs or labels, or is not finite, or a checkpoint is damaged.

    Source: Castells and Yeom, AutoBot, arXiv:2111.09635, and its code.
    """
    device = Accelerator().device
    network.to(device).eval().requires_grad_(False)
    run = _digest(network, gates, part, aim, options, context)
    folder = context.folder / part.name  # the folder itself is of the training that may follow
    with reproducible(context.seed, device):
        training = _Training(network, gates, part, aim, samples, options, context.seed, device)
        for step in range(training.resume(folder, run), part.steps):
            note = training.descend(step)
            if (step + 1) % _BETWEEN_CHECKPOINTS == 0 or step + 1 == part.steps:
                training.save(folder, run, step + 1)
            context.progress(step + 1, part.steps, note)
    network.to("cpu")
    return part.spread(training.best.cpu())


class _Training:
    """The gates as they are, and the best so far."""

    def __init__(
        self,
        network: nn.Module,
        gates: Gates,
        part: Round,
        aim: Aim,
        samples: Samples,
        options: AutobotOptions,
        seed: int,
        device: torch.device,
    ) -> None:
        self._network, self._gates, self._part, self._aim, self._samples = network, gates, part, aim, samples
        self._options, self._seed, self._device = options, seed, device
        self._logits = part.initial.detach().clone().to(device).requires_grad_(True)
        self._optimizer = torch.optim.Adam([self._logits], lr=options.learning_rate)
        self._lowest = math.inf
        self.best = self._logits.detach().clone()

    def descend(self, step: int) -> str:
        """One step of Adam; what to tell of it."""
        options, aim, part = self._options, self._aim, self._part
        chosen = draw(len(self._samples), options.batch_size, part.first + step, self._seed)
        inputs = tuple(tensor[chosen].to(self._device) for tensor in self._samples.inputs)
        labels = self._samples.labels[chosen].to(self._device)
        values = part.spread(self._logits).sigmoid()
        with self._gates.applied(values):
            task = aim.loss(self._network(*inputs), inputs, labels)
        vectors = self._gates.by_group(values.double())  # double: counts of multiply-accumulates stay exact
        cost = aim.cost.total({root: vector.sum() for root, vector in vectors.items()})
        budget = budget_term(cost, aim.target, aim.whole)
        loss = task + options.beta * budget + options.gamma * binary_term(vectors.values())
        value = loss.item()
        if not math.isfinite(value):
            raise PassError(
                what=f"the loss of the gates became {value}",
                where=f"step prune, method autobot, {part.name}, step {step + 1} of {part.steps}",
                fix="check that the network's outputs are finite; lower autobot.learning_rate",
            )
        if step > _SETTLED * part.steps and value < self._lowest:
            self._lowest, self.best = value, self._logits.detach().clone()
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return f"{part.name}, loss {task.item():.4f}, {cost.item() / aim.whole:.3f} of the cost left"

    def resume(self, folder: Path, run: str) -> int:
        """Load the run's checkpoint if there is one; the number of steps done."""
        found = load_checkpoint(folder)
        if found is None or found.run != run:
            return 0
        with torch.no_grad():
            self._logits.copy_(found.network["logits"])
        self.best = found.network["best"].to(self._device)
        self._lowest = float(found.network["lowest"])
        restore_optimizer(self._optimizer, found.optimizer)
        logger.info(
            "step prune: going on after step %d of %d of the %s", found.epochs, self._part.steps, self._part.name
        )
        return found.epochs

    def save(self, folder: Path, run: str, steps: int) -> None:
        """Leave a checkpoint after `steps` steps."""
        tensors = {"logits": self._logits, "best": self.best, "lowest": torch.tensor(self._lowest, dtype=torch.float64)}
        save_checkpoint(folder, Checkpoint(run, steps, tensors, self._optimizer.state_dict()["state"]))


def draw(count: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Indices of the batch of a step: epochs without repetition, each in an order of its own, whole batches only."""
    size = min(batch_size, count)
    epoch, place = divmod(step, count // size)
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(count, generator=generator)[place * size : (place + 1) * size]


def _digest(network: nn.Module, gates: Gates, part: Round, aim: Aim, options: AutobotOptions, context: Context) -> str:
    said = (
        options.model_dump_json(),
        str(context.seed),
        context.splits.digest,
        str([(group.root, group.width) for group in gates.groups]),
        str((part.places.tolist(), part.initial.tolist(), part.first, part.steps)),
        str((aim.target, aim.whole)),
        digest_state(network),
    )
    return hashlib.sha256("\n".join(said).encode()).hexdigest()
