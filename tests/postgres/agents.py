"""Several `trueup agent` processes on one journal in PostgreSQL, one simulator, and what must hold afterwards."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.processes import warm
from tests.real_death.stage import Journal, Simulator, spawn
from trueup.adapters.postgres import audit
from trueup.adapters.postgres.address import parse
from trueup.adapters.postgres.reader import Reader
from trueup.adapters.sqlite.audit import Verification
from trueup.adapters.system import SystemClock
from trueup.model.ops import OpView, Record

LEASE_S = 5

SETTINGS = """\
[cluster]
name = "lab"
endpoints = ["{url}"]
token_id = "{token_id}"
token_secret_file = "token.secret"
ca_file = "{ca_file}"
[store]
url = "{store}"
lease = "{lease}s"
[manifests]
path = "{manifests}"
[reconcile]
interval = "1s"
[http]
listen = "127.0.0.1:0"
[limits]
settle_time = "1s"
settle_time_token = "2s"
settle_time_without_token = "3s"
slots_per_node = 8
[log]
format = "json"
"""


@dataclass
class Member:
    """One agent: a folder of its own, and the process that works there."""

    name: str
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None
    lives: int = 0

    def start(self) -> None:
        self.lives += 1
        command = (sys.executable, "-m", "trueup", "agent")
        self.process = spawn(command, cwd=self.folder, output=self.said())

    def said(self) -> Path:
        return self.folder / f"life-{self.lives}"

    def log(self) -> list[dict[str, Any]]:
        lines = self.said().with_suffix(".err").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def events(self) -> list[str]:
        return [line["event"] for line in self.log()]

    def ready(self) -> dict[str, Any]:
        """What /readyz says; {} while nothing is served."""
        urls = [line["url"] for line in self.log() if line["event"] == "listening"]
        if not urls:
            return {}
        try:
            with urllib.request.urlopen(f"{urls[-1]}/readyz", timeout=2) as answer:  # noqa: S310 - our own
                return {"status": answer.status, **json.load(answer)}
        except urllib.error.HTTPError as error:
            return {"status": error.code, **json.load(error)}
        except OSError:
            return {}

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(30)


@dataclass
class Group:
    """The agents."""

    base: Path
    sim: Simulator
    store: str
    count: int = 3
    lease_s: int = LEASE_S
    members: list[Member] = field(default_factory=list)

    def __enter__(self) -> Self:
        (self.base / "manifests").mkdir(parents=True)
        for number in range(self.count):
            member = Member(f"agent-{number + 1}", self.base / f"agent-{number + 1}")
            member.folder.mkdir()
            (member.folder / "trueup.toml").write_text(
                SETTINGS.format(
                    url=self.sim.url, token_id=self.sim.token_id, ca_file=self.sim.ca_file, store=self.store,
                    lease=self.lease_s, manifests=self.base / "manifests",
                )
            )  # fmt: skip
            secret = member.folder / "token.secret"
            secret.write_text(self.sim.token_secret)
            secret.chmod(0o600)
            self.members.append(member)
        return self

    def __exit__(self, *_error: object) -> None:
        for member in self.members:
            member.end()

    def manifest(self, guests: Sequence[str]) -> None:
        file = self.base / "manifests" / "guests.yaml"
        (self.base / "next.yaml").write_text("---\n".join(guests))
        (self.base / "next.yaml").rename(file)

    def leader(self) -> Member | None:
        """The member that holds the lease by the database's word, if it has taken its epoch."""
        pid = self.leading_pid()
        return next((member for member in self.members if member.process and member.pid == pid), None)

    def leading_pid(self) -> int:
        found = asyncio.run(audit.leader(parse(self.store, "lab")))
        return int(found.holder.rpartition(":")[2]) if found and found.epoch else 0

    def verification(self) -> Verification:
        return asyncio.run(audit.verify(parse(self.store, "lab")))

    def read(self) -> tuple[Sequence[OpView], Sequence[Record], int]:
        """All operations (newest first), all records, how many epochs."""

        async def work() -> tuple[Sequence[OpView], Sequence[Record], int]:
            reader = await Reader.open(parse(self.store, "lab"), SystemClock())
            try:
                return await reader.ops(), await reader.records(), len(await reader.epochs())
            finally:
                await reader.close()

        return asyncio.run(work())

    def journal(self) -> Journal:
        """What `tests.real_death.evidence` compares the world with."""
        ops, records, _ = self.read()
        return Journal(ops, records, self.verification())

    def trueup(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A command in the first member's folder."""
        return warm.run(
            [sys.executable, "-m", "trueup", *arguments], cwd=self.members[0].folder, capture_output=True, text=True,
            timeout=120, check=False, env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip


def wait(what, seconds: float = 90.0, pause_s: float = 0.2) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(pause_s)
    return found
