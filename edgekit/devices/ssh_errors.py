"""What OpenSSH's client says when it fails, turned into what a user can act on."""

from __future__ import annotations

import re

from edgekit.devices.transport import LinkError
from edgekit.errors import DeviceError

# the board may answer again later: nothing of these is about who it is or who we are
_LINK = re.compile(
    r"connection refused|connection timed out|operation timed out|no route to host|network is unreachable|host is down"
    r"|connection reset|connection closed|closed by remote host|broken pipe|connection to .* (closed|aborted)"
    r"|timeout, server .* not responding|banner exchange|mux_client|control socket connect|lost connection"
    r"|software caused connection abort|connection unexpectedly closed",
    re.IGNORECASE,
)


def explain(told: str, where: str, host: str) -> DeviceError | None:
    """The error for what ssh or sftp wrote before it gave up; None: nothing of it is about the connection.

    Args:
        told: its standard error or log.
        where: the device, for the message.
        host: as ssh was given it.
    """
    lines = [line.strip() for line in told.splitlines() if line.strip() and not line.startswith("@")]
    text = "\n".join(lines)
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in told or ("host key for" in text and "has changed" in text):
        return DeviceError(
            "it shows another host key than the one that is known: this may be another machine",
            where,
            f"if the board was installed anew: ssh-keygen -R {host}, then ssh {host} once and compare the fingerprint "
            "with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the board's own console",
        )
    if "Host key verification failed" in text or "host key is known for" in text:
        return DeviceError(
            "its host key is not known here",
            where,
            f"connect once by hand: ssh {host}; compare the fingerprint with `ssh-keygen -lf "
            "/etc/ssh/ssh_host_ed25519_key.pub` on the board's own console before you say yes",
        )
    if "Permission denied" in text and ("publickey" in text or "password" in text or "keyboard" in text):
        return DeviceError(
            f"it lets us not in: {_line(lines, 'Permission denied')}",
            where,
            f"copy your key there: ssh-copy-id {host}; or name it in ~/.ssh/config, or load it: ssh-add",
        )
    if "Could not resolve hostname" in text:
        return DeviceError(
            f"nothing is called {host!r}: {_line(lines, 'Could not resolve')}",
            where,
            "correct its address in devices.yaml, or add a Host to ~/.ssh/config",
        )
    if "Bad owner or permissions" in text or "Bad configuration option" in text or "Can't open user config" in text:
        return DeviceError(f"ssh refuses its configuration: {lines[0]}", where, "correct that file")
    found = _LINK.search(text)
    if found is not None:
        return LinkError(
            f"the link is lost: {_line(lines, found[0])}", where, "check that it is on, on the network, and runs sshd"
        )
    return None


def _line(lines: list[str], part: str) -> str:
    """The last line with that part in it."""
    return next((line for line in reversed(lines) if part.lower() in line.lower()), lines[-1])
