"""The search for the task of an operation whose UPID never reached us.

A task matches by token, type and UPID id, on the operation's node, with an hour of slack on the time (nodes' clocks
differ), was not there before the request, and is claimed by no other operation. One match is the task. Several are no
answer. No match is an answer only with proof of sight: the list would have shown it. All rows carry the exact token in
their UPID, and nowhere else reliably (`user` and `userfilter` differ between running and finished rows).
"""

from collections import defaultdict
from collections.abc import Collection

import msgspec

from trueup.core.recovery import Task
from trueup.model import limits
from trueup.model.ids import Upid
from trueup.model.ops import Intent
from trueup.model.pve import TaskList, TaskRow


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found: the row, or the reason why there is none.

    `candidate` is the only task that could be its own, where a rival could have it too.
    """

    task: Task
    row: TaskRow | None = None
    candidate: TaskRow | None = None
    why: str = ""


def matches(intent: Intent, upid: Upid) -> bool:
    """Whether this task may be the one of that request."""
    return (
        upid.text not in intent.not_mine
        and upid.user == intent.token
        and upid.type == intent.task_type
        and upid.id == intent.task_id
        and upid.starttime >= intent.sent_not_before_s - limits.TIME_SLACK_S
    )


Target = tuple[str, str, str, str]


def target(intent: Intent) -> Target:
    """All that a task tells of its request: node, type, UPID id and token."""
    return (intent.node, intent.task_type, intent.task_id, intent.token)


def same_target(one: Intent, other: Intent) -> bool:
    """Whether a task could not tell these two requests apart."""
    return target(one) == target(other)


class Sorted:
    """One node's list, sorted by what its tasks are about, so that thousands of searches do not each go through it."""

    def __init__(self, tasks: TaskList) -> None:
        """Sort it once."""
        self._tasks = tasks
        self._about: defaultdict[tuple[str, str], list[TaskRow]] = defaultdict(list)
        for row in tasks.rows:
            self._about[row.upid.type, row.upid.id].append(row)
        self._oldest = min((row for row in tasks.rows if row.endtime), key=lambda row: row.endtime, default=None)

    def about(self, intent: Intent) -> TaskList:
        """The part of the list that a search for this request's task can turn on: a search in it ends the same."""
        rows = self._about.get((intent.task_type, intent.task_id), [])
        reach = [] if self._oldest is None or self._oldest in rows else [self._oldest]
        return msgspec.structs.replace(self._tasks, rows=(*rows, *reach))


def search(intent: Intent, tasks: TaskList, *, token: str, claimed: Collection[str], rivals: bool) -> Found:
    """Search one node's list for the task of a request.

    Args:
        intent: the request.
        tasks: the whole list of its node.
        token: our own token, whose tasks always show.
        claimed: UPIDs that belong to other operations.
        rivals: another operation of the same guest and type has no task either (an earlier one that is presumed not
            to have started, or one that is open too): a single match could be its task.
    """
    rows = [row for row in tasks.rows if row.upid.text not in claimed and matches(intent, row.upid)]
    if len(rows) > 1 or (rows and rivals):
        why = f"{len(rows)} tasks on {tasks.node} could be its own, or of another operation of the same guest"
        if any(row.status == "RUNNING" for row in rows):
            return Found(task=Task.RUNNING, why=why)
        return Found(task=Task.SEVERAL, candidate=rows[0] if len(rows) == 1 else None, why=why)
    if rows:
        return Found(task=Task.UNKNOWN if rows[0].status == "RUNNING" else classify(rows[0].status), row=rows[0])
    if not (tasks.sees_all or intent.token == token):
        return Found(task=Task.UNKNOWN, why=f"no right to see other tokens' tasks on {tasks.node} (Sys.Audit)")
    if not reaches_back(intent, tasks):
        return Found(task=Task.UNKNOWN, why=f"the task list of {tasks.node} does not reach back to the request")
    return Found(task=Task.NONE, why=f"no task of it on {tasks.node}")


def reaches_back(intent: Intent, tasks: TaskList) -> bool:
    """Whether the list would still show a task that began with this request.

    Either nothing was ever rotated away (all rows are seen and are less than one index file), or a task older than
    the request is still listed: what was archived after it is then listed as well.
    """
    if tasks.sees_all and tasks.index_bytes < limits.PVE_INDEX_BYTES:
        return True
    oldest = intent.sent_not_before_s - limits.TIME_SLACK_S
    return any(row.endtime and row.endtime < oldest for row in tasks.rows)


def classify(status: str) -> Task:
    """Sort an exit status as PVE does (pve-common, PVE::UPID status_is_error and its types)."""
    text = status.strip()
    if text == "OK":
        return Task.OK
    head, _, count = text.partition(":")
    if head == "WARNINGS" and count.strip().isdigit():
        return Task.WARNINGS
    if not text or text.startswith(_NO_LAST_LINE):
        return Task.KILLED
    return Task.ERROR


# What PVE says when a task's log has no final line: it was killed, or its node died (9.x first, 8.x the rest).
_NO_LAST_LINE = (
    "unexpected status",
    "unable to get last line",
    "unable to open file -",
    "unable to extract last line",
    "unable to read tail",
)
