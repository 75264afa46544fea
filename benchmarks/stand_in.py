"""A PVE that answers at once: what a measurement against it shows is the client's own cost.

A process of its own: TLS, HTTP/1.1 with kept connections, one thread. Whole answers are made before they are asked for,
for 16 nodes and any number of guests; only tasks that are started here, and guests that are made here, are kept track
of. It checks no rights and no parameters. It is not a simulator of PVE: `pvesim` is.

    python -m benchmarks.stand_in --folder DIR    makes DIR/ca.pem and prints one line of JSON: url, ca_file

`GET /_bench/stats` tells how many requests of each sort it has answered and what CPU time it has used for it;
`POST /_bench/set` takes JSON: guests, ops, listed, task_s (see `Fleet`) and sets all counts to zero.
"""

import argparse
import asyncio
import json
import re
import resource
import ssl
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import trustme

from benchmarks import fleet

API = "/api2/json"
_REASONS = {200: "OK", 404: "Not Found", 500: "Internal Server Error", 501: "Method not implemented"}
_GUEST = re.compile(r"/nodes/([^/]+)/(qemu|lxc)/([0-9]+)(?:/(.+))?")
_TASK = re.compile(r"/nodes/([^/]+)/tasks/([^/]+)/status")
_OF_NODE = re.compile(r"/nodes/([^/]+)/(qemu|lxc|tasks|status|storage|version)")

Params = dict[str, str]
Answer = tuple[int, Any]


class Fleet:
    """The state: how many guests there are, which tasks, and what was made here since.

    `ops` operations have finished tasks, in the order of their numbers; each node lists the `listed` newest of them
    (0 = all), as PVE's rotation leaves them. A task that is started here takes `task_s` seconds.
    """

    def __init__(self) -> None:
        self.guests = 0
        self.ops = 0
        self.listed = 0
        self.task_s = 0.0
        self.made: dict[int, dict[str, Any]] = {}
        self.tasks: dict[str, tuple[float, int, str]] = {}
        self.recent: deque[str] = deque(maxlen=2_000)
        self.counts: Counter[str] = Counter()
        self.kept: dict[bytes, tuple[str, bytes]] = {}
        self.cpu_before = 0.0
        self._pid = 0x10_0000

    def set(self, wanted: dict[str, Any]) -> None:
        """Begin anew with these numbers."""
        for name in ("guests", "ops", "listed"):
            setattr(self, name, int(wanted.get(name, getattr(self, name))))
        self.task_s = float(wanted.get("task_s", self.task_s))
        self.made.clear()
        self.tasks.clear()
        self.recent.clear()
        self.kept.clear()
        self.counts.clear()
        for target in [f"{API}/cluster/resources?type=vm"] + [
            f"{API}/nodes/{node}/{kind}" for node in fleet.NODES for kind in ("qemu", "lxc")
        ]:
            self.answer("GET", target.encode(), b"")
        self.counts.clear()
        self.cpu_before = _cpu_s()

    # -- answers ---------------------------------------------------------------------------------------------------

    def answer(self, method: str, target: bytes, body: bytes) -> bytes:
        """The whole answer to one request."""
        if method == "GET" and (kept := self.kept.get(target)) is not None:
            self.counts[kept[0]] += 1
            return kept[1]
        path, _, query = target.decode().partition("?")
        params = dict(parse_qsl(query if method in {"GET", "DELETE"} else body.decode(), keep_blank_values=True))
        if path == "/_bench/stats":
            return _whole(200, {"cpu_s": _cpu_s() - self.cpu_before, "counts": dict(self.counts), "rss": _rss()})
        if path == "/_bench/set":
            self.set(json.loads(body))
            return _whole(200, {})
        path = unquote(path.removeprefix(API))
        sort, lasting = self._sort(method, path, params)
        self.counts[sort] += 1
        status, data = self._data(method, path, params)
        whole = _whole(status, {"data": data} if status == 200 else {"data": None, "message": data})
        if lasting and status == 200:
            self.kept[target] = (sort, whole)
        return whole

    def _sort(self, method: str, path: str, params: Params) -> tuple[str, bool]:
        """What a request is counted as, and whether its answer stays the same until something is made or started."""
        if method != "GET":
            return method, False
        if _TASK.fullmatch(path):
            return "task status", False
        guest = _GUEST.fullmatch(path)
        if guest is not None and guest[4]:
            return guest[4], False
        node = _OF_NODE.match(path)
        if node is not None:
            return f"node {node[2]}", params.get("source") != "active"
        return path + (f" {params['type']}" if "type" in params else ""), True

    def _data(self, method: str, path: str, params: Params) -> Answer:
        if task := _TASK.fullmatch(path):
            return 200, self._task(task[2])
        if guest := _GUEST.fullmatch(path):
            return self._guest(method, guest[1], guest[2], int(guest[3]), guest[4] or "", params)
        if method == "POST" and (made := re.fullmatch(r"/nodes/([^/]+)/(qemu|lxc)", path)):
            return 200, self._make(made[1], made[2], params)
        if method == "GET" and (listed := re.fullmatch(r"/nodes/([^/]+)/(qemu|lxc|tasks)", path)):
            if listed[2] == "tasks":
                return 200, self._task_list(listed[1], params)
            return 200, [
                fleet.status_row_of(n)
                for n in range(self.guests)
                if (fleet.node_of(n), fleet.kind_of(n)) == (listed[1], listed[2])
            ] + [_as_status(row) for row in self.made.values() if (row["node"], row["type"]) == (listed[1], listed[2])]
        known = _PLAIN.get(path)
        return (200, known(self, params)) if known is not None and method == "GET" else (501, f"no {method} {path}")

    def _rows(self, params: Params) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        if params.get("type", "vm") == "vm":
            rows += [fleet.row_of(number) for number in range(self.guests)]
            rows += [{key: value for key, value in row.items() if key != "config"} for row in self.made.values()]
        if params.get("type", "storage") == "storage":
            rows += [
                {"id": f"storage/{node}/{name}", "type": "storage", "storage": name, "node": node, "shared": shared,
                 "status": "available", "content": "images,rootdir", "plugintype": "dir", "maxdisk": 1 << 40, "disk": 0}
                for node in fleet.NODES for name, shared in (("local", 0), ("local-lvm", 0), ("shared", 1))
            ]  # fmt: skip
        if params.get("type", "node") == "node":
            rows += [{"id": f"node/{node}", "type": "node", "node": node, "status": "online"} for node in fleet.NODES]
        return rows

    # -- guests ----------------------------------------------------------------------------------------------------

    def _number(self, vmid: int) -> int | None:
        number = vmid - fleet.FIRST_VMID
        return number if 0 <= number < self.guests else None

    def _guest(self, method: str, node: str, kind: str, vmid: int, what: str, params: Params) -> Answer:
        number, made = self._number(vmid), self.made.get(vmid)
        if number is None and made is None:
            return 500, f"Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist\n"
        config = made["config"] if made else fleet.config_of(number or 0)
        row = made or fleet.row_of(number or 0)
        digest = f"{len(config):040x}" if made else fleet.digest_of(number or 0)
        if method == "POST" and what.startswith("status/"):
            if made:
                made["status"] = "running" if what.endswith("start") else "stopped"
            return 200, self._begin(node, ("qm" if kind == "qemu" else "vz") + what.rpartition("/")[2], vmid)
        if method in {"PUT", "POST"} and what == "config":
            config.update({key: value for key, value in params.items() if key not in {"digest", "delete"}})
            return 200, None
        if method == "DELETE" and not what:
            self.made.pop(vmid, None)
            self._changed()
            return 200, self._begin(node, "qmdestroy", vmid)
        if what == "config":
            return 200, {**config, "digest": digest}
        if what == "pending":
            rows = [{"key": key, "value": value} for key, value in config.items()]
            return 200, [*rows, {"key": "digest", "value": digest}]
        if what in {"status/current", "status"}:
            return 200, {**_as_status(row), "ha": {"managed": 0}, "qmpstatus": row["status"]}
        if what == "snapshot":
            return 200, [{"name": "current", "digest": digest, "description": "You are here!", "running": 1}]
        return 501, f"no {method} {what}"

    def _make(self, node: str, kind: str, params: Params) -> str:
        vmid = int(params["vmid"])
        config = {key: value for key, value in params.items() if key != "vmid"}
        config.setdefault("meta", f"creation-qemu=10.0.2,ctime={int(time.time())}")
        config.setdefault("smbios1", f"uuid=00000000-0000-4000-8000-{vmid:012x}")
        self.made[vmid] = {
            **fleet.row_of(vmid - fleet.FIRST_VMID), "node": node, "type": kind, "id": f"{kind}/{vmid}",
            "name": params.get("name", f"guest-{vmid}"), "status": "stopped", "tags": params.get("tags", ""),
            "uptime": 0, "config": config,
        }  # fmt: skip
        self._changed()
        return self._begin(node, "qmcreate" if kind == "qemu" else "vzcreate", vmid)

    def _changed(self) -> None:
        """What lists say is made anew when it is asked for."""
        self.kept.clear()

    # -- tasks -----------------------------------------------------------------------------------------------------

    def _begin(self, node: str, kind: str, vmid: int) -> str:
        now = time.time()
        self._pid += 1
        upid = (
            f"UPID:{node}:{self._pid:08X}:{int(now * 100) & 0xFFFFFFFF:08X}:{int(now):08X}:{kind}:{vmid}:{fleet.TOKEN}:"
        )
        self.tasks[upid] = (now + self.task_s, vmid, kind)
        self.recent.appendleft(upid)
        self._changed()
        return upid

    def _task(self, upid: str) -> dict[str, Any]:
        ends, _, _ = self.tasks.get(upid, (0.0, 0, ""))
        if ends > time.time():
            return {"upid": upid, "status": "running", "pid": 1}
        return {"upid": upid, "status": "stopped", "exitstatus": "OK", "pid": 1}

    def _task_list(self, node: str, params: Params) -> list[dict[str, Any]]:
        """Newest first: what was started here, then the finished tasks of the operations."""
        source, now = params.get("source", "archive"), time.time()
        rows: list[dict[str, Any]] = []
        for upid in self.recent:
            ends, vmid, kind = self.tasks[upid]
            if not upid.startswith(f"UPID:{node}:") or (source == "archive" and ends > now):
                continue
            row = {"upid": upid, "node": node, "type": kind, "id": str(vmid), "user": fleet.TOKEN.partition("!")[0],
                   "starttime": int(upid.split(":")[4], 16)}  # fmt: skip
            rows.append(row if ends > now else {**row, "endtime": int(ends), "status": "OK"})
        if source != "active":
            mine = [number for number in range(self.ops) if fleet.node_of(number) == node]
            rows += [dict(fleet.task_row(number)) for number in reversed(mine[-self.listed :] if self.listed else mine)]
        if "since" in params:
            rows = [row for row in rows if row["starttime"] >= int(params["since"])]
        if params.get("statusfilter") == "error":
            rows = []
        start, limit = int(params.get("start", "0")), int(params.get("limit", "50"))
        return rows[start : start + limit]


def _as_status(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in {"id", "node", "config", "template"}}


_PLAIN: dict[str, Callable[[Fleet, Params], Any]] = {
    "/version": lambda _fleet, _params: {"version": "9.0.3", "release": "9.0", "repoid": "0000000000000000"},
    "/nodes": lambda _fleet, _params: [
        {"node": node, "status": "online", "uptime": 9_000_000, "type": "node", "id": f"node/{node}"}
        for node in fleet.NODES
    ],
    "/cluster/status": lambda _fleet, _params: [
        {"type": "cluster", "id": "cluster", "name": "bench", "nodes": len(fleet.NODES), "quorate": 1, "version": 1},
        *(
            {
                "type": "node",
                "id": f"node/{node}",
                "name": node,
                "online": 1,
                "local": int(place == 0),
                "nodeid": place + 1,
            }
            for place, node in enumerate(fleet.NODES)
        ),
    ],
    "/cluster/resources": lambda state, params: state._rows(params),  # noqa: SLF001 - its own table
    "/cluster/nextid": lambda state, _params: str(fleet.FIRST_VMID + state.guests + len(state.made)),
    "/access/permissions": lambda _fleet, params: {
        params.get("path", "/"): {"VM.Audit": 1, "Sys.Audit": 1, "VM.Config.Options": 1, "VM.Allocate": 1}
    },
    "/pools": lambda _fleet, _params: [],
}


def _whole(status: int, content: object) -> bytes:
    body = json.dumps(content, separators=(",", ":")).encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\n"
        f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S GMT', time.gmtime())}\r\n"
        "Server: pve-api-daemon/3.0\r\nContent-Type: application/json;charset=UTF-8\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Connection(asyncio.Protocol):
    """One kept connection."""

    def __init__(self, state: Fleet) -> None:
        self._state = state
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = transport  # pyright: ignore[reportAttributeAccessIssue]

    def data_received(self, data: bytes) -> None:
        """Answer every request that has come whole."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            found = re.search(rb"\r\n[Cc]ontent-[Ll]ength: *([0-9]+)", head)
            size = int(found[1]) if found else 0
            if len(self._buffer) < end + 4 + size:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + size])
            del self._buffer[: end + 4 + size]
            method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
            if self._transport is not None:
                self._transport.write(self._state.answer(method.decode(), target, body))
                if re.search(rb"\r\n[Cc]onnection: *close", head):
                    self._transport.close()


async def _serve(folder: Path, wanted: dict[str, Any]) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    state = Fleet()
    state.set(wanted)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(state), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"https://127.0.0.1:{port}", "ca_file": str(folder / "ca.pem")}), flush=True)
    # Whoever started it holds its input open, and it ends with them.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--set", type=json.loads, default={}, help="JSON, as for /_bench/set")
    given = parser.parse_args()
    asyncio.run(_serve(given.folder, given.set))


if __name__ == "__main__":
    main()
