"""Keys of a board and of whoever logs in, and the ssh_config that knows both."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.boards.host import call


@dataclass(frozen=True)
class Keys:
    """Files of one board in a folder of this machine; `ssh -F config` logs in with them."""

    folder: Path

    @property
    def config(self) -> Path:
        """Settings for `ssh -F`."""
        return self.folder / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """Host keys that `config` expects."""
        return self.folder / "known_hosts"

    def let_in(self, root: Path, *, alias: str, address: str, port: int, user: str) -> None:
        """Make all keys, put the board's part into its root, and write `config`."""
        key = self.folder / "id_ed25519"
        _make_key(key, "test board")
        shutil.copyfile(key.with_suffix(".pub"), root / "etc/ssh/authorized_keys")
        self.make_host_key(root)
        self.trust(address)
        settings = {
            "HostName": address,
            "Port": port,
            "User": user,
            "IdentityFile": key,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
        }
        lines = [f"Host {alias}", *(f"  {name} {value}" for name, value in settings.items())]
        self.config.write_text("\n".join(lines) + "\n")

    def make_host_key(self, root: Path) -> None:
        """Give the board a new host key, which sshd reads when it starts."""
        key = self.folder / "host_key"
        _make_key(key, "test board's host")
        there = root / "etc/ssh/ssh_host_ed25519_key"
        there.touch(mode=0o600)
        shutil.copyfile(key, there)

    def trust(self, address: str) -> None:
        """Expect the host key made last."""
        kind, key = (self.folder / "host_key.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"{address} {kind} {key}\n")

    def forget(self) -> None:
        """Expect no key: the board is not known."""
        self.known_hosts.write_text("")


def _make_key(file: Path, comment: str) -> None:
    for old in (file, file.with_suffix(".pub")):
        old.unlink(missing_ok=True)
    call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", file])
