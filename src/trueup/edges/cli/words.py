"""The closed lists of the model in plain words, for whoever is woken at three in the morning.

Each table is complete: a test goes through every member, so that no word is ever missing on that night.
"""

from collections.abc import Mapping
from typing import Final

from trueup.model.ops import Reason

REASONS: Final[Mapping[Reason, str]] = {
    Reason.TASK_OK: "PVE's task ended with OK",
    Reason.TASK_WARNINGS: "PVE's task ended with warnings, which PVE counts as success",
    Reason.OBSERVED: "the guest itself was looked at, and shows it",
    Reason.REFUSED: "PVE refused it before it changed anything",
    Reason.TASK_ERROR: "PVE's task ended with an error",
    Reason.NOT_STARTED: "PVE never acted on it, and cannot any more",
    Reason.PRESUMED_NOT_STARTED: "PVE seems never to have acted on it: no trace of it after the wait",
    Reason.KILLED: "PVE's task was killed, and what it had begun is dead too",
    Reason.EXPIRED: "it could not be sent in time, so it was not sent at all",
    Reason.VETOED: "somebody vetoed it before it was sent, so it was not sent at all",
    Reason.NOT_AS_SIGNED: "the guest was no longer what people had signed for, so it was not sent at all",
    Reason.SUPERSEDED: "the guest is as it should be, whoever did it",
    Reason.RESOLVED_BY_OPERATOR: "a person said so, and signed it",
    Reason.TASK_UNKNOWN: "whether PVE has a task for it cannot be told",
    Reason.GOAL_NOT_REACHED: "PVE's task ended well, but the guest does not show the effect",
    Reason.CHILDREN_MAY_LIVE: "PVE's task was killed, but what it had begun may go on",
    Reason.LATE_REQUEST_POSSIBLE: "the guest is gone, but the request could arrive once more",
    Reason.UNREADABLE: "the guest cannot be read",
    Reason.PARTIAL: "a part of it is there",
    Reason.UNKNOWABLE: "nothing in PVE can tell whether it happened",
    Reason.NOT_ATTRIBUTABLE: "it is as asked for, but nothing tells who did it",
    Reason.FENCE_IMPOSSIBLE: "PVE cannot be made to refuse the request, should it still arrive",
    Reason.LOCK_HELD: "somebody is at work on the guest",
}

TASKS: Final[Mapping[str, str]] = {
    "running": "PVE's task was running",
    "ok": "PVE's task had ended with OK",
    "warnings": "PVE's task had ended with warnings",
    "error": "PVE's task had ended with an error",
    "killed": "PVE's task had been killed",
    "none": "PVE had no task for it",
    "several": "PVE had tasks that could be its own or another operation's",
    "unknown": "whether PVE had a task for it could not be told",
}

PROBES: Final[Mapping[str, str]] = {
    "landed": "the effect was there",
    "not_landed": "the effect was not there",
    "partial": "a part of the effect was there",
    "unknowable": "the guest could not show whether it had happened",
    "unreadable": "the guest was not read",
}

FENCES: Final[Mapping[str, str]] = {
    "stands": "a fence stood: PVE would have refused the request, had it still arrived",
    "missing": "no fence stood yet",
    "impossible": "no fence could be raised",
    "no_kind": "",
}

LOCKS: Final[Mapping[str, str]] = {
    "free": "nobody was at work on the guest",
    "held": "somebody was at work on the guest",
    "unknown": "",
}

TO_DO_NOTHING: Final = "Nothing."
TO_DO_AGAIN: Final = "The next pass plans the guest anew, later each time it fails."
"""What follows the end of an operation that a pass had planned and that failed."""
TO_DO_ANEW: Final = "Nothing plans it anew: if it is still wanted, make a new request and have it signed."
"""What follows the end of a signed operation that failed: no pass plans one again."""

TO_DO: Final[Mapping[Reason, str]] = {
    Reason.TASK_OK: TO_DO_NOTHING,
    Reason.TASK_WARNINGS: "Read the task's log if you want to know the warnings.",
    Reason.OBSERVED: TO_DO_NOTHING,
    Reason.REFUSED: "Read why it was refused, and mend that: in the cluster, in the manifest, or in what is asked for.",
    Reason.TASK_ERROR: "Read the task's log, mend what it says, and look at what is left over.",
    Reason.NOT_STARTED: TO_DO_NOTHING,
    Reason.PRESUMED_NOT_STARTED: "It is watched for a day, and if it shows up after all, an alarm says so.",
    Reason.KILLED: "Find out who killed the task (a reboot, the OOM killer, a person), and look at what is left over.",
    Reason.EXPIRED: TO_DO_NOTHING,
    Reason.VETOED: "Ask whoever vetoed it.",
    Reason.NOT_AS_SIGNED: "Look at the guest: it is not what people signed for.",
    Reason.SUPERSEDED: TO_DO_NOTHING,
    Reason.RESOLVED_BY_OPERATOR: TO_DO_NOTHING,
    Reason.TASK_UNKNOWN: "Make the node's task list readable: is the node up, and has the token Sys.Audit on it?",
    Reason.GOAL_NOT_REACHED: "Look at the guest and at the HA manager: something keeps it from getting there.",
    Reason.CHILDREN_MAY_LIVE: "Wait for the guest's lock to become free, or end what holds it on its node.",
    Reason.LATE_REQUEST_POSSIBLE: "Do not give this vmid to another guest until this is settled.",
    Reason.UNREADABLE: "Make the guest readable: is its node up, and has the token VM.Audit on it?",
    Reason.PARTIAL: "Look at the guest's lock and at its node: is somebody still at work? If not, clean up by hand.",
    Reason.UNKNOWABLE: "Look at the guest yourself, then say how it ended with `trueup ops resolve`: only a person can "
    "tell.",
    Reason.NOT_ATTRIBUTABLE: "Find out who did it, then say how it ended with `trueup ops resolve`; the guest itself "
    "is as it should be.",
    Reason.FENCE_IMPOSSIBLE: "Make the guest writable: is its node up and quorate, and does it still carry our marker?",
    Reason.LOCK_HELD: "Let whoever holds the lock finish (a backup, a migration).",
}

TO_DO_ACCEPTED: Final = "Run `trueup apply`, or start the agent: nobody is there now to carry it out."
TO_DO_IN_FLIGHT: Final = "Run `trueup recover`: nobody is at work on it now, and recovery finds out how it ended."
TO_DO_HALF_MADE: Final = (
    "Half a guest never unlocks itself. Once no process works on it any more: `{tool} unlock {vmid}`, then "
    "`{tool} destroy {vmid}`, as root on its node."
)
"""A guest that was cut off while it was made keeps its lock for ever: only a person ends that."""


def to_do(reason: Reason, *, failed: bool, signed: bool) -> tuple[str, ...]:
    """What is to be done about an operation that is open or has ended, and what then comes by itself, in sentences."""
    first = TO_DO[reason]
    if not failed or reason is Reason.SUPERSEDED:
        return (first,)
    then = TO_DO_ANEW if signed else TO_DO_AGAIN
    return (then,) if first == TO_DO_NOTHING else (first, then)
