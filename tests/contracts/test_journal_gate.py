"""What every journal owes the gate: what people signed is asked for once, accepted as signed, and never done twice."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contracts.test_journal import opener, tell  # noqa: F401 - fixtures
from tests.journal.samples import (
    TOKEN,
    accepted,
    approved,
    draft,
    epoch,
    failed,
    intent,
    lapsed,
    request,
    requested,
    running,
    sent,
    signed,
    started,
    succeeded,
    vetoed,
)
from trueup.core import lifecycle, requests
from trueup.model.errors import BadInput, IllegalTransition, InvariantBroken
from trueup.model.gate import Denied, Refusal, RequestState
from trueup.model.gate_moment import Lookup, Moment
from trueup.model.ids import Digest, NodeName, OpId, TokenId, Vmid
from trueup.model.ops import (
    Accepted,
    Adopted,
    Contradicted,
    Fenced,
    Fencing,
    Kind,
    OpState,
    Reason,
    Released,
    Row,
    TokenRetired,
    Unresolved,
)

CONTRADICTED = Contradicted(what="its task turned up")


async def states(journal) -> dict[str, tuple[str, str]]:
    """Each request's state, and that of its operation."""
    ops = {view.op_id: view.state.value for view in await journal.ops()}
    return {v.request_id: (v.state.value, ops.get(v.request_id, "")) for v in await journal.requests()}


async def refuses(journal, e, *drafts, match: str | None = None) -> None:
    """The append is illegal, and writes nothing."""
    before = await journal.records()
    with pytest.raises(IllegalTransition, match=match):
        await journal.append(e, list(drafts))
    assert await journal.records() == before


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_request_is_what_its_records_add_up_to(tell):  # noqa: F811
    async def story(journal, e):
        assert await journal.request(OpId("a")) is None
        for step in (*signed("a"), sent("a"), running("a"), succeeded("a")):
            await journal.append(e, [step])
            records = await journal.records(op_id=OpId("a"))
            assert await journal.request(OpId("a")) == requests.fold(records)
            assert await journal.op(OpId("a")) == lifecycle.fold(records)
        found = await journal.request(OpId("a"))
        assert (found.state, found.request) == (RequestState.ACCEPTED, request("a"))
        assert len(found.approvals) == 1

    tell(story)


def test_requests_are_listed_newest_first_by_state(tell):  # noqa: F811
    async def story(journal, e):
        for number in range(6):
            await journal.append(e, [requested(f"r{number}", 101 + number)])
        await journal.append(e, [accepted("r0", 101), vetoed("r1"), vetoed("r2"), lapsed("r3")])
        await journal.append(e, [lapsed("r4", RequestState.REFUSED)])

        async def names(**which):
            return [view.request_id for view in await journal.requests(**which)]

        assert await names() == ["r5", "r4", "r3", "r2", "r1", "r0"]
        assert await names(limit=2) == ["r5", "r4"]
        assert await names(state=RequestState.VETOED) == ["r2", "r1"]
        assert await names(state=RequestState.VETOED, limit=1) == ["r2"]
        assert await names(state=RequestState.PENDING) == ["r5"]
        assert await names(state=RequestState.ACCEPTED) == ["r0"]
        assert await names(state=RequestState.EXPIRED) == ["r3"]
        assert await names(state=RequestState.REFUSED) == ["r4"]
        for strange in ("", "none", "\udcff"):
            assert await journal.request(OpId(strange)) is None
            assert await journal.request_of_nonce(strange) is None
            assert await journal.requests_of_key(strange) == ()

    tell(story)


def test_requests_are_found_by_nonce_and_by_key(tell):  # noqa: F811
    async def story(journal, e):
        await journal.append(e, [requested("a", idempotency_key="k"), vetoed("a")])
        await journal.append(e, [requested("b", idempotency_key="k"), lapsed("b")])
        await journal.append(e, [requested("c", idempotency_key="k"), requested("other")])
        assert (await journal.request_of_nonce("n-a")).request_id == "a"
        assert (await journal.request_of_nonce("n-c")).state is RequestState.PENDING
        assert await journal.request_of_nonce("n-none") is None
        assert [view.request_id for view in await journal.requests_of_key("k")] == ["c", "b", "a"]
        assert await journal.requests_of_key("none") == ()

    tell(story)


def test_the_newest_instant_is_no_older_after_the_clock_stepped_back(tell):  # noqa: F811
    async def story(journal, e):
        assert await journal.newest_ms() == 500
        await journal.append(e, [started("a", at_ms=7_000), running("a", at_ms=9_000)])
        assert await journal.newest_ms() == 9_000
        await journal.append(e, [succeeded("a", at_ms=1_000)])
        assert await journal.newest_ms() == 9_000
        await journal.append(e, [draft("", Denied(refusal=Refusal.SIGNATURE, text="no"), 9_500)])
        assert await journal.newest_ms() == 9_500

    tell(story)


def test_labels_are_those_last_applied_to_a_guest_that_is_ours(tell):  # noqa: F811
    async def story(journal, e):
        def adopted(vmid: int, uid: str, **labels: str):
            return draft("", Adopted(vmid=Vmid(vmid), uid=uid, labels=labels))

        await journal.append(e, [adopted(101, "u1", tier="web"), adopted(102, "u2", tier="db"), adopted(103, "u3")])
        await journal.append(e, [adopted(101, "u1", tier="cache", team="blue")])
        await journal.append(e, [draft("", Released(vmid=Vmid(102), uid="u2"))])
        assert await journal.labels() == {101: {"tier": "cache", "team": "blue"}, 103: {}}

    tell(story)


def test_who_is_ours_follows_the_order_within_an_append(tell):  # noqa: F811
    async def story(journal, e):
        def adopted(vmid: int, uid: str):
            return draft("", Adopted(vmid=Vmid(vmid), uid=uid, labels={"of": uid}))

        def released(vmid: int, uid: str):
            return draft("", Released(vmid=Vmid(vmid), uid=uid))

        first = [adopted(101, "u1"), adopted(102, "u2"), released(101, "u1"), adopted(101, "u3"), adopted(101, "u4")]
        await journal.append(e, [*first, adopted(103, "u5"), released(102, "u2"), released(103, "another")])
        assert await journal.adopted() == {101: "u4", 103: "u5"}
        assert await journal.labels() == {101: {"of": "u4"}, 103: {"of": "u5"}}

    tell(story)


def test_one_shots_are_counted_from_their_start(tell):  # noqa: F811
    async def story(journal, e):
        for number in range(3):
            op = f"op-{number}"
            await journal.append(e, [*signed(op, 101 + number), sent(op, 101 + number, at_ms=1_000 * number + 1_000)])
        await journal.append(e, [*signed("unsent", 110), failed("unsent", Reason.EXPIRED, 5_000)])
        await journal.append(e, [*signed("waiting", 111), started("the loop's own", 112, at_ms=9_000)])
        await journal.append(e, [failed("op-2", Reason.REFUSED)])

        async def names(since_ms: int):
            return [view.op_id for view in await journal.one_shots_since(since_ms)]

        assert await names(0) == ["op-0", "op-1", "op-2"]
        assert await names(2_000) == ["op-1", "op-2"]
        assert await names(2_001) == ["op-2"]
        assert await names(3_001) == []

    tell(story)


def test_a_moment_says_what_single_reads_say(tell):  # noqa: F811
    async def story(journal, e):
        assert await journal.moment(Lookup()) == Moment(newest_ms=500)
        web = draft("", Adopted(vmid=Vmid(101), uid="u1", labels={"tier": "web"}))
        await journal.append(e, [web, draft("", Adopted(vmid=Vmid(104), uid="u4", labels={"tier": "db"}))])
        await journal.append(e, [requested("a", 101, idempotency_key="k"), vetoed("a")])
        await journal.append(e, [*signed("b", 101, idempotency_key="k"), sent("b", 101, at_ms=4_000)])
        await journal.append(e, [*signed("c", 104), *signed("other", 105)])
        await journal.append(e, [started("lost", 106), started("lost too", 106), started("known", 107)])
        for op in ("lost too", "lost"):
            await journal.append(
                e, [draft(op, Unresolved(reason=Reason.NOT_ATTRIBUTABLE, row=Row.R13, settles_by="a look"))]
            )

        strange = frozenset({"none", "", "\udcff"})
        found = await journal.moment(
            Lookup(
                nonces=frozenset({"n-b", "n-other"}) | strange,
                keys=frozenset({"k", "k-c"}) | strange,
                ids=frozenset({OpId("a"), OpId("known"), *(OpId(each) for each in strange)}),
                guests=frozenset({Vmid(104), Vmid(106), Vmid(107), Vmid(999)}),
                started_since_ms=4_000,
                accepted=True,
                counted=True,
            )
        )
        a, b, c = [await journal.request(OpId(each)) for each in "abc"]
        assert found.newest_ms == await journal.newest_ms() == 4_000
        assert found.of_nonce == {"n-b": b, "n-other": await journal.request_of_nonce("n-other")}
        assert found.of_key == {"k": (b, a), "k-c": (c,)}
        assert found.requests == {"a": a}
        assert found.ops == {each: await journal.op(OpId(each)) for each in ("b", "c", "other", "known")}
        assert found.labels == {101: {"tier": "web"}, 104: {"tier": "db"}}
        assert found.unresolved == {106: "lost"}
        assert found.started == await journal.one_shots_since(4_000)
        assert found.accepted == await journal.accepted()
        assert (len(found.started), len(found.accepted), found.count) == (1, 2, 4)
        assert (await journal.moment(Lookup(started_since_ms=4_001))).started == ()

    tell(story)


def test_the_fence_of_a_destroy_that_never_arrived_stands_until_its_token_is_gone(tell):  # noqa: F811
    async def story(journal, e):
        async def destroy(op, vmid, reason=Reason.NOT_STARTED, kind=Kind.DESTROY, digest="d2", fenced=True):
            fence = [draft(op, Fencing(counter=1, digest=Digest("d1"))), draft(op, Fenced(digest=Digest(digest)))]
            end = [*fence, failed(op, reason)] if fenced else [failed(op, reason)]
            await journal.append(e, [*signed(op, vmid, kind=kind), sent(op, vmid, kind=kind), *end])

        await destroy("one", 101)
        await destroy("two", 102)
        await destroy("never fenced", 103, fenced=False)
        await destroy("gone", 104, digest="")
        await destroy("refused", 105, reason=Reason.REFUSED)
        await destroy("no destroy", 106, kind=Kind.ROLLBACK)
        assert [view.op_id for view in await journal.standing_fences()] == ["one", "two"]
        await journal.append(e, [draft("one", CONTRADICTED)])
        assert [view.op_id for view in await journal.standing_fences()] == ["two"]
        nodes = (NodeName("pve1"),)
        await journal.append(e, [draft("", TokenRetired(token=TokenId("another"), nodes=nodes))])
        assert [view.op_id for view in await journal.standing_fences()] == ["two"]
        await journal.append(e, [draft("", TokenRetired(token=TOKEN, nodes=nodes))])
        assert await journal.standing_fences() == ()

    tell(story)


# -- nonces -----------------------------------------------------------------------------------------------------------


def test_a_nonce_is_used_once_whatever_became_of_its_request(tell):  # noqa: F811
    async def story(journal, e):
        again = requested("again", 102, nonce="n-a")
        await journal.append(e, [requested("a")])
        await refuses(journal, e, again, match="nonce was used by request a")
        await journal.append(e, [vetoed("a")])
        await refuses(journal, e, again, match="nonce was used by request a")
        await refuses(journal, e, requested("b"), requested("c", nonce="n-b"), match="nonce was used by request b")
        one = journal.append(e, [requested("d", nonce="n-same")])
        two = journal.append(e, [requested("e", nonce="n-same")])
        answers = await asyncio.gather(one, two, return_exceptions=True)
        assert [type(answer) for answer in answers] == [tuple, IllegalTransition]

    tell(story)


# -- idempotency keys -------------------------------------------------------------------------------------------------

HOLDING = {
    "pending": [requested],
    "accepted": [requested, accepted],
    "started": [requested, accepted, sent],
    "at work": [requested, accepted, sent, running],
    "succeeded": [requested, accepted, sent, running, succeeded],
    "contradicted": [requested, accepted, sent, failed, lambda op: draft(op, CONTRADICTED)],
}
FREE = {
    "vetoed": [requested, vetoed],
    "expired": [requested, lapsed],
    "refused": [requested, lambda op: lapsed(op, RequestState.REFUSED)],
    "vetoed in time": [requested, accepted, vetoed, lambda op: failed(op, Reason.VETOED)],
    "never sent": [requested, accepted, lambda op: failed(op, Reason.EXPIRED)],
    "failed": [requested, accepted, sent, failed],
}


def with_key(op: str, key: str, vmid: int = 102) -> list:
    return signed(op, vmid, idempotency_key=key)


@pytest.mark.parametrize("way", HOLDING)
def test_a_key_is_held_by_one_request(tell, way):  # noqa: F811
    async def story(journal, e):
        await journal.append(e, [step("a") for step in HOLDING[way]])
        again = requested("b", 102, idempotency_key="k-a")  # refused when it is asked for, not only when accepted
        await refuses(journal, e, again, match="key is held by request a")
        await journal.append(e, with_key("c", "k-c"))

    tell(story)


@pytest.mark.parametrize("way", FREE)
def test_a_key_is_free_again_once_it_is_sure_that_nothing_happens(tell, way):  # noqa: F811
    async def story(journal, e):
        for step in FREE[way][:-2]:
            await journal.append(e, [step("a")])
        await refuses_if_known(journal, e)
        await journal.append(e, [step("a") for step in FREE[way][-2:]])
        await journal.append(e, with_key("b", "k-a"))
        await refuses(journal, e, *with_key("c", "k-a", 103), match="key is held by request b")

    async def refuses_if_known(journal, e):
        if await journal.request(OpId("a")) is not None:
            await refuses(journal, e, *with_key("b", "k-a"), match="key is held by request a")

    tell(story)


def test_a_key_is_free_within_the_append_that_ends_its_holder(tell):  # noqa: F811
    async def story(journal, e):
        await journal.append(e, [requested("a")])
        await journal.append(e, [vetoed("a"), *with_key("b", "k-a")])
        one = journal.append(e, [vetoed("b"), failed("b", Reason.VETOED)])
        two = journal.append(e, with_key("c", "k-a", 103))
        answers = await asyncio.gather(one, two)
        assert [len(answer) for answer in answers] == [2, 3]

    tell(story)


def test_a_key_is_applied_by_the_very_record_that_says_so(tell):  # noqa: F811
    async def story(journal, e):
        await journal.append(e, [*signed("a"), sent("a")])
        await refuses(journal, e, succeeded("a"), succeeded("a"))  # nothing of it is written
        await journal.append(e, [failed("a")])
        await journal.append(e, [*with_key("b", "k-a"), sent("b", 102), succeeded("b")])
        await refuses(journal, e, *with_key("c", "k-a", 103), match="held by request b")
        held = {view.request_id: (await journal.op(view.request_id)).state for view in await journal.requests()}
        assert held == {"a": OpState.FAILED, "b": OpState.SUCCEEDED}

    tell(story)


def test_a_contradiction_takes_its_key_again_and_then_neither_is_started(tell):  # noqa: F811
    async def story(journal, e):
        await journal.append(e, [*signed("a"), sent("a"), failed("a", Reason.PRESUMED_NOT_STARTED)])
        await journal.append(e, [requested("b", 102, idempotency_key="k-a")])
        await journal.append(e, [draft("a", CONTRADICTED)])  # the truth is never refused
        assert [view.op_id for view in await journal.in_flight()] == ["a"]
        await refuses(journal, e, accepted("b", 102, idempotency_key="k-a"), match="key is held by request a")
        await journal.append(e, [failed("a"), accepted("b", 102, idempotency_key="k-a")])
        await journal.append(e, [draft("a", CONTRADICTED)])
        await refuses(journal, e, sent("b", 102), match="key is held by request a")
        await refuses(journal, e, *with_key("c", "k-a", 103), match="key is held by request a, b")
        await journal.append(e, [failed("a")])
        await journal.append(e, [sent("b", 102), running("b"), succeeded("b")])

    tell(story)


# -- accepted as signed, started as accepted --------------------------------------------------------------------------


def test_nothing_is_accepted_that_nobody_asked_for(tell):  # noqa: F811
    async def story(journal, e):
        await refuses(journal, e, accepted("a"), match="nobody asked")
        await journal.append(e, [requested("a"), vetoed("a"), requested("b", 102), lapsed("b")])
        await refuses(journal, e, accepted("a"), match="vetoed cannot take the event Accepted")
        await refuses(journal, e, accepted("b", 102), match="expired cannot take the event Accepted")
        await refuses(journal, e, approved("none"))
        await refuses(journal, e, vetoed("none"))
        await refuses(journal, e, lapsed("none"))

    tell(story)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("nonce", {"nonce": "another"}),
        ("idempotency key", {"idempotency_key": "another"}),
        ("payload", {"payload": "another"}),
        ("kind", {"kind": Kind.STOP}),
        ("guest", {"vmid": 102}),
        ("deadline", {"execute_by_ms": 9_001}),
    ],
)
def test_what_is_accepted_is_what_was_signed(tell, name, wrong):  # noqa: F811
    async def story(journal, e):
        await journal.append(e, [requested("a")])
        await refuses(journal, e, accepted("a", **wrong), match=f"not what was signed: its {name}")
        await journal.append(e, [accepted("a", execute_by_ms=8_999)])

    tell(story)


def test_what_people_sign_is_a_one_shot(tell):  # noqa: F811
    async def story(journal, e):
        await journal.append(e, [requested("a")])
        event = Accepted(intent=intent(), execute_by_ms=1, nonce="n-a", idempotency_key="k-a", payload="p")
        await refuses(journal, e, draft("a", event), match="one-shot")

    tell(story)


def test_a_one_shot_starts_only_once_it_was_accepted(tell):  # noqa: F811
    async def story(journal, e):
        await refuses(journal, e, sent("a"), match="once it was accepted")
        await journal.append(e, [requested("a")])
        await refuses(journal, e, sent("a"), match="once it was accepted")
        await refuses(journal, e, started("a"), match="once it was accepted")
        await journal.append(e, [accepted("a")])
        for wrong in (started("a"), sent("a", 102), sent("a", kind=Kind.STOP)):
            await refuses(journal, e, wrong, match="not what was accepted")
        await journal.append(e, [sent("a")])
        await refuses(journal, e, sent("a"))

    tell(story)


# -- vetoes -----------------------------------------------------------------------------------------------------------


def test_a_veto_ends_what_was_accepted_and_not_sent(tell):  # noqa: F811
    async def story(journal, e):
        await journal.append(e, signed("a"))
        await refuses(journal, e, vetoed("a"), match="in the same append")
        await refuses(journal, e, vetoed("a"), sent("a"))
        await refuses(journal, e, failed("a", Reason.VETOED), match="nobody vetoed")
        assert await states(journal) == {"a": ("accepted", "accepted")}
        await journal.append(e, [vetoed("a"), failed("a", Reason.VETOED)])
        assert await states(journal) == {"a": ("vetoed", "failed")}
        assert await journal.accepted() == ()

    tell(story)


@pytest.mark.parametrize(
    "way", [[], [running], [succeeded], [failed], [lambda op: draft(op, Fencing(counter=1, digest=Digest("d")))]]
)
def test_a_veto_after_the_start_comes_too_late(tell, way):  # noqa: F811
    async def story(journal, e):
        await journal.append(e, [*signed("a"), sent("a"), *(step("a") for step in way)])
        await refuses(journal, e, vetoed("a"), match="too late")
        await refuses(journal, e, vetoed("a"), failed("a", Reason.VETOED), match="too late")
        assert (await journal.request(OpId("a"))).vetoed is None

    tell(story)


@pytest.mark.parametrize("veto_first", [True, False])
def test_of_a_veto_and_a_start_one_wins(tell, veto_first):  # noqa: F811
    async def story(journal, e):
        await journal.append(e, signed("a"))
        veto = [vetoed("a"), failed("a", Reason.VETOED)]
        pair = [veto, [sent("a")]] if veto_first else [[sent("a")], veto]
        answers = await asyncio.gather(*(journal.append(e, drafts) for drafts in pair), return_exceptions=True)
        assert [type(answer) for answer in answers] == [tuple, IllegalTransition]
        wanted = ("vetoed", "failed") if veto_first else ("accepted", "started")
        assert await states(journal) == {"a": wanted}

    tell(story)


# -- drafts that only a mistake can make ------------------------------------------------------------------------------


def test_records_of_the_gate_name_their_request_and_denials_do_not(tell):  # noqa: F811
    async def story(journal, e):
        for wrong in (draft("", requested("a").event), draft("a", Denied(refusal=Refusal.SIGNATURE, text="no"))):
            with pytest.raises(InvariantBroken):
                await journal.append(e, [wrong])
        for vmid in (0, -1, 2**70):
            with pytest.raises(BadInput):
                await journal.append(e, [requested("a", vmid)])
        await journal.append(e, [draft("", Denied(refusal=Refusal.REPLAY, text="seen before", request_id="a"))])

    tell(story)


# -- any sequence -----------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.sampled_from(
                ["ask", "approve", "accept", "veto", "lapse", "send", "work", "win", "fail", "undo", "contradict"]
            ),
        ),
        min_size=1,
        max_size=4,
    ),
    max_size=14,
)
MAKE = {
    "ask": lambda op: requested(op, idempotency_key="k"),
    "approve": approved,
    "accept": lambda op: accepted(op, idempotency_key="k"),
    "veto": vetoed,
    "lapse": lapsed,
    "send": sent,
    "work": running,
    "win": succeeded,
    "fail": failed,
    "undo": lambda op: failed(op, Reason.VETOED),
    "contradict": lambda op: draft(op, CONTRADICTED),
}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(appends=STEPS, together=st.booleans())
def test_whatever_is_appended_a_key_is_applied_once_and_a_veto_holds(opener, tmp_path_factory, appends, together):  # noqa: F811
    async def story():
        journal = await opener(tmp_path_factory.mktemp("property") / "journal.db")
        journal = await journal if asyncio.iscoroutine(journal) else journal
        e = await epoch(journal)
        calls = [journal.append(e, [MAKE[step](op) for op, step in steps]) for steps in appends]
        if together:
            answers = await asyncio.gather(*calls, return_exceptions=True)
        else:
            answers = [(await asyncio.gather(call, return_exceptions=True))[0] for call in calls]
        assert {type(answer) for answer in answers} <= {tuple, IllegalTransition}
        live = set()  # who was started and has not failed
        for record in await journal.records():
            name, op = type(record.event).__name__, record.op_id
            if name == "Started":
                assert not live, "two of one key at work"
            if name in {"Started", "Contradicted"}:
                live.add(op)
            if name == "Failed":
                live.discard(op)
        for op in ("a", "b", "c"):
            records = await journal.records(op_id=OpId(op))
            asked, view = requests.fold(records), lifecycle.fold(records)
            assert await journal.request(OpId(op)) == asked
            assert await journal.op(OpId(op)) == view
            if asked and asked.state is RequestState.VETOED and view:
                assert view.state is OpState.FAILED or view.contradicted
        await journal.close()

    asyncio.run(story())
