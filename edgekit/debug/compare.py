"""Two sides, layer by layer: the error as it accumulates, and the error that each layer makes by itself.

An accumulated error says where a network is wrong, not who did it. So each layer of the candidate is also fed with the
reference's own inputs of it, all layers in one run of a graph that is cut behind every layer. No bisection is needed:
the first layer whose own error is more than its grids explain is the culprit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from edgekit.debug.bounds import COARSE_DB, MARGIN, Explained, explain
from edgekit.debug.layers import INPUT, Array, Grid, Run, Side, inputs_of
from edgekit.debug.match import Matched, Pair, match, pair_inputs
from edgekit.debug.reasons import Evidence, find_reason
from edgekit.debug.totals import Totals
from edgekit.errors import DataError
from edgekit.schema.debug import Comparison, LayerRow, LayerState

_DYNAMIC_STEPS = 255  # of a grid that is made of one tensor as it comes; for rows or groups it is finer


@dataclass(frozen=True)
class DebugSamples:
    """What goes in.

    Attributes:
        inputs: (N, ...) float32 by the reference's names of its inputs.
        source: for people.
        random: whether they are random numbers: those say nothing of ranges.
    """

    inputs: Mapping[str, Array]
    source: str
    random: bool = False


@dataclass(frozen=True)
class _Runs:
    """Everything loaded: the reference whole and cut, the candidate whole and cut in each of its runtimes."""

    reference: Run
    reference_cut: Run
    whole: Sequence[Run]
    cut: Sequence[Run]


def compare(
    reference: Side,
    candidate: Side,
    samples: DebugSamples,
    names: Mapping[str, str] | None = None,
    declared: Mapping[str, tuple[int, int | None]] | None = None,
) -> Comparison:
    """Hold a candidate against a reference.

    Args:
        names: what the reference's layers are to be called, where not by their own names.
        declared: weight name -> bits and group of the codes that a manifest says it has. They count where the file
            holds the weight as float32, for want of a kernel.

    Raises:
        DataError: the two cannot be paired, or the samples do not fit them.
        FormatError: a runtime refuses one of them.
    """
    batches = list(_batches(reference, candidate, samples))
    twins = {b.name: a.name for a, b in pair_inputs(reference.layers, candidate.layers)}
    with ExitStack() as stack:
        run = stack.enter_context(reference.session(reference.runtimes[0], frozenset()))
        whole = [stack.enter_context(candidate.session(runtime, frozenset())) for runtime in candidate.runtimes]
        matched = match(reference.layers, candidate.layers, run(batches[0]), whole[0](_renamed(batches[0], twins)))
        matched = replace(matched, pairs=tuple(_with_steps(pair, declared or {}) for pair in matched.pairs))
        pairs = [pair for pair in matched.pairs if pair.reference.kind != INPUT]
        cut = frozenset(pair.candidate.name for pair in pairs)
        runs = _Runs(
            run,
            stack.enter_context(
                reference.session(reference.runtimes[0], frozenset(pair.reference.name for pair in pairs))
            ),
            whole,
            [stack.enter_context(candidate.session(runtime, cut)) for runtime in candidate.runtimes],
        )
        totals: dict[str, Totals] = {}
        for batch in batches:
            _add(totals, matched, runs, batch, _renamed(batch, twins))
        labels = names or {}
        rows = _rows(reference, candidate, matched, totals, runs, batches[0], twins, labels, random=samples.random)
    return Comparison(
        reference=reference.title,
        candidate=candidate.title,
        runtimes=candidate.runtimes,
        samples=sum(len(next(iter(batch.values()))) for batch in batches),
        sample_source=samples.source,
        matched=matched.how,
        layers=rows,
        reference_only=tuple(labels.get(layer.name, layer.name) for layer in matched.reference_only),
        candidate_only=tuple(layer.name for layer in matched.candidate_only),
    )


def _batches(reference: Side, candidate: Side, samples: DebugSamples) -> Iterator[dict[str, Array]]:
    """Samples in batches that both sides take; the last one is dropped where it is not full."""
    sizes = {side.batch for side in (reference, candidate)} - {None}
    if len(sizes) > 1:
        raise DataError(
            f"one takes {reference.batch} samples at a time, the other {candidate.batch}",
            f"{reference.title}; {candidate.title}",
            "export both with the same batch",
        )
    size = sizes.pop() if sizes else 1
    assert size is not None
    named = {layer.name: layer.tensor for layer in inputs_of(reference)}
    missing = [tensor for tensor in named.values() if tensor not in samples.inputs]
    if missing:
        raise DataError(
            f"no samples for input {missing[0]!r}", samples.source, f"name the arrays {', '.join(named.values())}"
        )
    for layer in inputs_of(reference):
        given = samples.inputs[layer.tensor].shape
        if len(given) != len(layer.shape) or any(a != b for a, b in zip(given[1:], layer.shape[1:], strict=True) if b):
            raise DataError(
                f"a sample is {given[1:]}, and input {layer.tensor!r} takes {layer.shape[1:]}",
                samples.source,
                "give samples as the network takes them: preprocessed, in its layout",
            )
    count = min(len(samples.inputs[tensor]) for tensor in named.values())
    if count < size:
        raise DataError(f"{count} samples for a batch of {size}", samples.source, f"give {size} or more")
    for start in range(0, count - size + 1, size):
        yield {name: samples.inputs[tensor][start : start + size] for name, tensor in named.items()}


def _with_steps(pair: Pair, declared: Mapping[str, tuple[int, int | None]]) -> Pair:
    weight = pair.candidate.weight
    if weight is None or weight.step.any() or pair.reference.weight_name not in declared:
        return pair
    rounded = weight.rounded_to(*declared[pair.reference.weight_name])
    return replace(pair, candidate=replace(pair.candidate, weight=rounded))


def _renamed(batch: Mapping[str, Array], twins: Mapping[str, str]) -> dict[str, Array]:
    """A batch by the candidate's names of its inputs."""
    return {theirs: batch[ours] for theirs, ours in twins.items()}


def _add(
    totals: dict[str, Totals],
    matched: Matched,
    runs: _Runs,
    batch: Mapping[str, Array],
    own_batch: Mapping[str, Array],
) -> None:
    """Everything that one batch tells."""
    true = runs.reference(batch)
    wholes = [run(own_batch) for run in runs.whole]
    given = _fed(matched.pairs, true, own_batch)
    own = [run(given) for run in runs.cut]
    noisy = runs.reference_cut({p.reference.name: _on_grid(true[p.reference.name], p) for p in matched.pairs})
    for pair in matched.pairs:
        name = pair.reference.name
        here = totals.setdefault(name, Totals())
        value = true[name]
        here.samples += len(value)
        here.add_reference(value, pair.candidate.grid)
        here.add_candidate(value, pair.to_reference(wholes[0][pair.candidate.name]))
        here.plain_accumulated.add(pair.to_reference(wholes[-1][pair.candidate.name]) - value)
        alone = [pair.to_reference(found[pair.candidate.name]) for found in own]
        here.add_own(value, alone[0])
        here.plain.add(alone[-1] - value)
        here.fused.add(alone[0] - alone[-1])
        if pair.reference.kind != INPUT:
            here.input_noise += float(np.square(noisy[name] - value, dtype=np.float64).sum())


def _on_grid(values: Array, pair: Pair) -> Array:
    """Values as the candidate stores them. What its grid clips is the fault of this layer, not of its readers."""
    grid = pair.candidate.grid
    if grid is None and pair.candidate.dynamic:
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        grid = Grid(max((high - low) / _DYNAMIC_STEPS, 1e-30), 0, -_DYNAMIC_STEPS, _DYNAMIC_STEPS)
    return values if grid is None else grid.decode(grid.encode(values))


def _fed(pairs: Sequence[Pair], true: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What a cut candidate is given: its network inputs, and the reference's output of every paired layer."""
    outputs = {p.candidate.name: p.to_candidate(true[p.reference.name]) for p in pairs if p.reference.kind != INPUT}
    return {**outputs, **inputs}


def _rows(
    reference: Side,
    candidate: Side,
    matched: Matched,
    totals: Mapping[str, Totals],
    runs: _Runs,
    batch: Mapping[str, Array],
    twins: Mapping[str, str],
    names: Mapping[str, str],
    *,
    random: bool,
) -> tuple[LayerRow, ...]:
    true = runs.reference(batch)

    def again(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return runs.cut[0](_fed(matched.pairs, true, {theirs: inputs[ours] for theirs, ours in twins.items()}))

    rows = []
    for pair in matched.pairs:
        here, noise = totals[pair.reference.name], explain(pair, totals, clipping=random)
        state = _state(here, noise, random=random)
        reason = ""
        if state != "ok":
            evidence = Evidence(
                pair=pair,
                totals=here,
                noise=noise,
                coarse=state == "coarse",
                runtimes=candidate.runtimes,
                inputs={name: batch[name] for name in pair.reference.sources if name in batch},
                true=true[pair.reference.name],
                again=lambda inputs: again({**batch, **inputs}),
            )
            reason = find_reason(evidence)
        rows.append(_row(pair, here, noise, state, reason, names, two=len(candidate.runtimes) > 1))
    return tuple(rows)


def _state(here: Totals, noise: Explained, *, random: bool) -> LayerState:
    own = here.mean(here.own.squares)
    if not own <= MARGIN * noise.total:
        return "bad"
    return "coarse" if not random and here.power > 0 and own > here.power / 10 ** (COARSE_DB / 10) else "ok"


def _row(
    pair: Pair,
    here: Totals,
    noise: Explained,
    state: LayerState,
    reason: str,
    names: Mapping[str, str],
    *,
    two: bool,
) -> LayerRow:
    grid = pair.candidate.grid
    largest = here.accumulated.largest
    finite = bool(np.isfinite(largest))
    alone = here.own.largest
    return LayerRow(
        layer=names.get(pair.reference.name, pair.reference.name),
        candidate_layer=pair.candidate.name,
        kind=pair.reference.kind,
        snr_db=here.snr_db(here.accumulated.squares),
        plain_snr_db=here.snr_db(here.plain_accumulated.squares) if two else None,
        cosine=here.cosine,
        max_abs_error=largest if finite else None,
        max_code_error=largest / grid.scale if finite and grid is not None else None,
        own_snr_db=here.snr_db(here.own.squares),
        plain_own_snr_db=here.snr_db(here.plain.squares) if two else None,
        own_max_code_error=alone / grid.scale if np.isfinite(alone) and grid is not None else None,
        explained_snr_db=here.snr_db(noise.total * here.values),
        clipped_ratio=here.clipped / max(here.values, 1),
        exact=largest == 0,
        state=state,
        reason=reason,
    )
