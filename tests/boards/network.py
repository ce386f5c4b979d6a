"""A link of its own between this machine and a board: a pair of virtual interfaces and a network of two addresses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from tests.boards.host import BoardError, call

_NETWORKS = tuple(IPv4Network("10.77.0.0/16").subnets(new_prefix=30))


@dataclass(frozen=True)
class Link:
    """This machine's end is `interface` with `here`; the board's is eth0 with `address`."""

    interface: str
    here: IPv4Address
    address: IPv4Address

    def up(self) -> None:
        """Put the cable in."""
        call(["ip", "link", "set", self.interface, "up"])

    def down(self) -> None:
        """Pull the cable: nothing answers, and nobody is told."""
        call(["ip", "link", "set", self.interface, "down"])


def connect(pid: int) -> Link:
    """A link to the network namespace of a process. It goes when the namespace does.

    The interface's name stands for its network, and the kernel lets a name be taken once, so processes that make boards
    at the same time do not need to agree on anything.
    """
    first = os.getpid() % len(_NETWORKS)
    for step in range(len(_NETWORKS)):
        number = (first + step) % len(_NETWORKS)
        here, address = _NETWORKS[number].hosts()
        if _has_route(address):
            continue
        link = Link(f"ekboard{number}", here, address)
        try:
            call(["ip", "link", "add", link.interface, "type", "veth", "peer", "name", "eth0", "netns", str(pid)])
        except BoardError as err:
            if "File exists" in str(err):
                continue
            raise
        call(["ip", "address", "add", f"{here}/30", "dev", link.interface])
        link.up()
        inside = ["nsenter", "--net", "--target", str(pid), "ip"]
        call([*inside, "address", "add", f"{address}/30", "dev", "eth0"])
        call([*inside, "link", "set", "eth0", "up"])
        call([*inside, "link", "set", "lo", "up"])
        return link
    raise BoardError("no network is free for another board: see `ip link | grep ekboard`")


def _has_route(address: IPv4Address) -> bool:
    routes = call(["ip", "-4", "route", "show", "to", "match", str(address)]).splitlines()
    return any(not route.startswith("default") for route in routes)
