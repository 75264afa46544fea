"""A shell of root on a node of the simulated cluster: what a message says to type is typed there, as it stands."""

import os
import subprocess
import sys
from pathlib import Path

from tests.cli.stage import QUIET, Simulator

BIN = Path(__file__).parent / "host_commands"
TOOLS = sorted(path.name for path in BIN.iterdir() if path.suffix != ".py" and path.is_file())


def on_a_node(sim: Simulator, line: str) -> str:
    """Have bash run this line; what it prints. Fails as the line fails."""
    environment = {
        **QUIET,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOST_PYTHON": sys.executable,
        "HOST_URL": sim.url,
        "HOST_CA": sim.ca_file,
        "HOST_TOKEN": sim.token_id,
        "HOST_SECRET": sim.token_secret,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout
