"""The first process of a test board, in namespaces of its own: lays its file systems, then buries its dead.

Started as `unshare --net --mount --pid --uts --fork --kill-child python inside.py ROOT SCRATCH DISK_BYTES NAME`. When
it ends, the kernel ends all that runs on the board and takes the mounts and the network with it: nothing is left to
undo, however the tests ended.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys

_NODES = ("null", "zero", "full", "random", "urandom", "tty")


def mount(*argv: str) -> None:
    subprocess.run(["mount", *argv], check=True)


def lay(root: str, scratch: str, disk_bytes: str) -> str:
    """A root that can be written to, over one that stays as it is; all that is written shares one small disk."""
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "-o", f"size={disk_bytes},mode=755", "disk", scratch)
    upper, work, merged = (os.path.join(scratch, name) for name in ("upper", "work", "root"))
    for folder in (upper, work, merged):
        os.mkdir(folder)
    mount("-t", "overlay", "-o", f"lowerdir={root},upperdir={upper},workdir={work}", "root", merged)
    mount("-t", "proc", "proc", f"{merged}/proc")
    mount("-t", "tmpfs", "-o", "size=64k,mode=755", "dev", f"{merged}/dev")
    for name in _NODES:
        open(f"{merged}/dev/{name}", "x").close()
        mount("--bind", f"/dev/{name}", f"{merged}/dev/{name}")
    for name in ("pts", "shm"):
        os.mkdir(f"{merged}/dev/{name}")
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620,gid=5", "devpts", f"{merged}/dev/pts")
    mount("-t", "tmpfs", "-o", "size=64m,mode=1777", "shm", f"{merged}/dev/shm")
    os.symlink("pts/ptmx", f"{merged}/dev/ptmx")
    os.symlink("/proc/self/fd", f"{merged}/dev/fd")
    return merged


def main() -> None:
    root, scratch, disk_bytes, name = sys.argv[1:]
    # held as long as the board runs, so that nobody takes its root for an old one
    fcntl.flock(os.open(f"{root}.lock", os.O_RDONLY), fcntl.LOCK_SH)
    socket.sethostname(name)
    merged = lay(root, scratch, disk_bytes)
    os.chroot(merged)
    os.chdir("/")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    print("ready", flush=True)
    while True:
        signal.sigwait({signal.SIGCHLD})
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break


if __name__ == "__main__":
    main()
