"""A simulator for a whole module, a folder for each test, and a disk that is as small as one likes."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real_death.stage import Simulator, Stage


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with Simulator(tmp_path_factory.mktemp("simulator")) as simulator:
        yield simulator


@pytest.fixture
def stage(tmp_path: Path, sim: Simulator) -> Iterator[Stage]:
    with Stage(tmp_path / "agent", sim.url, sim.ca_file, sim.token_id, sim.token_secret) as made:
        yield made


@dataclass
class Disk:
    """A file system of its own, in memory."""

    folder: Path

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True)

    def fill(self) -> None:
        """Leave not one block free."""
        space = os.statvfs(self.folder)
        (self.folder / "filler").write_bytes(b"x" * (space.f_bavail * space.f_frsize))

    def empty(self) -> None:
        (self.folder / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[Path], Disk]]:
    """Mount a small disk on a folder; needs root."""
    mounted: list[Path] = []

    def mount(folder: Path) -> Disk:
        if os.geteuid() != 0:
            pytest.skip("mounting a small disk needs root")
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False, capture_output=True
        )
        if done.returncode:
            pytest.skip(f"cannot mount a small disk: {done.stderr.decode().strip()}")
        mounted.append(folder)
        return Disk(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)
