"""A folder with settings and manifests, a simulator, and `trueup`: as a process of its own, or quickly in this one."""

import contextlib
import io
import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from ssl import create_default_context
from unittest.mock import patch

from tests.processes import warm
from trueup.app import parts
from trueup.edges.cli import run

TRUEUP = [sys.executable, "-m", "trueup"]
QUIET = {**os.environ, "NO_COLOR": "1"}


@dataclass
class Simulator:
    """`python -m pvesim`, until `stop`."""

    time_scale: float = 0.05
    process: "subprocess.Popen[str]" = field(init=False)
    url: str = field(init=False)
    ca_file: str = field(init=False)
    token_id: str = field(init=False)
    token_secret: str = field(init=False)

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", "pvesim", "--json", "--port", "0", "--time-scale", str(self.time_scale)]
        self.process = warm.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        said = json.loads(self.process.stdout.readline())
        self.url, self.ca_file = said["url"], said["ca_file"]
        self.token_id, self.token_secret = said["token_id"], said["token_secret"]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()

    def ask(self, path: str, body: object = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers={"Content-Type": "application/json"})  # noqa: S310 - our own
        with urllib.request.urlopen(request, context=create_default_context(cafile=self.ca_file)) as answer:  # noqa: S310 - our own
            return json.load(answer)

    def by_hand(self, **guest: object) -> None:
        self.ask("/_sim/guests", guest)

    def fault(self, **fault: object) -> None:
        self.ask("/_sim/faults", fault)

    def mutations(self) -> list[dict]:
        return self.ask("/_sim/mutations")["mutations"]


@dataclass
class Stage:
    """A folder in which `trueup init` was run and whose settings name the simulator."""

    folder: Path
    sim: Simulator

    def __post_init__(self) -> None:
        assert self.run("init", ".").returncode == 0
        self.settings(
            ("https://pve1.example:8006", self.sim.url),
            ("trueup@pve!agent", self.sim.token_id),
            ("pve-root-ca.pem", self.sim.ca_file),
            ("127.0.0.1:8640", "127.0.0.1:0"),
            ('interval = "30s"', 'interval = "1s"'),
        )
        secret = self.folder / "token.secret"
        secret.write_text(self.sim.token_secret)
        secret.chmod(0o600)

    def settings(self, *changes: tuple[str, str]) -> None:
        file = self.folder / "trueup.toml"
        text = file.read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new, 1)
        file.write_text(text)

    def manifest(self, text: str, name: str = "guests.yaml") -> Path:
        path = self.folder / "manifests" / name
        path.write_text(text)
        return path

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        return warm.Popen(
            [*TRUEUP, *arguments],
            cwd=self.folder,
            env={**QUIET, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in this process, which saves the start of an interpreter and counts leaks as failures."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            patch.dict(os.environ, {"NO_COLOR": "1"}),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = run(parts, arguments)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def json(self, *arguments: str, code: int = 0) -> dict:
        done = self.run(*arguments, "--json")
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout)

    def journal(self) -> Path:
        return self.folder / "state" / "journal.db"


def guest(name: str, vmid: int, *more: str, node: str = "pve1", kind: str = "VirtualMachine") -> str:
    """A small manifest."""
    return "\n".join([f"kind: {kind}", f"name: {name}", f"vmid: {vmid}", f"node: {node}", *more, ""])


def several(*guests: str) -> str:
    """Several manifests in one file."""
    return "---\n".join(guests)
