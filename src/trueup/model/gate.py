"""The gate: requests for one-shot operations, who asked, who agreed, and what became of them.

A request and the operation that it becomes share one id, so that a redelivery is answered with the operation's state.
Values of this module are written into the journal: a field is only ever added with a default, never renamed or reused.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from trueup.model.guests import Identity
from trueup.model.ids import Digest, GuestType, OpId, Vmid


class RequestState(StrEnum):
    """Where a request stands until it is an operation; the legal moves are the table in `core.requests`."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    VETOED = "vetoed"
    EXPIRED = "expired"
    REFUSED = "refused"


class Refusal(StrEnum):
    """Why the gate said no. A closed list, in the order of the checks; scripts and metrics may match on it."""

    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    PAYLOAD_TYPE = "payload_type"
    NO_KEYRING = "no_keyring"
    SIGNATURE = "signature"
    UNKNOWN_KEY = "unknown_key"
    REVOKED_KEY = "revoked_key"
    REQUESTER = "requester"
    AUDIENCE = "audience"
    NOT_YET = "not_yet"
    EXPIRED = "expired"
    TOO_LONG = "too_long"
    CLOCK = "clock"
    REPLAY = "replay"
    NONCES_FULL = "nonces_full"
    KEY_TAKEN = "key_taken"
    KEY_DIFFERS = "key_differs"
    NO_RULE = "no_rule"
    NEVER = "never"
    WINDOW = "window"
    BUDGET = "budget"
    NEEDS_TOKEN = "needs_token"  # noqa: S105 - the name of a reason
    KIND = "kind"
    TARGET_GONE = "target_gone"
    IDENTITY = "identity"
    DIGEST = "digest"
    UNREADABLE = "unreadable"
    BLOCKED = "blocked"
    STATE = "state"


class Form(StrEnum):
    """How a signature was made: DSSE over the pre-authentication encoding, or `ssh-keygen -Y sign -n trueup`.

    WEBAUTHN is by a security key in a browser; its challenge is the hash of that encoding (`core.gate_webauthn`).
    """

    DSSE = "dsse"
    SSHSIG = "sshsig"
    WEBAUTHN = "webauthn"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The very guest that was seen when the request was prepared; `digest` is that of its config."""

    type: GuestType
    vmid: Vmid
    identity: Identity
    digest: Digest


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as its signed bytes say it. Instants are epoch milliseconds; `params` are the kind's own words.

    `cluster` is the audience. `approve_by_ms` bounds the collecting of signatures, `execute_by_ms` the start of the
    execution.
    """

    cluster: str
    kind: str
    target: Target
    params: Mapping[str, str] = {}
    reason: str
    requested_by: str
    nonce: str
    idempotency_key: str
    not_before_ms: int
    approve_by_ms: int
    execute_by_ms: int


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """One person's valid signature over the request's bytes. `signature` is base64, kept so that it can be checked."""

    person: str
    key_id: str
    form: Form
    signature: str
    at_ms: int = 0


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What keyring and policy say of a request at one instant: which rule decides, and what is still missing.

    `rule` counts from 1; 0 = none. `people` is how many must agree, `counted` whose approvals count. `missing` is a
    sentence ('' = enough). `grace_s` is between acceptance and execution. The digests are SHA-256 of the files.
    """

    rule: int
    people: int
    counted: tuple[str, ...] = ()
    missing: str = ""
    grace_s: float = 0.0
    needs_token: bool = False
    keyring_digest: str = ""
    policy_digest: str = ""


class Requested(msgspec.Struct, frozen=True, kw_only=True, tag="requested"):
    """A well-formed, validly signed request is known: its nonce is used, its idempotency key is claimed.

    `payload` is base64 of the exact bytes that were signed, `payload_sha256` their hash in hex. `via` is how it came:
    http, spool, stdin or command. It is pending until `Accepted`, which may stand in the same append.
    """

    request: Request
    payload: str
    payload_sha256: str
    ruling: Ruling
    via: str = ""


class Approved(msgspec.Struct, frozen=True, kw_only=True, tag="approved"):
    """Somebody signed it."""

    approval: Approval
    ruling: Ruling | None = None


class Vetoed(msgspec.Struct, frozen=True, kw_only=True, tag="vetoed"):
    """Somebody with the right to do so said no, by a signature; it ends a request that was not sent yet."""

    approval: Approval
    reason: str = ""


class Lapsed(msgspec.Struct, frozen=True, kw_only=True, tag="lapsed"):
    """A pending request ended without approval: its time is over, or what it rests on is gone."""

    state: RequestState
    why: Refusal
    text: str = ""


class Denied(msgspec.Struct, frozen=True, kw_only=True, tag="denied"):
    """The gate refused what arrived; nothing of it counts. `times` stands for so many alike that came too fast.

    `request_id` is the known request that it spoke of ('' = none), `payload_sha256` what it carried, if that could be
    told. Nothing in `text` is quoted from the input unchecked.
    """

    refusal: Refusal
    text: str
    via: str = ""
    payload_sha256: str = ""
    request_id: str = ""
    times: int = 1


GateEvent = Requested | Approved | Vetoed | Lapsed
"""Events of a request; `Denied` belongs to none. `ops.Accepted` ends the collecting and begins its operation."""


class RequestView(msgspec.Struct, frozen=True, kw_only=True):
    """A request as its records add up (`core.requests.fold`)."""

    request_id: OpId
    state: RequestState
    request: Request
    payload: str
    payload_sha256: str
    ruling: Ruling
    approvals: tuple[Approval, ...] = ()
    vetoed: Vetoed | None = None
    lapsed: Lapsed | None = None
    requested_at_ms: int
    ended_at_ms: int = 0
    via: str = ""
