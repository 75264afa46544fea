"""The tutorial, followed literally in a new environment that has the built package and what it needs, nothing else."""

import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, Shell, blocks

TUTORIAL = ROOT / "docs" / "tutorial.md"
PIP = ["-m", "pip", "--disable-pip-version-check", "--quiet"]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The folder with `trueup` of a new environment."""
    build = run(sys.executable, *PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path / "dist", ".")
    assert build.returncode == 0, build.stderr
    (wheel,) = (tmp_path / "dist").glob("trueup-*.whl")
    assert run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv").returncode == 0
    python = tmp_path / "venv" / "bin" / "python"
    lock = run(sys.executable, "deploy/debian/runtime_lock.py", "requirements.lock", "pyproject.toml").stdout
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    _lend(lock, site)
    done = run(sys.executable, *PIP, "--python", python, "install", "--no-deps", "--no-index", wheel)
    assert done.returncode == 0, done.stderr
    return python.parent


def _lend(lock: str, site: Path) -> None:
    """Give an environment what a lock names, by links to what was installed here from the same lock.

    Pip's own way from that lock, hashes and all, is in the test of the Debian package, which needs an index.
    """
    named = re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;]+)", lock, re.MULTILINE)
    assert len(named) > 10
    for name, version in named:
        found = metadata.distribution(name)
        assert found.version == version, f"{name}: run `make setup`"
        for file in found.files or ():
            if ".." not in file.parts:  # programs are not needed
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                (site / file).symlink_to(Path(str(found.locate_file(file))))


@pytest.mark.timeout(300)
def test_the_tutorial_works_as_written_from_the_built_package(programs: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shell = Shell(home, programs)
    began = time.monotonic()
    try:
        assert shell.run("command -v trueup") == (0, [str(programs / "trueup"), ""])
        shell.play(TUTORIAL, blocks(TUTORIAL))
        code, said = shell.run("trueup explain leftover-lock")  # the pages came with the package
        assert code == 0
        assert said[0] == "# A lock is left over"
    finally:
        shell.close()
    print(f"the tutorial took {time.monotonic() - began:.0f} s")
