"""What the gate is told and what it answers, beside the words that the journal keeps (`model.gate`).

Three statements can be signed. Each has a payload type and a form of its own, with fields that the others do not have,
so that a signature over one (SSHSIG signs bytes without their type) can never be taken for another.
"""

from enum import StrEnum

import msgspec

from trueup.model.errors import TrueupError
from trueup.model.gate import Approval, Form, Refusal
from trueup.model.guests import Observed
from trueup.model.ids import OpId

OPERATION_TYPE = "application/vnd.trueup.operation.v1+json"
VETO_TYPE = "application/vnd.trueup.veto.v1+json"
RESOLUTION_TYPE = "application/vnd.trueup.resolution.v1+json"
PAYLOAD_TYPES = (OPERATION_TYPE, VETO_TYPE, RESOLUTION_TYPE)


class GateRefused(TrueupError):
    """The gate says no; `refusal` is the reason from the closed list. Nothing was changed."""

    def __init__(self, refusal: Refusal, what: str, remedy: str = "") -> None:
        """Keep the reason beside the text."""
        self.refusal = refusal
        super().__init__(what=what, remedy=remedy)


class Veto(msgspec.Struct, frozen=True, kw_only=True):
    """A signed no to one request, as its bytes say it. Instants are epoch milliseconds."""

    cluster: str
    request_id: str
    reason: str
    requested_by: str
    nonce: str
    not_before_ms: int
    execute_by_ms: int


class ResolvedAs(StrEnum):
    """How somebody says that an operation ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """A signed statement of how an unresolved operation ended. Instants are epoch milliseconds."""

    cluster: str
    op_id: str
    resolved_as: ResolvedAs
    reason: str
    requested_by: str
    nonce: str
    not_before_ms: int
    execute_by_ms: int


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature as it arrived. `key_id` is a hint of the sender's and proves nothing; `raw` is what was signed."""

    key_id: str
    form: Form
    raw: bytes


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """An envelope as it arrived, well-formed and otherwise unchecked. `payload` are the exact bytes."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of an envelope's signatures. `valid` has each key once; `problems` tell of the others.

    Whether a valid one counts (revocation, roles, people) is decided by `core.gate_rules`.
    """

    valid: tuple[Approval, ...] = ()
    problems: tuple[tuple[Refusal, str], ...] = ()


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """The target as it was read: the guest, or that it is gone, or (`unreadable`) why neither is known.

    `remade` is why it may be another container than the signers saw ('' = it is not; only asked for containers).
    """

    guest: Observed | None = None
    gone: bool = False
    unreadable: str = ""
    remade: str = ""


class Outcome(StrEnum):
    """What the sender of a statement hears, as a class: HTTP 202, 202, 200 and 4xx; exit code 1 for refused only."""

    ACCEPTED = "accepted"
    PENDING = "pending"
    REPETITION = "repetition"
    REFUSED = "refused"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The gate's answer. `request` is the request's id and `op` its operation's ('' = there is none).

    `state` is one of accepted, pending, started, task_running, succeeded, failed, refused, vetoed, expired. `missing`
    says who still has to sign; `reason` is a sentence.
    """

    outcome: Outcome
    state: str
    request: OpId = OpId("")
    op: OpId = OpId("")
    missing: str = ""
    reason: str = ""
    refusal: Refusal | None = None


class Go(msgspec.Struct, frozen=True, kw_only=True):
    """The accepted request may be carried out now."""


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Not now, but perhaps before its `execute_by`: a window, a budget, a guest that cannot be read or is busy."""

    why: Refusal
    text: str


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Never: what its acceptance rested on is gone. The operation ends unsent."""

    why: Refusal
    text: str


RunVerdict = Go | Hold | Stop
