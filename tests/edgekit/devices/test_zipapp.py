import io
import subprocess
import sys
import zipfile
from pathlib import Path

import edgekit
from edgekit.devices import zipapp
from edgekit.devices.zipapp import agent_version, build_zipapp


def test_the_same_sources_give_the_same_bytes_whatever_their_age(monkeypatch):
    first = build_zipapp()
    sources = dict(reversed(list(zipapp._sources().items())))  # another order of listing
    monkeypatch.setattr(zipapp, "_sources", lambda: sources)
    assert build_zipapp() == first


def test_it_holds_the_agent_and_of_edgekit_only_the_version():
    with zipfile.ZipFile(io.BytesIO(build_zipapp())) as archive:
        names = archive.namelist()
        init = archive.read("edgekit/__init__.py").decode()
        assert all(entry.date_time == (1980, 1, 1, 0, 0, 0) for entry in archive.infolist())
    others = [name for name in names if not name.startswith("edgekit/agent/")]
    assert others == ["__main__.py", "edgekit/__init__.py"]
    assert {"edgekit/agent/jobs.py", "edgekit/agent/runtimes/litert.py"} <= set(names)
    assert f'__version__ = "{agent_version()}"' in init


def test_changed_measuring_code_is_another_version(monkeypatch):
    before = agent_version()
    sources = zipapp._sources()
    sources["edgekit/agent/timing.py"] += b"\n"
    monkeypatch.setattr(zipapp, "_sources", lambda: sources)
    assert agent_version() != before
    assert agent_version().startswith(f"{edgekit.__version__}+")


def test_it_runs_as_a_file_and_says_how_it_is_used(tmp_path: Path):
    (tmp_path / "agent.pyz").write_bytes(build_zipapp())
    done = subprocess.run([sys.executable, str(tmp_path / "agent.pyz")], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "usage: python agent.pyz JOB.json RESULT.json\n"
