import subprocess
import sys
from pathlib import Path

from edgekit.agent.memory import peak_rss_bytes, rss_bytes


def test_sizes_are_read_in_kib(tmp_path: Path):
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")
    assert rss_bytes(tmp_path) == 1024 * 1024
    assert peak_rss_bytes(tmp_path) == 2048 * 1024


def test_without_proc_the_resident_size_is_unknown_and_the_peak_comes_from_the_kernels_accounts(tmp_path: Path):
    assert rss_bytes(tmp_path) is None
    assert peak_rss_bytes(tmp_path) > 4 * 1024 * 1024  # a Python process with numpy


def test_the_peak_is_the_processs_own_and_outlives_the_memory():
    """A child of this large process, which took 64 MB and gave them back."""
    code = (
        "from edgekit.agent.memory import peak_rss_bytes, rss_bytes\n"
        "block = bytearray(b'x') * 64_000_000\ndel block\nprint(peak_rss_bytes(), rss_bytes())"
    )
    ballast = bytearray(b"x") * 300_000_000
    peak, now = map(int, subprocess.check_output([sys.executable, "-c", code]).split())
    del ballast
    assert 64_000_000 < peak < 250_000_000
    assert now < peak - 50_000_000
