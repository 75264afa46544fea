"""The guests of the cluster: their config files and whether they run.

Rule kept here: every change of a config goes through `write`, which needs quorum, takes the new digest, notes
whose doing it was, and remembers what the last broadcast of statistics still shows of the guest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pvesim.cluster import CPUS, Cluster, Node
from pvesim.kernel import Kernel
from pvesim.properties import LXC_VOLUME, QEMU_DISK, UNUSED, file_of, lookup, parse_size
from pvesim.texts import Config, digest_of, raw_text, settle
from pvesim.wire import ApiError, died

STATS_CYCLE_S = 10.0
STATS_KEPT_S = 300.0
MIB = 1024**2
FILE_FOLDER = {"qemu": "qemu-server", "lxc": "lxc"}
WORD = {"qemu": "VM", "lxc": "CT"}


@dataclass(slots=True, kw_only=True)
class Mutation:
    """One accepted request that may change the world."""

    seq: int
    time: float
    method: str
    path: str
    params: dict[str, str]
    user: str
    upid: str | None = None
    effect: bool = False


@dataclass(slots=True, kw_only=True)
class Hand:
    """Whoever writes: the process number and the request it works for, if any."""

    pid: int = 0
    row: Mutation | None = None

    def touched(self) -> None:
        """The world has changed because of this request."""
        if self.row is not None:
            self.row.effect = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What pvestatd last broadcast about a guest number."""

    name: str
    running: bool
    template: int
    maxmem: int
    maxdisk: int
    cpus: int
    started_at: float


@dataclass(slots=True, kw_only=True)
class Guest:
    """One guest; `acpi` False means that it ignores a shutdown."""

    vmid: int
    type: str
    node: str
    config: Config
    text: str = ""
    digest: str = ""
    running: bool = False
    started_at: float = 0.0
    pid: int = 0
    acpi: bool = True
    paused: bool = False

    @property
    def values(self) -> dict[str, str]:
        """The current values."""
        return self.config.values

    @property
    def lock(self) -> str | None:
        """The config lock."""
        return self.config.values.get("lock")

    @property
    def template(self) -> bool:
        """Whether it is a template."""
        return self.config.values.get("template") == "1"

    @property
    def name(self) -> str:
        """The name PVE shows."""
        default = f"VM {self.vmid}" if self.type == "qemu" else f"CT{self.vmid}"
        return self.config.values.get("name" if self.type == "qemu" else "hostname", default)

    def stats(self) -> Stats:
        """What pvestatd sees now."""
        return Stats(
            name=self.name, running=self.running, template=int(self.template), maxmem=self.maxmem(),
            maxdisk=self.maxdisk(), cpus=self.cpus(), started_at=self.started_at,
        )  # fmt: skip

    def maxmem(self) -> int:
        """Memory in bytes."""
        raw = self.values.get("memory", "512")
        number = raw if raw.isdigit() else lookup(raw, "current") or "512"
        return int(number) * MIB

    def maxdisk(self) -> int:
        """Size of the first disk in bytes."""
        if self.type == "lxc":
            keys: list[str] = ["rootfs"]
        else:
            order = lookup(self.values.get("boot", ""), "order") or ""
            keys = order.split(";")
        for key in keys:
            size = lookup(self.values.get(key, ""), "size")
            if size is not None and "media=cdrom" not in self.values[key]:
                return parse_size(size)
        return 4 * 1024 * MIB if self.type == "lxc" else 0

    def cpus(self) -> int:
        """Virtual processors."""
        if self.type == "lxc":
            return int(self.values.get("cores", str(CPUS)))
        count = int(self.values.get("sockets", "1")) * int(self.values.get("cores", "1"))
        return int(self.values.get("vcpus", str(count)))

    def conf_name(self) -> str:
        """The config's name in error texts."""
        return f"nodes/{self.node}/{FILE_FOLDER[self.type]}/{self.vmid}.conf"

    def need_unlocked(self) -> None:
        """PVE's refusal while another task has the config lock."""
        if self.lock:
            raise died(f"{WORD[self.type]} is locked ({self.lock})")

    def need_unprotected(self) -> None:
        """PVE's refusal to destroy a protected guest."""
        if self.values.get("protection") == "1":
            raise died(f"can't remove {WORD[self.type]} {self.vmid} - protection mode enabled")


def absent(guest_type: str, node: str, vmid: int) -> ApiError:
    """The error for a config that is not on this node."""
    return died(f"Configuration file 'nodes/{node}/{FILE_FOLDER[guest_type]}/{vmid}.conf' does not exist")


def drop_reattached(config: Config, guest_type: str) -> None:
    """An `unusedN` whose volume is attached again goes."""
    waiting = [key for key in config.values if UNUSED.match(key)]
    if not waiting:
        return
    disk = QEMU_DISK if guest_type == "qemu" else LXC_VOLUME
    used = {file_of(raw) for key, raw in config.values.items() if disk.match(key)}
    for key in waiting:
        if config.values[key] in used:
            del config.values[key]


def keep_unused(values: dict[str, str], volid: str) -> str | None:
    """Note a volume as the first free `unusedN`; None when it is noted already."""
    if any(UNUSED.match(key) and raw == volid for key, raw in values.items()):
        return None
    key = next(f"unused{n}" for n in range(256) if f"unused{n}" not in values)
    values[key] = volid
    return key


def flock_path(guest_type: str, vmid: int) -> str:
    """The lock file of a guest."""
    if guest_type == "qemu":
        return f"/var/lock/qemu-server/lock-{vmid}.conf"
    return f"/run/lock/lxc/pve-config-{vmid}.lock"


@dataclass(slots=True)
class GuestStore:
    """All guests by number, with the statistics that were last broadcast."""

    kernel: Kernel
    cluster: Cluster
    cycle_s: float = STATS_CYCLE_S
    guests: dict[int, Guest] = field(default_factory=dict[int, Guest])
    shown: dict[int, Stats] = field(default_factory=dict[int, Stats])
    _ticks: dict[int, int] = field(default_factory=dict[int, int])

    def find(self, guest_type: str, node: str, vmid: int) -> Guest | None:
        """A guest of this type on this node."""
        guest = self.guests.get(vmid)
        return guest if guest is not None and (guest.type, guest.node) == (guest_type, node) else None

    def need(self, guest_type: str, node: str, vmid: int) -> Guest:
        """A guest that must be there."""
        guest = self.find(guest_type, node, vmid)
        if guest is None:
            raise absent(guest_type, node, vmid)
        return guest

    def need_unused(self, vmid: int) -> None:
        """PVE's refusal to use a number twice."""
        guest = self.guests.get(vmid)
        if guest is not None:
            raise died(f"{WORD[guest.type]} {vmid} already exists on node '{guest.node}'")

    def need_writable(self, node: str, name: str, hand: Hand) -> None:
        """Without quorum /etc/pve is read-only."""
        if not self.cluster.nodes[node].quorate:
            raise died(f"unable to open file '/etc/pve/{name}.tmp.{hand.pid}' - Permission denied")

    def create(self, guest: Guest, hand: Hand) -> Guest:
        """A new config file."""
        self.need_writable(guest.node, guest.conf_name(), hand)
        self.settle(guest.vmid, guest.node)
        self.guests[guest.vmid] = guest
        return self.write(guest, guest.config, hand)

    def write(self, guest: Guest, config: Config, hand: Hand) -> Guest:
        """Write the config; this line of `text` is the moment at which PVE's world has changed."""
        self.need_writable(guest.node, guest.conf_name(), hand)
        self.settle(guest.vmid, guest.node)
        drop_reattached(config, guest.type)
        text = raw_text(config, guest.type)
        if text != guest.text:
            hand.touched()
        guest.text, guest.digest, guest.config = text, digest_of(text), settle(config, guest.type)
        return guest

    def set_lock(self, guest: Guest, lock: str | None, hand: Hand) -> None:
        """Set or remove the config lock."""
        config = guest.config.copy()
        config.values.pop("lock", None)
        if lock:
            config.values["lock"] = lock
        self.write(guest, config, hand)

    def remove(self, guest: Guest, hand: Hand) -> None:
        """Unlink the config: from here on the number is free."""
        self.need_writable(guest.node, guest.conf_name(), hand)
        self.settle(guest.vmid, guest.node)
        if self.guests.get(guest.vmid) is guest:
            del self.guests[guest.vmid]
            hand.touched()

    def move(self, guest: Guest, node: str) -> None:
        """Rename the config into another node's folder."""
        self.settle(guest.vmid, guest.node)
        guest.node = node

    def set_running(self, guest: Guest, pid: int | None, hand: Hand) -> None:
        """Start (`pid`) or stop (None) the guest's process."""
        self.settle(guest.vmid, guest.node)
        guest.running, guest.pid, guest.paused = pid is not None, pid or 0, False
        guest.started_at = self.kernel.now
        hand.touched()

    def settle(self, vmid: int, node: str) -> None:
        """Bring the broadcast statistics up to the node's last cycle; call before every change."""
        guest = self.guests.get(vmid)
        tick = self._tick(self.cluster.nodes[node])
        if tick > self._ticks.get(vmid, -1):
            self._ticks[vmid] = tick
            if guest is None:
                self.shown.pop(vmid, None)
            else:
                self.shown[vmid] = guest.stats()

    def broadcast_all(self) -> None:
        """Let the statistics of everything that exists be known."""
        for guest in self.guests.values():
            self._ticks[guest.vmid] = self._tick(self.cluster.nodes[guest.node])
            self.shown[guest.vmid] = guest.stats()

    def _tick(self, node: Node) -> int:
        until = self.kernel.now if node.offline_since is None else node.offline_since
        return int(until / self.cycle_s + node.stats_phase)

    def stats_expired(self, guest: Guest) -> bool:
        """Whether the node has been away for so long that its statistics were dropped."""
        since = self.cluster.nodes[guest.node].offline_since
        return since is not None and self.kernel.now - since > STATS_KEPT_S / STATS_CYCLE_S * self.cycle_s
