"""Other people's tools, in an environment of their own: `build/bench-venv`, which `make bench` makes from PyPI."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
VENV = HERE.parent.parent / "build" / "bench-venv"
ABSENT = "no build/bench-venv: `make bench` could not make it from PyPI"


def numbers(script: str, *args: str, timeout_s: float, env: dict[str, str] | None = None) -> list[float] | str:
    """Run a peer's script, which prints a JSON list of numbers last; or say why there are none."""
    python = VENV / "bin" / "python"
    if not python.exists():
        return ABSENT
    clean = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    path = f"{VENV / 'bin'}:{clean.get('PATH', '')}"
    try:
        done = subprocess.run(
            [str(python), str(HERE / script), *args],
            env={**clean, **(env or {}), "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{script} took longer than {timeout_s:.0f} s"
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
        return f"{script} failed: {said[-1][:200]}"
    found: Any = json.loads(done.stdout.strip().splitlines()[-1])
    return [float(value) for value in found]
