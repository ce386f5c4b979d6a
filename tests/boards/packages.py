"""What a root is unpacked from: arm64 packages of Debian through a private apt, wheels through pip."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.boards.host import BoardError, Source, call, debian_sources, say
from tests.boards.recipe import Recipe, Wheels

# of no use to a test, and a third of the size
_LEFT_OUT = ("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/share/info/*", "./usr/include/*")


def download_debs(recipe: Recipe, work: Path) -> list[Path]:
    """The recipe's packages and all that they need, from the first of this machine's archives that has the release.

    apt runs with folders of its own, so this machine's lists, caches and settings stay as they are. It checks the
    archive's signature and every file's digest.

    Raises:
        BoardError: no archive has them; carries what apt said of each.
    """
    refused = []
    for number, source in enumerate(debian_sources()):
        folder = work / f"apt-{number}"
        try:
            return _download_from(source, recipe, folder)
        except BoardError as err:
            refused.append(f"{source.uri}: {err}")
    raise BoardError(f"no archive has {recipe.name} for arm64:\n" + "\n".join(refused))


def _download_from(source: Source, recipe: Recipe, folder: Path) -> list[Path]:
    for name in ("etc/preferences.d", "etc/apt.conf.d", "lists/partial", "archives/partial", "log"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()  # nothing is installed yet, so all that is needed is fetched
    options = "arch=arm64" + (f" signed-by={source.signed_by}" if source.signed_by else "")
    (folder / "etc/sources.list").write_text(f"deb [{options}] {source.uri} {recipe.name} main\n")
    (folder / "apt.conf").write_text(
        "\n".join(
            f'{name} "{value}";'
            for name, value in {
                "APT::Architecture": "arm64",
                "APT::Architectures": "arm64",
                "APT::Install-Recommends": "false",
                "APT::Sandbox::User": "root",
                "Acquire::Languages": "none",
                "Acquire::Check-Valid-Until": "false",  # an old release is signed for good
                "Acquire::Retries": "3",
                "Dir::Etc": folder / "etc",
                "Dir::Etc::SourceParts": "-",
                "Dir::State": folder,
                "Dir::State::Lists": folder / "lists",
                "Dir::State::status": folder / "status",
                "Dir::Cache": folder,
                "Dir::Cache::Archives": folder / "archives",
                "Dir::Log": folder / "log",
                "pkgCacheGen::Essential": "none",  # only what is asked for
            }.items()
        )
    )
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
    call(["apt-get", "-q", "update", "--error-on=any"], timeout_s=300, env=environment)
    call(
        ["apt-get", "-q", "install", "-y", "--download-only", *recipe.packages],
        timeout_s=600,
        env=environment,
    )
    debs = sorted((folder / "archives").glob("*.deb"))
    size = sum(deb.stat().st_size for deb in debs)
    say(f"{recipe.name}: {len(debs)} packages of Debian, {size / 1e6:.0f} MB")
    return debs


def unpack_debs(debs: list[Path], root: Path) -> None:
    """Unpack packages into a root; their scripts are not run."""
    left_out = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    for deb in debs:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as reader:
            call_from(reader, ["tar", "-xp", "-C", root, "--keep-directory-symlink", *left_out, "-f", "-"])
        if reader.returncode != 0:
            raise BoardError(f"{deb.name} cannot be unpacked: dpkg-deb ended with {reader.returncode}")


def call_from(reader: subprocess.Popen[bytes], argv: list[str | os.PathLike[str]]) -> None:
    """Run a program that reads what another writes."""
    done = subprocess.run(argv, stdin=reader.stdout, stderr=subprocess.PIPE, timeout=120)
    if done.returncode != 0:
        raise BoardError(f"{argv[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")


def add_wheels(recipe: Recipe, wheels: Wheels, root: Path, work: Path) -> None:
    """Download wheels for arm64 and the root's Python, and unpack them into their folder there."""
    name = hashlib.sha256(repr(wheels).encode()).hexdigest()[:8]
    folder = work / f"wheels-{name}"
    options = ["--no-deps", "--only-binary=:all:", "--python-version", recipe.python, "--implementation", "cp"]
    platforms = [part for tag in recipe.platforms() for part in ("--platform", tag)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    call([*pip, *options, *platforms, "--dest", folder, *wheels.requirements], timeout_s=600)
    target = root / wheels.into
    target.mkdir(parents=True)
    found = sorted(folder.glob("*.whl"))
    for wheel in found:
        with zipfile.ZipFile(wheel) as file:
            file.extractall(target)
    size = sum(wheel.stat().st_size for wheel in found)
    say(f"{recipe.name}: {len(found)} wheels, {size / 1e6:.0f} MB, into /{wheels.into}")
