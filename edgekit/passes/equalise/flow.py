"""How far the scale of a channel reaches: a program is run on classes of channels instead of numbers.

Data movement is carried out literally, so a channel is followed through any reshape, permutation or slice. An operator
that a factor passes through hands its classes on; one that it does not blocks them; a layer ends the classes of its
inputs and makes new ones. With `rotates` the question is stricter: whether channels may be mixed with each other.
The rule of each operator is in `rules.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor, fx, nn

from edgekit.nets.graph import is_weight, tensor_of
from edgekit.nets.program import Program
from edgekit.passes.equalise.channels import ZERO, Channels, members

Role: TypeAlias = Literal["source", "sink", "offset"]
Classes: TypeAlias = "Tensor | tuple[Tensor, ...]"
Rule: TypeAlias = "Callable[[Tracer, fx.Node], Classes]"


@dataclass(frozen=True)
class Site:
    """Where a stored tensor of the network meets channels.

    Attributes:
        tensor: its name in the network.
        classes: shaped like the tensor: the channel that each element makes, reads or shifts.
        role: a `source` makes the channel and grows with it, a `sink` reads it and shrinks as it grows, an `offset` is
            added to it and grows with it.
        layer: activation name of the operator.
    """

    tensor: str
    classes: Tensor
    role: Role
    layer: str


@dataclass(frozen=True)
class Norm:
    """A layer norm or RMS norm that a rotation passes: of channels `classes`, (C,).

    Attributes:
        centred: it takes the mean off, so only a rotation that keeps the mean passes.
        gain, shift: names of its parameters in the network.
    """

    layer: str
    classes: Tensor
    centred: bool
    gain: str | None
    shift: str | None


@dataclass(frozen=True)
class Flow:
    """Classes of a whole program.

    Attributes:
        classes: activation name -> the class of every element at batch 1.
        sites: in execution order.
        reasons: blocked class -> why.
        count: classes are below it.
        cells: sets of channels that are treated alike; channels may be mixed only with others of every cell they are
            in. For rotations only.
        norms: for rotations only.
    """

    classes: dict[str, Tensor]
    sites: tuple[Site, ...]
    reasons: dict[int, str]
    count: int
    cells: tuple[Tensor, ...] = ()
    norms: tuple[Norm, ...] = ()


def follow(program: Program, network: nn.Module, rules: Mapping[Any, Rule], *, rotates: bool = False) -> Flow:
    """The flow of channels through `program`: that of `network` as it is written, at batch 1."""
    tracer = Tracer(program, network, rotates)
    for node in program.module.graph.nodes:
        if node.op == "placeholder":
            tracer.set(node, tracer.fixed(node, "it is an input of the network"))
        elif node.op == "call_function":
            rule = rules.get(node.target)
            tracer.set(node, rule(tracer, node) if rule is not None else tracer.stop(node))
        elif node.op == "output":
            for source in node.all_input_nodes:
                if not is_weight(source):
                    tracer.block(source, "it is an output of the network")
    return tracer.finish()


class Tracer:
    """What the rules write into while a program is followed."""

    def __init__(self, program: Program, network: nn.Module, rotates: bool) -> None:
        self.channels = Channels()
        self.rotates = rotates
        self._module, self._names = program.module, program.names
        self._own = _own_tensors(program.module, network)
        self._classes: dict[fx.Node, Classes] = {}
        self._sites: list[Site] = []
        self._cells: list[Tensor] = []
        self._norms: list[Norm] = []

    def of(self, node: fx.Node) -> Tensor:
        """Classes of an activation; of a stored tensor that is moved about, new ones."""
        if node not in self._classes:
            self._classes[node] = self._stored(node)
        found = self._classes[node]
        assert isinstance(found, Tensor)
        return found

    def raw(self, node: fx.Node) -> Classes:
        """As `of`, where several tensors are meant too."""
        return self._classes[node] if node in self._classes else self.of(node)

    def set(self, node: fx.Node, classes: Classes) -> None:
        """Store what a rule found."""
        self._classes[node] = classes

    def name(self, node: fx.Node) -> str:
        """Activation name of a node."""
        return self._names.get(node, node.name)

    def own(self, node: object) -> str | None:
        """Name in the network of a stored tensor that may be changed; None where changing it would change more."""
        name = str(node.target) if isinstance(node, fx.Node) and is_weight(node) else None
        return name if name in self._own else None

    def value(self, node: fx.Node) -> Tensor:
        """The numbers of a stored tensor."""
        return tensor_of(self._module, node)

    def site(self, stored: fx.Node, classes: Tensor, role: Role, layer: fx.Node) -> None:
        """Add a site; `classes` broadcast to the stored tensor."""
        tensor = self.own(stored)
        assert tensor is not None
        self._sites.append(Site(tensor, classes.expand(self.value(stored).shape), role, self.name(layer)))

    def cell(self, classes: Tensor) -> None:
        """Channels that may be mixed with each other, as far as one place is concerned."""
        self._cells.append(classes)

    def norm(self, norm: Norm) -> None:
        """Add a norm that a rotation passes."""
        self._norms.append(norm)

    def block(self, node: fx.Node, reason: str) -> None:
        """Keep the channels of an activation as they are."""
        found = self.raw(node)
        for classes in found if isinstance(found, tuple) else (found,):
            self.channels.block(classes, reason)

    def fixed(self, node: fx.Node, reason: str) -> Classes:
        """One blocked class for all that a node makes."""
        one = self.channels.new(1)[0]
        self.channels.block(one, reason)
        value = node.meta.get("val")
        if isinstance(value, tuple | list):
            return tuple(one.expand(part.shape) for part in value if isinstance(part, Tensor))
        return one.expand(value.shape) if isinstance(value, Tensor) else one

    def stop(self, node: fx.Node, why: str | None = None) -> Classes:
        """Nothing passes this operator."""
        what = "mixes of channels" if self.rotates else "factors"
        reason = why or f"{self.name(node)} reads it, which {what} do not pass"
        for source in node.all_input_nodes:
            if not is_weight(source):
                self.block(source, reason)
        return self.fixed(node, f"{self.name(node)} makes it, which {what} do not pass")

    def filled(self, classes: Tensor) -> Tensor:
        """`classes` with new ones where there was none."""
        empty = classes == ZERO
        return classes.masked_scatter(empty, self.channels.new(int(empty.sum())))

    def finish(self) -> Flow:
        """The flow, every class by the one that stands for it."""
        roots = self.channels.roots()
        named: dict[str, Tensor] = {}
        for node, name in self._names.items():
            found = self._classes.get(node)
            if isinstance(found, Tensor):
                named[name] = roots[found]
        sites = tuple(Site(site.tensor, roots[site.classes], site.role, site.layer) for site in self._sites)
        reasons = {one: reason for one in members(roots) if (reason := self.channels.reason(one)) is not None}
        norms = tuple(Norm(n.layer, roots[n.classes], n.centred, n.gain, n.shift) for n in self._norms)
        return Flow(named, sites, reasons, len(roots) - 1, tuple(roots[cell] for cell in self._cells), norms)

    def _stored(self, node: fx.Node) -> Tensor:
        value = self.value(node)
        classes = self.channels.new(value.numel()).reshape(value.shape)
        if self.own(node) is None:
            self.channels.block(classes, f"{node.target} is shared, or not saved")
        else:
            self.site(node, classes, "offset", node)
        return classes


def _own_tensors(module: fx.GraphModule, network: nn.Module) -> frozenset[str]:
    """Names of the stored tensors that are read in one place only, have no second name, and are saved with a model."""
    named = network.state_dict(keep_vars=True)
    names_of: dict[int, list[str]] = {}
    for name, tensor in named.items():
        names_of.setdefault(tensor.data_ptr(), []).append(name)
    readers: dict[str, int] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            readers[str(node.target)] = readers.get(str(node.target), 0) + len(node.users)
    return frozenset(
        name for name, count in readers.items() if name in named and count == len(names_of[named[name].data_ptr()]) == 1
    )
