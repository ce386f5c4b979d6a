"""What every test gets: few threads, and the folder of real data where there is one."""

import os
from pathlib import Path

import pytest

from tests.boards.fixtures import (  # noqa: F401 what pytest finds here, every test can ask for
    _bookworm,
    _bullseye,
    _postgres_server,
    bookworm_board,
    bullseye_board,
    postgres_url,
)


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    try:
        import torch
    except ModuleNotFoundError:  # the core and its tests work without it
        return
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """EDGEKIT_DATA, or the folder that lies beside a development checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EDGEKIT_DATA") or default)
    if not (folder / "weights").is_dir():
        pytest.skip(f"no data sets in {folder}; set EDGEKIT_DATA")
    return folder
