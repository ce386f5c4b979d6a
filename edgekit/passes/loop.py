"""The training loop that every pass with a loss shares. One CPU, one GPU, or several by `accelerate launch`."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.passes.augment import Augmentation
from edgekit.passes.average import MovingAverage
from edgekit.passes.checkpoint import Checkpoint, load_checkpoint, restore_optimizer, save_checkpoint
from edgekit.passes.context import Context
from edgekit.passes.losses import LossFunction
from edgekit.passes.settings import reproducible
from edgekit.passes.sparsity.masks import Masks, warn_of_lost_zeros
from edgekit.schema.train import TrainOptions

logger = logging.getLogger(__name__)


def learning_rate_factor(step: int, steps: int, warmup: int) -> float:
    """Share of the peak rate at `step` of `steps`: linear up to 1 over `warmup` steps, then half a cosine towards 0.

    Source: Loshchilov and Hutter, SGDR, arXiv:1608.03983, eq. 5 without restarts, taken step by step.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters in two groups: weights with decay; biases and what belongs to a norm without."""
    decayed: dict[int, nn.Parameter] = {}
    others: dict[int, nn.Parameter] = {}
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                plain = parameter.dim() < 2 or name.endswith("bias")  # a norm's vectors have one dimension
                (others if plain else decayed)[id(parameter)] = parameter
    return [
        {"params": list(decayed.values()), "weight_decay": weight_decay},
        {"params": list(others.values()), "weight_decay": 0.0},
    ]


def fit(
    network: nn.Module,
    options: TrainOptions,
    loss: LossFunction,
    context: Context,
    step: str,
    loss_digest: str = "",
    parts: nn.Module | None = None,
) -> None:
    """Train `network` in place on the training split; it ends on the CPU in eval mode.

    An epoch's order and augmentation depend on the seed and the epoch alone, and each epoch leaves a checkpoint in
    `context.folder`: a run that was killed goes on to the same weights, bit for bit. A last batch with fewer than two
    samples a process is left out, since batch norms need two.

    Args:
        step: name of the pass, for errors.
        loss_digest: of what `loss` depends on besides the options, such as a teacher's weights.
        parts: what `loss` holds to be trained with the network, and saved with it.

    Raises:
        PassError: there is no training split or nothing to train, augmentation would move pictures away from their
            labels, the loss is not finite, or a checkpoint is damaged.
    """
    samples = _training_samples(network, context, step, options.augment)
    accelerator = Accelerator()
    least = 2 * accelerator.num_processes
    if min(len(samples), options.batch_size) < least:
        raise PassError(
            what=f"{len(samples)} training samples in batches of {options.batch_size}",
            where=f"step {step}",
            fix=f"train on at least {least} samples in batches of at least {least}: two for each process",
        )
    run = _digest(network, options, context, step, loss_digest)
    parts = (nn.Module() if parts is None else parts).to(accelerator.device)
    optimizer = _make_optimizer(nn.ModuleList([network, parts]), options)
    with reproducible(context.seed, accelerator.device):
        wrapped, prepared = accelerator.prepare(network, optimizer)
        average = MovingAverage(network, options.ema_decay) if options.ema_decay else None
        masks = _masks(network, options, samples, accelerator, step)
        training = _Training(
            accelerator, wrapped, network, parts, prepared, average, masks, samples, options, loss, context, step
        )
        for epoch in range(_resume(training, run), options.epochs):
            training.epoch(epoch)
            _checkpoint(training, run, epoch + 1)
        accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
        if average is not None:
            network.load_state_dict(average.tensors)
        if masks is not None:
            context.record(masks.row())
    for parameter in (*network.parameters(), *parts.parameters()):
        parameter.grad = None
    network.to("cpu").eval()


@dataclass(frozen=True)
class _Training:
    accelerator: Accelerator
    wrapped: nn.Module
    network: nn.Module
    parts: nn.Module
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None
    masks: Masks | None
    samples: Samples
    options: TrainOptions
    loss: LossFunction
    context: Context
    step: str

    def epoch(self, epoch: int) -> None:
        options, accelerator = self.options, self.accelerator
        seed = (self.context.seed * 1_000_003 + epoch) % 2**63
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed + accelerator.process_index)  # dropout
        order = torch.randperm(len(self.samples), generator=generator)
        batches = [order[start : start + options.batch_size] for start in range(0, len(order), options.batch_size)]
        batches = batches[: _batches(len(order), options.batch_size, accelerator)]
        steps = len(batches) * options.epochs
        warmup = int(steps * options.warmup_ratio)
        self.wrapped.train()
        for index, batch in enumerate(batches):
            done = epoch * len(batches) + index
            for group in self.optimizer.param_groups:
                group["lr"] = options.learning_rate * learning_rate_factor(done, steps, warmup)
            if self.masks is not None:
                self.masks.before(done)
            augmentation = Augmentation.draw(len(batch), options.augment, options.shift_pixels, generator)
            value = self._descend(batch, augmentation)
            place = f"epoch {epoch + 1} of {options.epochs}"
            if not math.isfinite(value):
                raise PassError(
                    what=f"the loss became {value}",
                    where=f"step {self.step}, {place}, batch {index + 1} of {len(batches)}",
                    fix="lower learning_rate or raise warmup_ratio; check that the inputs are finite",
                )
            if accelerator.is_main_process:
                self.context.progress(done + 1, steps, f"{place}, loss {value:.4f}")

    def _descend(self, batch: Tensor, augmentation: Augmentation) -> float:
        """One step on this process's share of the batch; the loss over that share."""
        accelerator = self.accelerator
        share = slice(accelerator.process_index, None, accelerator.num_processes)
        mine = batch[share]
        first, *others = (tensor[mine] for tensor in self.samples.inputs)
        augmented = augmentation.of(share).apply(first)
        inputs = tuple(tensor.to(accelerator.device) for tensor in (augmented, *others))
        labels = self.samples.labels[mine].to(accelerator.device)
        self.optimizer.zero_grad()
        value = self.loss(self.wrapped(*inputs), inputs, labels)
        # gradients are averaged over processes, so an uneven share must weigh what it holds
        accelerator.backward(value * (len(mine) * accelerator.num_processes / len(batch)))
        if accelerator.num_processes > 1:  # those of the network are averaged by its wrapper
            for parameter in self.parts.parameters():
                if parameter.grad is not None:
                    parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")
        self.optimizer.step()
        if self.masks is not None:
            self.masks.apply()
        if self.average is not None:
            self.average.update(self.network)
            if self.masks is not None:
                self.masks.apply_to(self.average.tensors)
        return value.item()


def _batches(count: int, size: int, accelerator: Accelerator) -> int:
    """Batches of an epoch: a last one with fewer than two samples a process is none."""
    whole, rest = divmod(count, size)
    return whole + int(rest >= 2 * accelerator.num_processes)


def _masks(
    network: nn.Module, options: TrainOptions, samples: Samples, accelerator: Accelerator, step: str
) -> Masks | None:
    if options.sparsity is None:
        warn_of_lost_zeros(network, step)
        return None
    steps = _batches(len(samples), options.batch_size, accelerator) * options.epochs
    inputs = tuple(tensor[:2].to(accelerator.device) for tensor in samples.inputs)
    return Masks(network, options.sparsity, steps, inputs, step)


def _training_samples(network: nn.Module, context: Context, step: str, augment: Sequence[str]) -> Samples:
    if context.splits.train is None:
        raise PassError(
            what="there is no training split",
            where=f"step {step}",
            fix="name a data set that has training samples, or drop the step",
        )
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise PassError(
            what="no parameter of the network can be trained",
            where=f"step {step}",
            fix="drop the step, or leave some parameters with requires_grad",
        )
    labels = context.splits.train.labels
    if augment and labels.dim() > 2:
        raise PassError(
            what=f"labels {tuple(labels.shape[1:])} of a sample tell places, and augment moves its picture alone",
            where=f"step {step}, augment",
            fix="leave augment empty; let the data hold pictures that are mirrored and moved with their labels",
        )
    return context.splits.train


def _make_optimizer(network: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    groups = decay_groups(network, options.weight_decay)
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum)
    return torch.optim.AdamW(groups, lr=options.learning_rate)


def _digest(network: nn.Module, options: TrainOptions, context: Context, step: str, loss_digest: str) -> str:
    said = (
        step,
        options.model_dump_json(),
        str(context.seed),
        context.splits.digest,
        loss_digest,
        digest_state(network),
    )
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def digest_state(network: nn.Module) -> str:
    """SHA-256 of the names, shapes and values of a network's state."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _resume(training: _Training, run: str) -> int:
    """Load the run's checkpoint if there is one; the number of epochs done."""
    found = load_checkpoint(training.context.folder)
    if found is None:
        return 0
    if found.run != run:
        logger.warning(
            "step %s: the checkpoint in %s is of another run; starting again", training.step, training.context.folder
        )
        return 0
    training.network.load_state_dict(found.network)
    training.parts.load_state_dict(found.parts)
    restore_optimizer(training.optimizer, found.optimizer)
    if training.average is not None and found.average is not None:
        training.average.restore(found.average, found.average_step)
    if training.masks is not None and found.masks is not None:
        training.masks.restore(found.masks)
    logger.info("step %s: going on after epoch %d of %d", training.step, found.epochs, training.options.epochs)
    return found.epochs


def _checkpoint(training: _Training, run: str, epochs: int) -> None:
    accelerator, average = training.accelerator, training.average
    if accelerator.is_main_process:
        save_checkpoint(
            training.context.folder,
            Checkpoint(
                run=run,
                epochs=epochs,
                network=training.network.state_dict(),
                parts=training.parts.state_dict(),
                optimizer=training.optimizer.state_dict()["state"],
                average=None if average is None else average.tensors,
                average_step=0 if average is None else average.step,
                masks=None if training.masks is None else training.masks.tensors,
            ),
        )
    accelerator.wait_for_everyone()
