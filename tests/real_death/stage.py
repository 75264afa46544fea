"""A simulator over HTTPS, a folder with settings and manifests, and `trueup` in processes that are really killed.

Every process leads a group of its own and is reaped with it, whatever becomes of the test.
"""

import asyncio
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import asyncpg

from tests.processes import warm
from trueup.adapters import sqlite
from trueup.adapters.postgres import audit
from trueup.adapters.postgres.address import Address, parse
from trueup.adapters.postgres.reader import Reader
from trueup.adapters.system import SystemClock
from trueup.core import marker as markers
from trueup.model.guests import Marker
from trueup.model.ids import OpId, TokenId, Vmid
from trueup.model.ops import OpView, Record

TRUEUP = (sys.executable, "-m", "trueup")
DOOMED = (sys.executable, str(Path(__file__).with_name("doomed.py")))
PATIENCE_S = 60.0
"""For anything that takes a second or two on a machine with nothing else to do."""

TEMPLATE = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
GUESTS: Mapping[str, Any] = {
    "nodes": ["pve1", "pve2", "pve3"],
    "guests": [
        {
            "type": "qemu", "vmid": 9000, "node": "pve1", "name": "debian-12", "template": True,
            "config": {
                "cores": 1, "memory": 1024, "scsi0": "shared:base-9000-disk-0,size=8G", "net0": "virtio,bridge=vmbr0",
            },
        },
        {
            "type": "lxc", "vmid": 9001, "node": "pve1", "name": "debian-12-ct", "template": True,
            "config": {"memory": 512, "rootfs": "shared:base-9001-disk-0,size=4G", "net0": "name=eth0,bridge=vmbr0"},
        },
    ],
}  # fmt: skip


def spawn(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str] | None = None, output: Path
) -> "subprocess.Popen[bytes]":
    """Start a process in a group of its own, with what it says in `output`.out and `output`.err."""
    with output.with_suffix(".out").open("wb") as out, output.with_suffix(".err").open("wb") as err:
        return warm.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "NO_COLOR": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def reap(process: "subprocess.Popen[bytes]") -> None:
    """End a process with its whole group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE_S)


def until(what: Callable[[], object], seconds: float = PATIENCE_S, pause_s: float = 0.02) -> Any:
    """Wait for something to be true and return it."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(pause_s)
    return found


class Simulator:
    """`python -m pvesim`, as a context."""

    command: Sequence[str] = (sys.executable, "-m", "pvesim")

    def __init__(self, folder: Path, *, time_scale: float = 0.05, guests: Mapping[str, Any] = GUESTS) -> None:
        spec = folder / "simulated.json"
        spec.write_text(json.dumps(guests))
        self._said = folder / "simulator"
        options = ("--json", "--port", "0", "--time-scale", str(time_scale), "--guests", str(spec), "--seed", "7")
        self._process = spawn((*self.command, *options), cwd=folder, output=self._said)

    def __enter__(self) -> Self:
        try:
            line = until(self._line)
        except BaseException:
            reap(self._process)
            raise
        found = json.loads(line)
        self.url, self.ca_file = str(found["url"]), Path(found["ca_file"])
        self.token_id, self.token_secret = str(found["token_id"]), str(found["token_secret"])
        self._tls = ssl.create_default_context(cafile=self.ca_file)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()  # it removes its certificates
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            reap(self._process)

    def _line(self) -> str:
        assert self._process.poll() is None, self._said.with_suffix(".err").read_text()
        text = self._said.with_suffix(".out").read_text()
        return text if text.endswith("\n") else ""

    def ask(self, path: str, body: object = None) -> Any:
        host, _, port = self.url.removeprefix("https://").partition(":")
        connection = http.client.HTTPSConnection(host, int(port), context=self._tls, timeout=PATIENCE_S)
        try:
            connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return json.loads(text)
        finally:
            connection.close()

    def mutations(self) -> list[dict[str, Any]]:
        return self.ask("/_sim/mutations")["mutations"]

    def guest(self, vmid: int) -> dict[str, Any] | None:
        return next((one for one in self.ask("/_sim/state")["guests"] if one["vmid"] == vmid), None)

    def fault(self, **fault: object) -> None:
        self.ask("/_sim/faults", fault)

    def control(self, action: str, **keys: object) -> None:
        self.ask("/_sim/control", {"action": action, **keys})

    def by_hand(self, **guest: object) -> None:
        self.ask("/_sim/guests", guest)


SETTINGS = """\
[cluster]
name = "lab"
endpoints = ["{url}"]
token_id = "{token_id}"
token_secret_file = "token.secret"
ca_file = "{ca_file}"
[store]
url = "{store}"
[manifests]
path = "manifests"
[reconcile]
interval = "1s"
[http]
listen = "127.0.0.1:0"
[limits]
settle_time = "1s"
settle_time_token = "2s"
settle_time_without_token = "3s"
[log]
format = "json"
"""


@dataclass
class Done:
    """How a process ended and what it said."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Journal:
    """What is in the journal, read beside whoever writes it."""

    ops: Sequence[OpView]
    records: Sequence[Record]
    verification: sqlite.Verification

    @property
    def open(self) -> list[OpView]:
        return [op for op in self.ops if op.state.value in {"started", "task_running"}]

    def of(self, vmid: int, kind: str = "") -> list[OpView]:
        """The operations of a guest, oldest first."""
        return [op for op in reversed(self.ops) if op.intent.vmid == vmid and kind in {"", op.intent.kind.value}]


@dataclass
class Stage:
    """A folder whose settings name the simulator (or whatever listens there)."""

    folder: Path
    url: str
    ca_file: Path
    token_id: str
    token_secret: str
    lives: int = 0
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    store: str = "sqlite:state/journal.db"
    """The journal's place; with PostgreSQL, a URL."""

    def __post_init__(self) -> None:
        (self.folder / "manifests").mkdir(parents=True)
        text = SETTINGS.format(url=self.url, token_id=self.token_id, ca_file=self.ca_file, store=self.store)
        self.settings.write_text(text, encoding="utf-8")
        secret = self.folder / "token.secret"
        secret.write_text(self.token_secret)
        secret.chmod(0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for process in self.processes:
            reap(process)

    @property
    def settings(self) -> Path:
        return self.folder / "trueup.toml"

    @property
    def on_postgres(self) -> bool:
        return self.store.startswith("postgresql:")

    @property
    def journal_file(self) -> Path:
        return self.folder / "state" / "journal.db"

    def change(self, old: str, new: str) -> None:
        text = self.settings.read_text()
        assert old in text, old
        self.settings.write_text(text.replace(old, new, 1))

    def manifest(self, name: str, *guests: str) -> Path:
        file = self.folder / "manifests" / f"{name}.yaml"
        file.write_text("---\n".join(guests))
        return file

    # -- processes -------------------------------------------------------------------------------------------------

    def start(
        self, *arguments: str, program: Sequence[str] = TRUEUP, environment: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        self.lives += 1
        self._pass_the_lease()
        process = spawn((*program, *arguments), cwd=self.folder, environment=environment, output=self._said())
        self.processes.append(process)
        return process

    def _pass_the_lease(self) -> None:
        """What a killed process held of a lease runs out before the next one starts; nobody waits for it here."""
        if self.on_postgres and all(process.poll() is not None for process in self.processes):
            over = "UPDATE trueup.lease SET lease_until = clock_timestamp() WHERE session <> ''"
            asyncio.run(_do(self.store, "SELECT 1 FROM pg_namespace WHERE nspname = 'trueup'", over))

    def _said(self) -> Path:
        return self.folder / f"life-{self.lives}"

    def end(self, process: "subprocess.Popen[bytes]", timeout_s: float = PATIENCE_S) -> Done:
        """Wait for the process that was started last."""
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            reap(process)
            raise AssertionError(f"it did not end\n{self.err()}") from None
        return Done(code, self.out(), self.err())

    def out(self) -> str:
        return self._said().with_suffix(".out").read_text()

    def err(self) -> str:
        return self._said().with_suffix(".err").read_text()

    def run(self, *arguments: str) -> Done:
        return self.end(self.start(*arguments))

    def dies(self, doom: str, *arguments: str) -> list[str]:
        """Run a command that kills itself at the step `doom`; return the steps that it took."""
        trace = self.folder / f"life-{self.lives + 1}.trace"
        environment = {"TRACE": str(trace), "DOOM": doom}
        done = self.end(self.start(*arguments, program=DOOMED, environment=environment))
        steps = trace.read_text().splitlines() if trace.exists() else []
        assert done.code == -signal.SIGKILL, f"it was to die at {doom!r}\n{done}\n{steps}"
        return steps

    def halts(self, halt: str, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a command that stands still at the step `halt`; give it SIGCONT to let it go on."""
        environment = {"TRACE": str(self.folder / f"life-{self.lives + 1}.trace"), "HALT": halt}
        process = self.start(*arguments, program=DOOMED, environment=environment)

        def stands_still() -> bool:
            assert process.poll() is None, self.err()
            return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

        until(stands_still)
        return process

    def lives_on(self, *arguments: str) -> tuple[Done, list[str]]:
        """Run a command to its end and tell the steps that it took."""
        trace = self.folder / f"life-{self.lives + 1}.trace"
        done = self.end(self.start(*arguments, program=DOOMED, environment={"TRACE": str(trace)}))
        return done, trace.read_text().splitlines()

    # -- the journal -----------------------------------------------------------------------------------------------

    def found(self) -> str:
        """Make the journal, as a first start does, and return the installation's id in markers."""

        async def begin() -> str:
            self.journal_file.parent.mkdir()
            journal = sqlite.open_journal(self.journal_file)
            await journal.take_epoch(holder="test", token=TokenId(""), record_id=str(uuid.uuid4()), at_ms=1)
            (first,) = await journal.records(limit=1)
            await journal.close()
            return first.record_id

        return asyncio.run(begin())

    def journal(self) -> Journal:
        if self.on_postgres:
            return asyncio.run(_read(parse(self.store, "lab")))

        async def read() -> tuple[Sequence[OpView], Sequence[Record]]:
            reader = sqlite.open_reader(self.journal_file)
            try:
                return await reader.ops(), await reader.records()
            finally:
                await reader.close()

        ops, records = asyncio.run(read())
        return Journal(ops, records, sqlite.verify(self.journal_file))


async def _read(address: Address) -> Journal:
    reader = await Reader.open(address, SystemClock())
    try:
        return Journal(await reader.ops(), await reader.records(), await audit.verify(address))
    finally:
        await reader.close()


async def _do(url: str, there: str, statement: str) -> None:
    """Do something in a database if `there` finds anything."""
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval(there):
            await connection.execute(statement)
    finally:
        await connection.close()


def marked(installation: str, vmid: int) -> str:
    """The description of a guest that this installation has made."""
    mark = Marker(uid=f"uid-{vmid}", installation=installation, vmid=Vmid(vmid), op_id=OpId("made-before"), counter=1)
    return markers.render("", mark)


def vm(vmid: int, *more: str, node: str = "pve1") -> str:
    """A small VM from nothing, unless `more` says otherwise."""
    return _manifest("VirtualMachine", f"vm-{vmid}", vmid, node, more or ("source: {empty: true}",))


def ct(vmid: int, *more: str, node: str = "pve1") -> str:
    """A small container from a template, unless `more` says otherwise."""
    made = (
        f"source: {{template: '{TEMPLATE}'}}",
        "config: {rootfs: {storage: local-lvm, size: 4G}, memory: 512, net0: {name: eth0, bridge: vmbr0}}",
    )
    return _manifest("Container", f"ct-{vmid}", vmid, node, more or made)


def _manifest(kind: str, name: str, vmid: int, node: str, more: Sequence[str]) -> str:
    return "\n".join([f"kind: {kind}", f"name: {name}", f"vmid: {vmid}", f"node: {node}", *more, ""])
