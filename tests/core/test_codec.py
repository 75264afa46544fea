"""A record's bytes prove themselves and the record before them, and stay readable for ever."""

import hashlib
import json
from typing import cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.journal.samples import EVENT_TYPES, draft, intent, of
from trueup.core import codec
from trueup.core.codec import Head
from trueup.model.errors import BadInput, Corrupt
from trueup.model.ids import Epoch, OpId, Vmid
from trueup.model.limits import RECORD_MAX_BYTES
from trueup.model.ops import Adopted, Draft, Event, Paused, Started, TaskRunning

EVENTS = st.one_of([of(event) for event in EVENT_TYPES])
DRAFTS = st.builds(
    Draft, record_id=st.text(min_size=1), at_ms=st.integers(0, codec.INT_MAX), op_id=st.text(), event=EVENTS
)
HEADS = st.builds(
    Head,
    seq=st.integers(0, 10**9),
    epoch=st.integers(0, 10**6),
    hash=st.binary().map(lambda b: hashlib.sha256(b).hexdigest()),
)
SEAL = 75

# Written once by this program. If this line cannot be read any more, nobody's journal can.
GOLDEN = (
    b'{"v":1,"seq":1,"epoch":1,"record_id":"r-1","at_ms":1700000000000,"op_id":"",'
    b'"prev_hash":"' + codec.GENESIS.encode() + b'","event":{"guests":["web-1"],"type":"paused"},'
)


def line_of(event: Event) -> bytes:
    return codec.seal(Head(), Epoch(1), draft("op-1", event), codec.encode_event(event))[1]


def sealed(body: dict) -> bytes:
    """A line with a right hash around whatever body."""
    data = msgspec.json.encode(body)[:-1]
    return data + b',"hash":"' + hashlib.sha256(data).hexdigest().encode() + b'"}'


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda t: t.__name__)
def test_every_event_comes_back_as_it_was(event_type):
    @settings(max_examples=40)
    @given(event=of(event_type), head=HEADS, text=st.text(min_size=1))
    def check(event, head, text):
        sample = Draft(record_id=text, at_ms=7, op_id=text, event=event)
        record, line = codec.seal(head, Epoch(head.epoch + 1), sample, codec.encode_event(event))
        assert codec.decode(line, seq=record.seq) == record
        assert codec.encode(record) == line
        assert codec.link(head, record) == Head(seq=head.seq + 1, epoch=head.epoch + 1, hash=record.hash)

    check()


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda t: t.__name__)
def test_every_flipped_bit_is_refused(event_type):
    @settings(max_examples=1)
    @given(event=of(event_type))
    def check(event):
        line = line_of(event)
        for position in range(len(line)):
            for bit in range(8):
                damaged = bytearray(line)
                damaged[position] ^= 1 << bit
                with pytest.raises(Corrupt) as error:
                    codec.decode(bytes(damaged), seq=9)
                assert error.value.first_bad == 9

    check()


@given(data=st.data(), event=EVENTS)
def test_cut_lengthened_and_spliced_lines_are_refused(data, event):
    line = line_of(event)
    cut = data.draw(st.integers(0, len(line) - 1))
    for damaged in (line[:cut], line[cut + 1 :], line + b" ", line + line, b" " + line, b""):
        with pytest.raises(Corrupt):
            codec.decode(damaged)


@given(noise=st.binary(max_size=200))
def test_noise_is_refused(noise):
    with pytest.raises(Corrupt):
        codec.decode(noise)


@given(first=DRAFTS, second=DRAFTS, head=HEADS)
def test_different_records_have_different_hashes(first, second, head):
    one, _ = codec.seal(head, Epoch(1), first, codec.encode_event(first.event))
    two, _ = codec.seal(head, Epoch(1), second, codec.encode_event(second.event))
    assert (one.hash == two.hash) == (first == second)


def test_the_hash_covers_place_epoch_names_instant_event_and_the_hash_before():
    sample = draft("op-1", Paused())
    head = Head(seq=4, epoch=Epoch(2), hash="ab" * 32)

    def hash_of(head: Head = head, epoch: int = 2, draft: Draft = sample) -> str:
        return codec.seal(head, Epoch(epoch), draft, codec.encode_event(draft.event))[0].hash

    others = [
        hash_of(head=replace(head, seq=5)),
        hash_of(head=replace(head, hash="cd" * 32)),
        hash_of(epoch=3),
        hash_of(draft=replace(sample, record_id="other")),
        hash_of(draft=replace(sample, at_ms=1)),
        hash_of(draft=replace(sample, op_id="other")),
        hash_of(draft=replace(sample, event=Paused(guests=("web-1",)))),
    ]
    assert len({hash_of(), *others}) == len(others) + 1


def test_a_line_of_no_known_place_is_told_as_such():
    with pytest.raises(Corrupt, match=r"record \? is damaged") as error:
        codec.decode(b"x")
    assert error.value.first_bad == 0
    assert codec.INT_MAX == 9_007_199_254_740_991  # what every reader of JSON holds exactly


def test_anybody_can_check_a_line_with_sha256_alone():
    line = line_of(TaskRunning(upid="UPID:x"))
    assert json.loads(line)["hash"] == hashlib.sha256(line[:-SEAL]).hexdigest()


def test_equal_events_have_equal_bytes_whatever_their_order():
    ways = [{"a": "1", "b": "2", "c": "3"}, {"c": "3", "b": "2", "a": "1"}]
    assert len({codec.encode_event(Adopted(vmid=Vmid(101), uid="u", labels=labels)) for labels in ways}) == 1


def test_the_format_is_the_one_that_was_always_written():
    sample = Draft(record_id="r-1", at_ms=1_700_000_000_000, op_id=OpId(""), event=Paused(guests=("web-1",)))
    record, line = codec.seal(Head(), Epoch(1), sample, codec.encode_event(sample.event))
    assert line[:-SEAL] + b"," == GOLDEN
    assert codec.GENESIS == "9836dea17d4a76d7eb595f121eaa484fb0bcdf61c5ca4efdcda69f13ce1b7fae"
    assert record.hash == "e90ece65799b115ab528a21d13c7a1bb91ab0977d2dd92e31abc362ba7c10565"


def test_a_line_without_a_field_that_came_later_still_reads():
    body = json.loads(line_of(Started(intent=intent())))
    del body["hash"], body["event"]["intent"]["one_shot"]
    assert codec.decode(sealed(body)).event == Started(intent=intent())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"v": 2}, "format version 2"),
        ({"v": 1.5}, "names no format version"),
        ({"v": "1"}, "names no format version"),
        ({"event": {"type": "invented"}}, "cannot be read"),
        ({"event": {"type": "paused", "guests": 3}}, "cannot be read"),
        ({"seq": "1"}, "cannot be read"),
        ({"more": 1}, "cannot be read"),
    ],
)
def test_what_this_version_cannot_read_is_refused_and_named(change, says):
    body = json.loads(line_of(Paused()))
    del body["hash"]
    with pytest.raises(Corrupt, match=says) as error:
        codec.decode(sealed(body | change), seq=3)
    assert error.value.first_bad == 3


def test_a_newer_version_says_what_to_do():
    body = json.loads(line_of(Paused()))
    del body["hash"]
    with pytest.raises(Corrupt, match="newer trueup"):
        codec.decode(sealed(body | {"v": 2, "unheard": "of"}))


def test_a_gap_a_foreign_record_and_an_epoch_that_falls_break_the_chain():
    record, _ = codec.seal(Head(), Epoch(2), draft("op-1", Paused()), codec.encode_event(Paused()))
    for head, says in (
        (Head(seq=3), "record 4 is missing"),
        (Head(hash="ab" * 32), "does not follow"),
        (Head(epoch=Epoch(3)), "epoch 2, the one before it of 3"),
    ):
        with pytest.raises(Corrupt, match=says) as error:
            codec.link(head, record)
        assert error.value.first_bad == head.seq + 1


def test_a_record_that_was_changed_in_memory_is_not_written():
    record, _ = codec.seal(Head(), Epoch(1), draft("op-1", Paused()), codec.encode_event(Paused()))
    with pytest.raises(Corrupt):
        codec.encode(replace(record, at_ms=record.at_ms + 1))


def test_what_cannot_be_written_is_refused_before_it_is():
    with pytest.raises(BadInput, match="bytes"):
        codec.encode_event(Paused(guests=("x" * RECORD_MAX_BYTES,)))
    with pytest.raises(BadInput, match="surrogates"):
        codec.encode_event(TaskRunning(upid="\ud800"))
    with pytest.raises(BadInput, match="cannot be written"):
        codec.encode_event(TaskRunning(upid=cast("str", object())))
    with pytest.raises(BadInput, match="another one"):
        codec.encode_event(Paused(guests=cast("tuple[str]", ["a list is no tuple"])))
    for wrong in ({"at_ms": -1}, {"at_ms": codec.INT_MAX + 1}, {"op_id": "\ud800"}, {"record_id": "\ud800"}):
        with pytest.raises(BadInput):
            codec.seal(Head(), Epoch(1), replace(draft("op", Paused()), **wrong), b"{}")


@pytest.mark.parametrize("at_ms", [0, codec.INT_MAX])
def test_the_first_and_the_last_instant_can_be_written(at_ms: int):
    sample = replace(draft("op-1", Paused(guests=("web-1",))), at_ms=at_ms)
    record, line = codec.seal(Head(), Epoch(1), sample, codec.encode_event(sample.event))
    assert codec.decode(line, seq=record.seq).at_ms == at_ms


def test_records_of_one_epoch_follow_each_other():
    event = Paused(guests=("web-1",))
    head = Head()
    for _ in range(2):
        record, _line = codec.seal(head, Epoch(1), draft("op-1", event), codec.encode_event(event))
        head = codec.link(head, record)
    assert (head.seq, head.epoch) == (2, 1)


def test_an_event_may_fill_a_record_to_the_last_byte():
    bare = len(codec.encode_event(Paused(guests=("",))))
    assert len(codec.encode_event(Paused(guests=("x" * (RECORD_MAX_BYTES - bare),)))) == RECORD_MAX_BYTES
    with pytest.raises(BadInput):
        codec.encode_event(Paused(guests=("x" * (RECORD_MAX_BYTES - bare + 1),)))
