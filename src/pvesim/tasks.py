"""Tasks: UPIDs, logs, and the lists each node keeps of them.

Rule kept here: a list is not the truth. A task is in a list only from when its parent entered it until the index
has been rotated twice, running and finished rows name the user differently, and a status comes from the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pvesim.wire import Json, Listing, bad_parameters

UPID = re.compile(
    r"^UPID:([A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8}):"
    r"([^:\s/]+):([^:\s/]*):([^:\s/]+):$"
)
INDEX_BYTES = 50_000
BROADCAST_ROWS = 25
LOG_LIMIT = 50


@dataclass(slots=True, kw_only=True, eq=False)
class Task:
    """One worker; `exitstatus` is None while it runs."""

    upid: str
    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str
    log: list[str] = field(default_factory=list[str])
    state: Literal["unlisted", "active", "archived", "forgotten"] = "unlisted"
    exitstatus: str | None = None
    endtime: int = 0
    log_gone: bool = False

    def split_user(self) -> dict[str, Json]:
        """`user` and `tokenid` as finished rows have them."""
        user, bang, tokenid = self.user.partition("!")
        return {"user": user, "tokenid": tokenid} if bang else {"user": user}

    def base_row(self) -> dict[str, Json]:
        """What every row of a node's list has."""
        return {
            "upid": self.upid, "node": self.node, "pid": self.pid, "pstart": self.pstart,
            "starttime": self.starttime, "type": self.type, "id": self.id,
        }  # fmt: skip

    def status_row(self) -> dict[str, Json]:
        """GET tasks/UPID/status."""
        row = self.base_row() | self.split_user()
        row["status"] = "running" if self.exitstatus is None else "stopped"
        if self.exitstatus is not None:
            row["exitstatus"] = self.exitstatus
        return row


def make_upid(task_type: str, identifier: str, who: str, process: tuple[str, int, int, int]) -> str:
    """The id of a task; `process` is node, pid, pstart, starttime."""
    node, pid, pstart, starttime = process
    return f"UPID:{node}:{pid:08X}:{pstart:08X}:{starttime:08X}:{task_type}:{identifier}:{who}:"


def status_kind(status: str) -> str:
    """PVE's four kinds of exit status."""
    if status == "OK":
        return "ok"
    if re.match(r"^WARNINGS: \d+$", status):
        return "warning"
    return "unknown" if status in {"", "unexpected status"} else "error"


@dataclass(slots=True)
class NodeTasks:
    """What one node has on its disk about its tasks."""

    logs: dict[str, Task] = field(default_factory=dict[str, Task])
    active: list[Task] = field(default_factory=list[Task])
    index: list[Task] = field(default_factory=list[Task])
    index_1: list[Task] = field(default_factory=list[Task])
    index_size: int = 0
    orphans: list[Task] = field(default_factory=list[Task])

    def enter(self, task: Task) -> None:
        """The parent writes the active list."""
        task.state = "active"
        self.active.insert(0, task)

    def archive(self, task: Task, clock: float) -> None:
        """The task is reaped: it goes to the index, which is rotated when it is full."""
        if task in self.active:
            self.active.remove(task)
        if task.state in {"archived", "forgotten"}:
            return
        task.state = "archived"
        task.endtime = int(clock)
        if self.index_size > INDEX_BYTES:
            self.rotate()
        self.index.append(task)
        self.index_size += len(task.upid) + len(task.exitstatus or "") + 12

    def rotate(self) -> None:
        """The index becomes index.1, and what was there is forgotten by the lists."""
        for task in self.index_1:
            task.state = "forgotten"
        self.index_1, self.index, self.index_size = self.index, [], 0

    def forget(self, task: Task) -> None:
        """Lists and log lose this task."""
        task.log_gone = True
        task.state = "forgotten"
        for rows in (self.active, self.index, self.index_1):
            if task in rows:
                rows.remove(task)

    def find(self, upid: str) -> Task | None:
        """A task whose log is there."""
        task = self.logs.get(upid)
        return None if task is None or task.log_gone else task

    def need(self, upid: str) -> Task:
        """A task by its id, or PVE's 400."""
        if UPID.match(upid) is None:
            raise bad_parameters({"upid": "unable to parse worker upid"})
        task = self.find(upid)
        if task is None:
            raise bad_parameters({"upid": "no such task"})
        return task

    def finished(self) -> list[Task]:
        """Archived tasks, newest first."""
        return [*reversed(self.index), *reversed(self.index_1)]


def log_rows(task: Task | None, params: Mapping[str, str]) -> Listing:
    """GET tasks/UPID/log."""
    lines = ["unable to open file - No such file or directory"] if task is None else task.log or ["no content"]
    start, limit = int(params.get("start", "0")), int(params.get("limit", str(LOG_LIMIT)))
    numbered: list[Json] = [{"n": n, "t": text} for n, text in enumerate(lines, 1)]
    return Listing(numbered[start:] if limit == 0 else numbered[start : start + limit], len(lines))


def list_rows(tasks: NodeTasks, params: Mapping[str, str], *, viewer: str | None) -> Listing:
    """GET nodes/N/tasks; `viewer` is the token that may see its own tasks only, None sees all."""
    source = params.get("source", "archive")
    rows: list[dict[str, Json]] = []
    if source in {"active", "all"}:
        rows += [t.base_row() | {"user": t.user, "saved": "0", "status": "RUNNING"} for t in tasks.active]
    if source in {"archive", "all"}:
        rows += [
            t.base_row() | t.split_user() | {"endtime": t.endtime, "status": t.exitstatus or ""}
            for t in tasks.finished()
        ]
    matching = [row for row in rows if _seen_by(row, viewer) and _matches(row, params)]
    start, limit = int(params.get("start", "0")), int(params.get("limit", "50"))
    return Listing(matching[start : start + limit], len(matching) or None)


def _seen_by(row: Mapping[str, Json], viewer: str | None) -> bool:
    return viewer is None or str(row["upid"]).endswith(f":{viewer}:")


def _matches(row: Mapping[str, Json], params: Mapping[str, str]) -> bool:
    """PVE's filters, the user filter with its blindness for finished rows of a token."""
    status, started = str(row["status"]), int(str(row["starttime"]))
    kind = "unknown" if status == "RUNNING" else status_kind(status)
    wanted = params.get("statusfilter")
    return (
        ("vmid" not in params or row["id"] == params["vmid"])
        and ("typefilter" not in params or row["type"] == params["typefilter"])
        and ("userfilter" not in params or params["userfilter"].lower() in str(row["user"]).lower())
        and ("since" not in params or started >= int(params["since"]))
        and ("until" not in params or started <= int(params["until"]))
        and (params.get("errors", "0") != "1" or kind != "ok")
        and (not wanted or kind in re.split(r"[;, ]+", wanted))
    )


def broadcast_rows(tasks: NodeTasks) -> list[dict[str, Json]]:
    """What a node tells the cluster: its running tasks, filled up with finished ones."""
    rows: list[dict[str, Json]] = []
    for task in tasks.active:
        row = task.base_row() | task.split_user()
        del row["pstart"]
        rows.append(row)
    room = max(0, BROADCAST_ROWS - len(rows))
    for number, task in enumerate(tasks.finished()[:room]):
        row = task.base_row() | task.split_user()
        del row["pstart"], row["pid"]
        row |= {"endtime": task.endtime, "status": task.exitstatus, "saved": "1" if number else 1}
        rows.append(row)
    return rows
