"""What the measurements stand on: the stand-in as a child process, a journal with operations in flight, a client."""

import asyncio
import json
import resource
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from shutil import copyfile
from typing import Any, Self

import aiohttp
import msgspec

from benchmarks import fleet
from trueup.adapters import manifests, pve_http, sqlite
from trueup.adapters.pve import PveClient
from trueup.adapters.system import SystemClock, SystemEntropy
from trueup.core import intents, reread
from trueup.core.intents import Stamp
from trueup.engine.agent import Agent, Foundation
from trueup.model import limits
from trueup.model.guests import Desired
from trueup.model.ids import GuestType, NodeName, OpId, TokenId, Vmid
from trueup.model.notes import Note
from trueup.model.ops import Adopted, Draft, Kind, Record, Started, TaskRunning
from trueup.model.plan import PlannedOp
from trueup.model.settings import CaFile, LimitSettings, Secret
from trueup.ports import Clock, Journal

ROOT = Path(__file__).resolve().parent.parent
TOKEN = TokenId(fleet.TOKEN)


class StandIn:
    """The stand-in's process; leaving the context ends it."""

    def __init__(self, folder: Path, **wanted: float) -> None:
        """Start it with this state (see `stand_in.Fleet`)."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stand_in", "--folder", str(folder), "--set", json.dumps(wanted)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        line = self._process.stdout.readline() if self._process.stdout else b""
        said = json.loads(line)
        self.url: str = said["url"]
        self.ca_file = Path(said["ca_file"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate(b"")

    def tls(self) -> ssl.SSLContext:
        """What trusts it."""
        return ssl.create_default_context(cafile=self.ca_file)

    def bare(self) -> aiohttp.ClientSession:
        """A client session as anybody would make it."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=64, ssl=self.tls()),
            headers={"Authorization": f"PVEAPIToken={fleet.TOKEN}={fleet.SECRET}"},
        )

    async def set(self, **wanted: float) -> None:
        """Begin anew with this state."""
        async with self.bare() as session, session.post(f"{self.url}/_bench/set", json=wanted) as answer:
            answer.raise_for_status()

    async def stats(self) -> dict[str, Any]:
        """What it has answered since, and its CPU time."""
        async with self.bare() as session, session.get(f"{self.url}/_bench/stats") as answer:
            return await answer.json()


@contextmanager
def scratch() -> Generator[Path]:
    """A folder beside the project: on the disk that journals are kept on, not on a tmpfs that syncs for nothing."""
    place = ROOT / "build" / "bench"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


@asynccontextmanager
async def client(stand_in: StandIn) -> AsyncGenerator[PveClient]:
    """Trueup's own client."""
    login = pve_http.Login(
        endpoints=[stand_in.url], trust=CaFile(path=stand_in.ca_file), token=TOKEN, secret=Secret(fleet.SECRET)
    )
    async with pve_http.connect(login, SystemClock(), slots_per_node=LimitSettings().slots_per_node) as made:
        yield made


class Jumping(SystemClock):
    """The system's clock, on which time can be passed over."""

    def __init__(self) -> None:
        """Begin with the system's time."""
        self._ahead_s = 0.0

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._ahead_s += seconds

    def now_ms(self) -> int:
        """See `trueup.ports.Clock`."""
        return super().now_ms() + int(self._ahead_s * 1000)

    def monotonic(self) -> float:
        """See `trueup.ports.Clock`."""
        return super().monotonic() + self._ahead_s


@contextmanager
def without_rolling_reads() -> Generator[None]:
    """Let no config come of age, so that passes read lists alone."""
    least, defaults = limits.REREAD_LEAST, reread.due.__defaults__
    limits.REREAD_LEAST, reread.due.__defaults__ = 0, (1e15,)  # type: ignore[misc]
    try:
        yield
    finally:
        limits.REREAD_LEAST, reread.due.__defaults__ = least, defaults  # type: ignore[misc]


def copy_of(journal: Path) -> Path:
    """A fresh copy of a closed journal, beside it; the last copy is removed."""
    path = journal.with_name("copy.db")
    for old in path.parent.glob("copy.db*"):
        old.unlink()
    copyfile(journal, path)
    return path


def write_lab(folder: Path, stand_in: StandIn) -> None:
    """Settings as a person would write them."""
    (folder / "manifests").mkdir(parents=True)
    secret = folder / "token.secret"
    secret.touch(mode=0o600)
    secret.write_text(fleet.SECRET)
    (folder / "trueup.toml").write_text(
        f'[cluster]\nname = "bench"\nendpoints = ["{stand_in.url}"]\ntoken_id = "{TOKEN}"\n'
        f'token_secret_file = "token.secret"\nca_file = "{stand_in.ca_file}"\n'
        '[store]\nurl = "sqlite:state/journal.db"\n[http]\nlisten = "127.0.0.1:0"\n'
    )


def trueup(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command there, to its end."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("trueup")), *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def rss_mb(pid: int | str) -> float:
    """The resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def desired(guests: int) -> list[Desired]:
    """What the manifests of these guests say; one of each kind is parsed, the others are told apart by their names."""
    with tempfile.TemporaryDirectory() as folder:
        first_ct = next(number for number in range(1_000) if fleet.kind_of(number) == "lxc")
        fleet.write_manifests(Path(folder), [0, first_ct])
        parsed = {guest.type.value: guest for guest in manifests.load(Path(folder)).guests}
    return [
        msgspec.structs.replace(
            parsed[fleet.kind_of(number)],
            name=f"guest-{fleet.vmid_of(number)}",
            vmid=Vmid(fleet.vmid_of(number)),
            node=NodeName(fleet.node_of(number)),
        )
        for number in range(guests)
    ]


class Silent:
    """A reporter that hears nothing."""

    def note(self, note: Note) -> None:
        """See `trueup.ports.Reporter`."""


async def begun(journal: Journal, pve: PveClient, clock: Clock | None = None) -> Agent:
    """An incarnation over this journal and this client, not recovered yet."""

    async def open_pve(token: TokenId | None, secret: str) -> PveClient:
        del token, secret  # there is one token
        return pve

    return await Agent.begin(
        Foundation(
            journal=journal,
            open_pve=open_pve,
            clock=clock or SystemClock(),
            entropy=SystemEntropy(),
            reporter=Silent(),
            holder="bench",
            limits=LimitSettings(),
        )
    )


def intent_of(number: int) -> tuple[OpId, Started]:
    """The creation of guest `number`, as the executor would journal it."""
    vmid, node = Vmid(fleet.vmid_of(number)), NodeName(fleet.node_of(number))
    op = PlannedOp(
        kind=Kind.CREATE,
        type=GuestType.QEMU,
        vmid=vmid,
        node=node,
        name=f"guest-{vmid}",
        params={"cores": "2", "memory": "2048", "scsi0": "local-lvm:32", "net0": "virtio,bridge=vmbr0"},
        labels={"tier": "web"},
    )
    op_id = OpId(f"01930000-0000-7000-a000-{number:012d}")
    stamp = Stamp(
        op_id=op_id,
        uid=fleet.uid_of(number),
        installation=fleet.INSTALLATION,
        token=TOKEN,
        now_ms=fleet.BEGAN_S * 1000,
        send_by_ms=fleet.BEGAN_S * 1000 + 30_000,
    )
    return op_id, Started(intent=intents.prepare(op, None, stamp).intent)


class Drafts:
    """Makes drafts with ids of their own, of the instant at which they are made, as the engine does."""

    def __init__(self) -> None:
        self._entropy = SystemEntropy()
        self._clock = SystemClock()

    def of(self, op_id: OpId | str, event: Any) -> Draft:
        """One draft."""
        record_id = self._entropy.uuid7(self._clock.now_ms())
        return Draft(record_id=record_id, at_ms=fleet.BEGAN_S * 1000, op_id=OpId(op_id), event=event)


async def new_journal(path: Path, *, ours: int = 0, in_flight: Iterable[int] = (), upids: bool = True) -> None:
    """Make a journal whose installation is the fleet's.

    `ours` guests are known as ours; these operations were in flight when the last agent died, with their tasks known
    (`upids`) or not.
    """
    journal = sqlite.open_journal(path)
    epoch = await journal.take_epoch(
        holder="bench", token=TOKEN, record_id=fleet.INSTALLATION, at_ms=fleet.BEGAN_S * 1000
    )
    make = Drafts()
    drafts = [
        make.of("", Adopted(vmid=Vmid(fleet.vmid_of(n)), uid=fleet.uid_of(n), labels={"tier": "web"}))
        for n in range(ours)
    ]
    for number in in_flight:
        op_id, started = intent_of(number)
        drafts.append(make.of(op_id, started))
        if upids:
            drafts.append(make.of(op_id, TaskRunning(upid=fleet.upid(number))))
    for at in range(0, len(drafts), 1000):
        await journal.append(epoch, drafts[at : at + 1000])
    await journal.close()


def lines_of(path: Path) -> Sequence[bytes]:
    """The lines of a journal's records, as they are on the disk."""
    return [line.encode() for line in sqlite.export(path)]


def records_of(path: Path) -> Sequence[Record]:
    """The records of a journal."""

    async def read() -> Sequence[Record]:
        reader = sqlite.open_reader(path)
        try:
            return await reader.records()
        finally:
            await reader.close()

    return asyncio.run(read())


def decode(body: bytes) -> Any:
    """The plainest fast way to read an answer: what a bare script would do."""
    return msgspec.json.decode(body)
