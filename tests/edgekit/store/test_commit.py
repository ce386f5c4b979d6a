import subprocess
from pathlib import Path

import pytest

from edgekit.store.commit import project_commit


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "model.py").write_text("one\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    return tmp_path


def test_the_commit_of_a_clean_project(project: Path):
    assert project_commit(project) == git(project, "rev-parse", "HEAD")
    (project / ".edgekit").mkdir()
    (project / ".edgekit" / "untracked").write_text("x")
    assert project_commit(project) == git(project, "rev-parse", "HEAD")


def test_a_changed_file_is_told(project: Path):
    (project / "model.py").write_text("two\n")
    assert project_commit(project) == git(project, "rev-parse", "HEAD") + "-dirty"


def test_what_has_no_commit_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert project_commit(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    assert project_commit(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert project_commit(tmp_path) is None
