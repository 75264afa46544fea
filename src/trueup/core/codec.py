"""Records <-> bytes. A record is one line of JSON that proves itself and the line before it.

```
{"v":1,"seq":7,"epoch":2,"record_id":"…","at_ms":…,"op_id":"…","prev_hash":"…","event":{…},"hash":"…"}
└─────────────────────────────── body ─────────────────────────────────────────────┘└──── seal ────┘
```
`hash` is SHA-256 over the body's bytes as they stand, and `prev_hash` is part of the body: so a line's hash covers
its version, its place, its event and, through the line before, all of history. There is no second checksum: the hash
is one. Nothing is encoded again to verify, so that a field added in a later version never changes an old line's hash,
and anybody can check an exported journal with `sha256sum` and no program of ours.

The seal (`,"hash":"` + 64 hexadecimal digits + `"}`) and the leading `{"v":` stay the same in every version; all else
may change with it.
"""

import hashlib
from typing import Final

import msgspec
from msgspec.structs import replace

from trueup.model.errors import BadInput, Corrupt
from trueup.model.ids import Epoch, OpId
from trueup.model.limits import RECORD_MAX_BYTES
from trueup.model.ops import Draft, Event, Record

FORMAT_VERSION: Final = 1
"""The version of a record's body that is written. All up to it are read."""

GENESIS: Final = hashlib.sha256(b"trueup journal: nothing was before").hexdigest()
"""What the first record names as the hash before it."""

INT_MAX: Final = 2**53 - 1
"""Largest number in a record: beyond it JSON readers round, and SQLite's integers end not far above."""

_SEAL_HEAD: Final = b',"hash":"'
_SEAL_TAIL: Final = b'"}'
_HASH_CHARS: Final = 64
_SEAL_CHARS: Final = len(_SEAL_HEAD) + _HASH_CHARS + len(_SEAL_TAIL)

UPGRADE: Final = "use the newer trueup that wrote it"


class Head(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where the chain ends: the last record's place, epoch and hash."""

    seq: int = 0
    epoch: Epoch = Epoch(0)
    hash: str = GENESIS


class _Body(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record as it is hashed. The order of the fields is the order of the bytes."""

    v: int
    seq: int
    epoch: int
    record_id: str
    at_ms: int
    op_id: str
    prev_hash: str
    event: msgspec.Raw


class _Line(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A whole line as it is read."""

    v: int
    seq: int
    epoch: Epoch
    record_id: str
    at_ms: int
    op_id: OpId
    prev_hash: str
    event: Event
    hash: str


class _Version(msgspec.Struct, frozen=True, kw_only=True):
    """All that is asked of a line before its version is known."""

    v: int


# Fields and keys in sorted order: equal values give equal bytes, wherever a field stands in the source.
_event_encoder = msgspec.json.Encoder(order="sorted")
_event_decoder = msgspec.json.Decoder(Event)
_body_encoder = msgspec.json.Encoder()
_line_decoder = msgspec.json.Decoder(_Line)
_version_decoder = msgspec.json.Decoder(_Version)


def encode_event(event: Event) -> bytes:
    """Return the event's canonical bytes: equal events give equal bytes.

    They are read back before they are believed: a record that is durable but cannot be read would end the journal.

    Raises:
        BadInput: it is larger than `RECORD_MAX_BYTES`, or holds what JSON cannot carry (half a surrogate pair, a value
            of a wrong type).
    """
    name = type(event).__name__
    try:
        data = _event_encoder.encode(event)
        again = _event_decoder.decode(data)
    except (UnicodeEncodeError, OverflowError, TypeError, msgspec.MsgspecError) as error:
        raise BadInput(what=f"the event {name} cannot be written: {error}") from error
    if again != event:
        raise BadInput(what=f"the event {name} cannot be written: it would be read as another one")
    if len(data) > RECORD_MAX_BYTES:
        raise BadInput(what=f"the event {name} has {len(data)} bytes; a record holds {RECORD_MAX_BYTES}")
    return data


def seal(head: Head, epoch: Epoch, draft: Draft, event: bytes) -> tuple[Record, bytes]:
    """Put a draft behind `head`: return the record and its line. `event` is `encode_event(draft.event)`.

    Raises:
        BadInput: the draft's instant or names cannot be written.
    """
    if not 0 <= draft.at_ms <= INT_MAX:
        raise BadInput(what=f"a record cannot be of the instant {draft.at_ms}")
    body = _Body(
        v=FORMAT_VERSION,
        seq=head.seq + 1,
        epoch=epoch,
        record_id=draft.record_id,
        at_ms=draft.at_ms,
        op_id=draft.op_id,
        prev_hash=head.hash,
        event=msgspec.Raw(event),
    )
    try:
        data = _body_encoder.encode(body)[:-1]
    except UnicodeEncodeError as error:
        raise BadInput(what=f"a record's name cannot be written: {error}") from error
    digest = hashlib.sha256(data).hexdigest()
    record = Record(
        seq=body.seq,
        epoch=epoch,
        record_id=draft.record_id,
        at_ms=draft.at_ms,
        op_id=draft.op_id,
        event=draft.event,
        prev_hash=head.hash,
        hash=digest,
    )
    return record, data + _SEAL_HEAD + digest.encode() + _SEAL_TAIL


def encode(record: Record) -> bytes:
    """Return the line of a record that has its place already.

    Raises:
        Corrupt: the record's hash is not that of its content.
    """
    before = Head(seq=record.seq - 1, hash=record.prev_hash)
    draft = Draft(record_id=record.record_id, at_ms=record.at_ms, op_id=record.op_id, event=record.event)
    sealed, line = seal(before, record.epoch, draft, encode_event(record.event))
    if sealed.hash != record.hash:
        raise Corrupt(what="the record's hash is not that of its content", first_bad=record.seq)
    return line


def decode(line: bytes, *, seq: int = 0) -> Record:
    """Read a line and verify its hash. `seq` is the place it was found at, for the error (0 = not known).

    Whether it follows the record before it is `link`'s question.

    Raises:
        Corrupt: a bit is not as it was written, or a newer trueup wrote the line.
    """
    _verify(line, seq)
    version = _version(line, seq)
    if version > FORMAT_VERSION:
        raise Corrupt(
            what=f"record {seq or '?'} has format version {version}; this trueup reads up to {FORMAT_VERSION}",
            first_bad=seq,
            remedy=UPGRADE,
        )
    try:
        found = _line_decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise Corrupt(what=f"record {seq or '?'} cannot be read: {error}", first_bad=seq) from error
    return Record(
        seq=found.seq,
        epoch=found.epoch,
        record_id=found.record_id,
        at_ms=found.at_ms,
        op_id=found.op_id,
        event=found.event,
        prev_hash=found.prev_hash,
        hash=found.hash,
    )


def link(head: Head, record: Record) -> Head:
    """Return the chain's end after `record`.

    Raises:
        Corrupt: the record does not follow `head`.
    """
    expected = head.seq + 1
    if record.seq != expected:
        raise Corrupt(what=f"record {expected} is missing; record {record.seq} stands in its place", first_bad=expected)
    if record.prev_hash != head.hash:
        raise Corrupt(what=f"record {expected} does not follow the record before it", first_bad=expected)
    if record.epoch < head.epoch:
        raise Corrupt(
            what=f"record {expected} is of epoch {record.epoch}, the one before it of {head.epoch}", first_bad=expected
        )
    return replace(head, seq=record.seq, epoch=record.epoch, hash=record.hash)


def _verify(line: bytes, seq: int) -> None:
    """Compare the line's seal with the hash of its body."""
    body, sealed = line[:-_SEAL_CHARS], line[-_SEAL_CHARS:]
    expected = _SEAL_HEAD + hashlib.sha256(body).hexdigest().encode() + _SEAL_TAIL
    if sealed != expected:
        raise Corrupt(what=f"record {seq or '?'} is damaged: its checksum does not match", first_bad=seq)


def _version(line: bytes, seq: int) -> int:
    if line.startswith(b'{"v":1,'):
        return 1
    try:
        return _version_decoder.decode(line).v
    except msgspec.MsgspecError as error:
        raise Corrupt(what=f"record {seq or '?'} names no format version", first_bad=seq) from error
