"""The tutorial, followed literally in a new environment that has the built package and what it needs, nothing else."""

import subprocess
import sys
import time
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
    lock = tmp_path / "lock.txt"
    lock.write_text(run(sys.executable, "deploy/debian/runtime_lock.py", "requirements.lock", "pyproject.toml").stdout)
    assert run(sys.executable, "-m", "venv", tmp_path / "venv").returncode == 0
    python = tmp_path / "venv" / "bin" / "python"
    needs = run(python, *PIP, "install", "--no-compile", "--no-deps", "--require-hashes", "--retries", "1", "-r", lock)
    if needs.returncode and ("No matching distribution" in needs.stderr or "Max retries" in needs.stderr):
        pytest.skip("no package index can be reached")
    assert needs.returncode == 0, needs.stderr
    done = run(python, *PIP, "install", "--no-deps", "--no-index", wheel)
    assert done.returncode == 0, done.stderr
    return python.parent


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
