"""Histograms of activations against numpy's, and ranges against the activations themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgekit.data.observers import BINS_PER_SIDE, ChannelMean, Histogram, Seen, observe
from edgekit.nets.program import trace
from tests import nets


def _seen(batches: list[tuple[torch.Tensor, ...]], batch: int) -> Seen:
    seen = Seen()
    observe(trace(nets.model(nets.TINY_RESIDUAL), batch), batches, seen)
    return seen


def test_ranges_are_those_of_all_batches_together() -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    batches = [model.example(2, seed=seed) for seed in range(3)]
    batches[1] = (batches[1][0] * 40,)
    seen = _seen(batches, 2).histograms
    everything = torch.cat([x for (x,) in batches])
    assert (seen["input:image"].low, seen["input:image"].high) == (float(everything.min()), float(everything.max()))
    stem = torch.cat([model.network.stem(x) for (x,) in batches]).detach()  # type: ignore[operator, union-attr]
    assert (seen["stem/conv2d"].low, seen["stem/conv2d"].high) == (float(stem.min()), float(stem.max()))
    assert seen["/relu"].low == 0.0


def test_a_range_always_holds_zero() -> None:
    (x,) = nets.model(nets.TINY_RESIDUAL).example()
    assert _seen([(x.abs() + 1,)], 1).histograms["input:image"].low == 0.0


def test_counts_are_numpys_after_the_range_has_grown() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(1000, generator=generator) * spread for spread in (1.0, 7.0, 0.5, 90.0)]
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    span = histogram.width * BINS_PER_SIDE
    values = torch.cat(parts).double().numpy()
    assert histogram.counts.sum() == 4000
    expected, _ = np.histogram(values, 2 * BINS_PER_SIDE, (-span, span))
    assert np.abs(np.cumsum(expected) - np.cumsum(histogram.counts)).max() <= 2  # float32 bins put ties either way


@pytest.mark.parametrize("seed", range(8))
def test_streamed_counts_are_those_of_all_values_at_once(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # in the middle of bins of 1 / 2048, and powers of two at the lower end, which belong to the bin above: no ties
    codes = torch.randint(-2048 * 8, 2048 * 8, (5000,), generator=generator)
    values = torch.cat([torch.tensor([-1.0]), (codes + 0.5) / 2048 / (1 + 7 * (codes % 2)), torch.tensor([-8.0])])
    streamed, whole = Histogram(), Histogram()
    cuts = torch.randint(1, 5000, (seed,), generator=generator).sort().values.tolist()
    streamed.add(values[:1])
    for part in torch.tensor_split(values[1:], cuts):
        if len(part):
            streamed.add(part.reshape(1, -1) if seed % 2 else part)  # shapes may differ
    whole.add(values)
    assert (streamed.low, streamed.high, streamed.width) == (whole.low, whole.high, whole.width)
    assert streamed.counts.tolist() == whole.counts.tolist()
    assert whole.counts.sum() == len(values)


def test_programs_of_several_shapes_fill_one_record() -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    seen = Seen()
    images = []
    for size, batch in ((6, 2), (10, 3), (7, 1)):
        spec = model.inputs[0].model_copy(update={"shape": (1, 1, size, size)})
        resized = replace(model, source=model.source.model_copy(update={"inputs": (spec,)}))
        images.append(resized.example(batch, seed=size)[0])
        observe(trace(resized, batch), [(images[-1],)], seen)
    stems = torch.cat([model.network.stem(x).flatten() for x in images]).detach()  # type: ignore[operator, union-attr]
    histogram = seen.histograms["stem/conv2d"]
    assert (histogram.low, histogram.high) == (float(stems.min()), float(stems.max()))
    assert histogram.counts.sum() == stems.numel()
    mean = torch.cat([x.flatten() for x in images]).mean()
    torch.testing.assert_close(seen.means["stem/conv2d"].mean[0], mean)


def test_memory_does_not_grow_with_samples() -> None:
    histogram = Histogram()
    for _ in range(50):
        histogram.add(torch.randn(10))
    assert histogram.counts.nbytes == 2 * BINS_PER_SIDE * 8


def test_a_nan_is_not_lost() -> None:
    histogram = Histogram()
    histogram.add(torch.tensor([1.0, float("nan")]))
    histogram.add(torch.tensor([2.0]))
    assert not np.isfinite(histogram.high)


def test_all_zeros_are_a_range() -> None:
    histogram = Histogram()
    histogram.add(torch.zeros(3))
    assert (histogram.low, histogram.high, int(histogram.counts.sum())) == (0.0, 0.0, 0)


def test_means_are_those_of_every_layers_input_channels() -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    batches = [model.example(2, seed=seed) for seed in range(3)]
    means = _seen(batches, 2).means
    everything = torch.cat([x for (x,) in batches])
    hidden = model.network.stem(everything).relu().detach()  # type: ignore[operator, union-attr]
    torch.testing.assert_close(means["stem/conv2d"].mean, everything.mean((0, 2, 3)))
    torch.testing.assert_close(means["conv1/conv2d"].mean, hidden.mean((0, 2, 3)))
    assert set(means) == {"stem/conv2d", "conv1/conv2d", "conv2/conv2d", "linear/linear"}


def test_the_mean_of_unequal_batches_weighs_samples_alike() -> None:
    mean = ChannelMean()
    mean.add(torch.tensor([[1.0, 10.0]]), 1)
    mean.add(torch.tensor([[4.0, 10.0], [4.0, 40.0]]), 1)
    assert mean.mean.tolist() == [3.0, 20.0]
