"""Recorded scenes of the real API, and the simulator put through the same requests at the same instants.

What was done to the recording machine by other ways than its API is done to the simulator too, as far as it can be
told. Where the two differ, the simulated guest is set to what was recorded, so that each difference is counted once.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pvesim.wire import Failure
from tests.pvesim.driving import HEADER, Sim

RECORDINGS = Path(__file__).parent / "recordings"
SCENES = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))
Line = dict[str, Any]

STORAGES = [
    {"storage": "local", "type": "dir", "content": "images,rootdir,vztmpl,iso,backup"},
    {"storage": "second", "type": "dir", "content": "images,rootdir"},
]
TOKENS = {"agent-token": "agent@pve!ag", "audit-token": "audit@pve!au", "token-noprivs": "root@pam!priv"}
ACL = [
    {"path": "/vms", "ugid": "agent@pve", "role": "PVEVMAdmin"},
    {"path": "/storage", "ugid": "agent@pve", "role": "PVEDatastoreUser"},
    {"path": "/vms", "ugid": "audit@pve", "role": "PVEAuditor"},
]
AT_FIRST = {
    "qemu": {"memory": 32, "kvm": 0, "scsi0": "local:1", "net0": "virtio,bridge=vmbr0"},
    "lxc": {"memory": 64, "rootfs": "local:0", "ostype": "unmanaged"},
}
VERSIONS = {"pve8": "8.4", "pve9": "9.2"}
GUEST = re.compile(r"/nodes/pve1/(qemu|lxc)/(\d+)(?:/(.*))?$")


@cache
def lines(scene: str) -> tuple[Line, ...]:
    """The lines of a scene, in their order."""
    text = (RECORDINGS / f"{scene}.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line) for line in text.splitlines())


def exchanges(scene: str) -> list[Line]:
    """Requests with their answers."""
    return [line for line in lines(scene) if "method" in line]


@dataclass(frozen=True, order=True)
class Difference:
    """One way in which the simulator answers otherwise than the recorded server."""

    call: str
    recorded: str
    simulated: str


def pattern(method: str, path: str) -> str:
    """A call without the names of guests, tasks and snapshots."""
    path = re.sub(r"UPID[^/]*", "UPID", unquote(path))
    path = re.sub(r"/(qemu|lxc)/\d+", r"/\1/N", path)
    return f"{method} " + re.sub(r"/snapshot/[^/]+", "/snapshot/S", path)


class Replay:
    """A scene put to a simulator."""

    def __init__(self, scene: str) -> None:
        self.scene = scene
        self.rows = lines(scene)
        tokens = [{"id": token, "secret": "s", "privsep": int("!priv" in token)} for token in TOKENS.values()]
        self.sim = Sim(
            *_guests_at_first(self.rows), nodes=["pve1"], storages=STORAGES, templates=["local:vztmpl/tiny.tar.gz"],
            tokens=tokens, acl=[*ACL, {"path": "/", "ugid": "root@pam!rec", "role": "Administrator"}],
            version=VERSIONS[scene[:4]],
        )  # fmt: skip
        self.upids: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        self.compared = 0
        self.prepared = 0

    def differences(self) -> Iterator[Difference]:
        """Put each request, and tell where the answers differ."""
        start, last, shift = self.sim.now, 0.0, 0.0
        for line in self.rows:
            at = line.get("t", 0) / 1000
            shift += max(0.0, last - at)  # recordings that go on in a second run start at 0 again
            last = at
            self.sim.run(max(self.sim.now, start + shift + at))
            if "event" in line:
                self._happens(line["event"])
            elif "method" in line and _can_be_put(line):
                yield from self._put(line)

    def _put(self, line: Line) -> Iterator[Difference]:
        method, path = line["method"], unquote(line["path"])
        for recorded, simulated in self.upids.items():
            path = path.replace(recorded, simulated)
        known = any(simulated in path for simulated in self.upids.values())
        if "UPID" in path and not known and line["status"] in (200, 403):
            return  # a task of before the recording
        body: dict[str, Any] = line["body"] if isinstance(line.get("body"), dict) else {}
        data = body.get("data")
        self._prepare(line, path)
        if method == "GET" and line["status"] == 200 and not line.get("params"):
            self._agree(path, data)
        if method == "GET" and isinstance(data, dict) and data.get("status") == "stopped" and "/tasks/" in path:
            self.sim.ended(path.split("/")[4])
        params = self._params(line, path)
        header = HEADER if "auth" not in line else f"PVEAPIToken={TOKENS[line['auth']]}=s"
        reply = self.sim.reply(self.sim.submit(method, path, params, header=header))
        self.compared += 1
        got = reply.body.get("data")
        if isinstance(data, str) and data.startswith("UPID:") and isinstance(got, str):
            self.upids[data] = got
        call = pattern(method, line["path"])
        mine, theirs = _refusal(reply.status, reply.reason, reply.body), _refusal(
            line["status"], line.get("reason", ""), body
        )  # fmt: skip
        if mine != theirs:
            yield Difference(call, theirs, mine)
            if method != "GET" and "UPID" in mine:
                self.sim.ended(str(got))
        elif line["status"] == 200 and not _mere_timing(path, data, got):
            yield from (Difference(call, *both) for both in _unlike(data, got))
        if isinstance(data, dict) and isinstance(got, dict) and "digest" in data and "digest" in got:
            self.digests[data["digest"]] = got["digest"]

    def _params(self, line: Line, path: str) -> dict[str, str]:
        """The parameters, with the simulator's digests in the place of the recorded ones."""
        params = {key: "" if value is None else str(value) for key, value in (line.get("params") or {}).items()}
        given = params.get("digest", "")
        found = GUEST.match(path)
        if given in self.digests:
            params["digest"] = self.digests[given]
        elif len(given) == 40 and found and "checksum mismatch" not in line.get("reason", ""):
            params["digest"] = (self._guest(int(found[2])) or {"digest": ""})[
                "digest"
            ]  # it was read before the recording began
        return params

    def _prepare(self, line: Line, path: str) -> None:
        """Between the requests guests were made and changed by other ways: do what the answer takes for given."""
        reason, params = line.get("reason", ""), line.get("params") or {}
        if line["method"] == "POST" and str(params.get("vmid" if path[-1] != "e" else "newid", "")).isdigit():
            self._prepare_target(line, int(str(params["vmid" if path[-1] != "e" else "newid"])), reason)
        found = GUEST.match(path)
        if not found or line["status"] not in (200, 400, 500):
            return
        kind, vmid = found[1], int(found[2])
        now = self._guest(vmid)
        wanted: dict[str, Any] = {}
        if re.search(rf"(qemu-server|lxc)/{vmid}\.conf' does not exist", reason):
            wanted = {"deleted": True} if now else {}
        elif now is None and line["status"] == 200 and kind in path:
            wanted = {"type": kind, "node": "pve1", "config": self._seen_later(line, kind, vmid)}
        elif now is None:
            return
        elif reason in (f"VM {vmid} is running - destroy failed", f"VM {vmid} already running") or (
            line["status"] == 200 and line["method"] == "POST" and path.endswith("/status/reboot")
        ):
            wanted = {"status": "running"} if now["status"] != "running" else {}
        elif reason == f"VM {vmid} not running" or (line["status"] == 200 and _needs_stopped(line["method"], path)):
            wanted = {"status": "stopped"} if now["status"] != "stopped" else {}
        elif (lock := re.fullmatch(r"VM is locked \((\S+)\)", reason)) and not now["lock"]:
            wanted = {"lock": lock[1]}
        self._set(vmid, wanted)

    def _prepare_target(self, line: Line, vmid: int, reason: str) -> None:
        there = self._guest(vmid) is not None
        kind = "lxc" if "/lxc" in line["path"] else "qemu"
        if line["status"] == 200 and there and "force" not in (line.get("params") or {}):
            self._set(vmid, {"deleted": True})
        elif "already exists" in reason and not there:
            self._set(vmid, {"type": kind, "node": "pve1", "config": AT_FIRST[kind]})

    def _set(self, vmid: int, wanted: Mapping[str, Any]) -> None:
        if wanted:
            self.prepared += 1
            with suppress(Failure):
                self.sim.world.put_guests({"vmid": vmid, **wanted})

    def _seen_later(self, line: Line, kind: str, vmid: int) -> dict[str, str]:
        for later in self.rows[self.rows.index(line) :]:
            if later.get("path", "").endswith(f"/{kind}/{vmid}/config") and later.get("method") == "GET":
                data = (later.get("body") or {}).get("data")
                if isinstance(data, dict) and not later.get("params"):
                    return {key: str(value) for key, value in data.items() if key not in LOOSE}
        return AT_FIRST[kind]

    def _agree(self, path: str, data: Any) -> None:
        """Set a guest to what was recorded of it: between requests, people and machines changed it by other ways."""
        found = GUEST.match(path)
        if not found or not isinstance(data, dict):
            return
        vmid, rest = int(found[2]), found[3]
        guest = self._guest(vmid)
        if guest is None:
            return
        if rest == "config":
            theirs = {key: str(value) for key, value in data.items() if key not in LOOSE}
            mine = {key: str(value) for key, value in (guest["config"] | guest["pending"]).items() if key not in LOOSE}
            changed = {key: theirs.get(key) for key in {*theirs, *mine} if theirs.get(key) != mine.get(key)}
            lock = {"lock": changed.pop("lock")} if "lock" in changed else {}
            self._set(vmid, {**({"config": changed} if changed else {}), **lock})
        if rest == "status/current" and data.get("status") != guest["status"]:
            self._set(vmid, {"status": data["status"]})

    def _guest(self, vmid: int) -> Any:
        guests: Any = self.sim.world.state()["guests"]
        return next((one for one in guests if one["vmid"] == vmid), None)

    def _happens(self, what: str) -> None:
        if "not quorate" in what:
            self.sim.control("quorum", quorate=False)
        elif what.startswith("quorum back"):
            self.sim.control("quorum", quorate=True)


LOOSE = frozenset({"digest", "meta", "vmgenid", "smbios1", "snaptime"})


def _needs_stopped(method: str, path: str) -> bool:
    found = GUEST.match(path)
    return found is not None and (method, found[3]) in {("DELETE", None), ("POST", "template")}


def _can_be_put(line: Line) -> bool:
    return line.get("auth", "agent-token") in TOKENS and "request_options" not in line and line["status"] != 595


def _refusal(status: int, reason: str, body: Mapping[str, Any]) -> str:
    """An answer in words: status and text, the names of wrong parameters, and of a task its type, id and user."""
    data = body.get("data")
    task = " ".join(["UPID", *data.split(":")[5:8]]) if isinstance(data, str) and data.startswith("UPID:") else ""
    errors = json.dumps(body["errors"], sort_keys=True) if body.get("errors") else ""
    words = " ".join(part for part in (str(status), reason, task, errors) if part)
    return re.sub(r"\.tmp\.\d+", ".tmp.N", words)


def _unlike(theirs: Any, mine: Any) -> Iterator[tuple[str, str]]:
    """What an answer's fields have otherwise, as (recorded, simulated); of lists the rows of the same thing."""
    if isinstance(theirs, list) and isinstance(mine, list):
        rows = {_name(row): row for row in mine if isinstance(row, dict)}
        for row in theirs:
            if isinstance(row, dict) and _name(row) in rows and _name(row):
                mine_row = rows[_name(row)]
                if row.get("status") == mine_row.get("status"):  # the rest comes later than the guest
                    yield from _unlike(row, mine_row)
    elif isinstance(theirs, dict) and isinstance(mine, dict):
        for key in sorted({*theirs, *mine}):
            one, other = (_kind(have[key]) if key in have else "" for have in (theirs, mine))
            if isinstance(theirs.get(key), dict) and isinstance(mine.get(key), dict):
                yield from ((f"{key}.{one}", f"{key}.{other}") for one, other in _unlike(theirs[key], mine[key]))
            elif one != other and not (isinstance(theirs.get(key), list) and isinstance(mine.get(key), list)):
                yield (f"{key}: {one}" if one else f"no {key}", f"{key}: {other}" if other else f"no {key}")
    elif type(theirs) is not type(mine):
        yield (type(theirs).__name__, type(mine).__name__)


def _kind(value: Any) -> str:
    """A type in JSON's words; a number that happens to be whole is still a number."""
    return {"dict": "object", "list": "list", "str": "text"}.get(type(value).__name__, "number")


def _name(row: dict[str, Any]) -> str:
    return next((f"{key} {row[key]}" for key in ("vmid", "name", "volid", "subdir", "key") if key in row), "")


def _mere_timing(path: str, data: Any, got: Any) -> bool:
    """A task that was still running when it was recorded may be done by now."""
    return "/tasks/" in path and isinstance(data, dict) and isinstance(got, dict) and data.get("status") == "running"


def _guests_at_first(rows: tuple[Line, ...]) -> list[dict[str, object]]:
    """The guests that were there before anybody made them."""
    found: dict[int, dict[str, object]] = {}
    made: set[int] = set()
    for line in rows:
        params = line.get("params") or {}
        if line.get("status") == 200 and line.get("method") == "POST":
            made.update(int(str(params[key])) for key in ("vmid", "newid") if str(params.get(key, "")).isdigit())
        hit = GUEST.match(unquote(line.get("path", "")))
        if not hit or int(hit[2]) in made or "does not exist" in line.get("reason", ""):
            if hit and "does not exist" in line.get("reason", ""):
                made.add(int(hit[2]))
            continue
        kind, vmid = hit[1], int(hit[2])
        if vmid not in found and line["status"] in (200, 500, 403):
            found[vmid] = {"type": kind, "vmid": vmid, "node": "pve1", "config": AT_FIRST[kind]}
            if f"{vmid} is running" in line.get("reason", ""):
                found[vmid]["status"] = "running"
    return list(found.values())
