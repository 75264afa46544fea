"""A copy of the tree to work on, since the one that was copied may change meanwhile."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTS = ("src", "tests", "docs", "deploy", "benchmarks", "pyproject.toml", "README.md", "Makefile", "CHANGELOG.md")


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """A copy of what the tests read, in a folder that is removed afterwards."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="trueup-mutants-", dir=where) as folder:
        copy = Path(folder)
        for part in PARTS:
            source = root / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            elif source.exists():
                shutil.copy2(source, copy / part)
        yield copy


def environment(copy: Path) -> dict[str, str]:
    """What a Python that works on the copy is started with: its modules, and the same examples each time."""
    ours = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {
        **ours,
        "PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}",
        "CI": "1",
        "PYTHONHASHSEED": "0",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "TMPDIR": str(copy / "tmp"),
    }
