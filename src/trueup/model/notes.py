"""What the engine tells while it works: progress for people, lines for the log. Never a secret, never a decision."""

from enum import StrEnum

import msgspec

from trueup.model.ops import OpView


class What(StrEnum):
    """Which kind of news."""

    EPOCH = "epoch"
    RECOVERY_BEGAN = "recovery_began"
    RECOVERY_ENDED = "recovery_ended"
    FENCE_RAISED = "fence_raised"
    WAITING = "waiting"
    OP_STARTED = "op_started"
    OP_TASK = "op_task"
    OP_ENDED = "op_ended"
    OP_OPEN = "op_open"
    BLOCKED = "blocked"
    PASS_ENDED = "pass_ended"  # noqa: S105 - a pass of the loop
    ALARM = "alarm"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of news. `op` is the operation it is about, if any; `text` is one line."""

    what: What
    text: str
    op: OpView | None = None
