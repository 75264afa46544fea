"""What the agent leans on in PVE, asked of every stand-in for it alike. What one of them cannot do is listed."""

from collections.abc import Generator

import pytest

from tests.contracts import places
from tests.contracts.differences import FAKEPVE
from tests.contracts.places import Place, later
from tests.fakepve.front import COMMAND
from trueup.adapters.pve import PveClient
from trueup.model.errors import Absent, NotSent, PveError, ReadFailed, Refused
from trueup.model.guests import Power
from trueup.model.ids import GuestType, NodeName, Upid, Vmid
from trueup.model.pve import Call, Done, TaskStarted

PVE1, QEMU = NodeName("pve1"), GuestType.QEMU
MADE = Vmid(105)
GUEST = f"/nodes/pve1/qemu/{MADE}"
TEXT = "a %41 + ü\n<!-- x -->"
PLACES = {"in process": places.in_process, "over HTTPS": places.over_https, "fakepve": places.fakepve}


async def ended(pve: PveClient, upid: Upid) -> str:
    for _ in range(400):
        state = await pve.task(upid)
        assert state is not None
        if not state.running:
            return state.exit_status
        await later()
    raise AssertionError(f"{upid.text} still runs")


async def done(pve: PveClient, method: str, path: str, **params: str) -> None:
    reply = await pve.send(Call(method=method, path=path, params=params))
    if isinstance(reply, TaskStarted):
        assert await ended(pve, reply.upid) == "OK"


async def refused(pve: PveClient, words: str, method: str, path: str, **params: str) -> None:
    with pytest.raises(Refused, match=words):
        await pve.send(Call(method=method, path=path, params=params))


async def make(pve: PveClient) -> None:
    await done(pve, "POST", "/nodes/pve1/qemu", vmid=str(MADE), name="vm105", memory="512", description=TEXT)


async def the_cluster_is_read(pve: PveClient) -> None:
    cluster = await pve.cluster()
    assert cluster.quorate
    assert [node.name for node in cluster.nodes if node.online] == ["pve1"]
    assert {row.vmid for row in await pve.resources()} == {Vmid(9000)}


async def the_rights_are_told(pve: PveClient) -> None:
    assert await pve.sees_all_guests()


async def a_template_is_read(pve: PveClient) -> None:
    assert await pve.statuses(PVE1) == {Vmid(9000): Power.STOPPED}
    (row,) = await pve.resources()
    assert (row.vmid, row.template) == (Vmid(9000), True)
    config = await pve.config(PVE1, QEMU, Vmid(9000))
    assert config.config["cores"] == "1"
    assert config.digest
    assert config.pending == ()


async def what_is_not_there_is_absent(pve: PveClient) -> None:
    with pytest.raises(Absent):
        await pve.config(PVE1, QEMU, Vmid(999))
    with pytest.raises(Absent):
        await pve.running(PVE1, QEMU, Vmid(999))


async def an_unknown_task_is_none(pve: PveClient) -> None:
    upid = Upid.parse("UPID:pve1:00001E85:0008EA42:6B046C7F:qmstart:720:root@pam!trueup:")
    assert await pve.task(upid) is None


async def an_unknown_node_is_no_absence(pve: PveClient) -> None:
    with pytest.raises(ReadFailed) as caught:
        await pve.config(NodeName("nowhere"), QEMU, MADE)
    assert not isinstance(caught.value, Absent)


async def a_creation_is_a_task_of_ours(pve: PveClient) -> None:
    call = Call(method="POST", path="/nodes/pve1/qemu", params={"vmid": str(MADE), "memory": "512"})
    reply = await pve.send(call)
    assert isinstance(reply, TaskStarted)
    assert (reply.upid.type, reply.upid.id) == ("qmcreate", str(MADE))
    assert await ended(pve, reply.upid) == "OK"
    assert reply.upid in {row.upid for row in (await pve.tasks(PVE1)).rows}


async def a_task_names_the_token(pve: PveClient) -> None:
    await make(pve)
    assert {row.upid.user for row in (await pve.tasks(PVE1)).rows} == {pve.token}


async def a_vmid_is_given_once(pve: PveClient) -> None:
    await make(pve)
    await refused(pve, "already exists", "POST", "/nodes/pve1/qemu", vmid=str(MADE))


async def a_description_comes_back_as_it_was(pve: PveClient) -> None:
    await make(pve)
    assert (await pve.config(PVE1, QEMU, MADE)).config["description"] == TEXT


async def a_write_with_an_old_digest_is_refused(pve: PveClient) -> None:
    await make(pve)
    before = (await pve.config(PVE1, QEMU, MADE)).digest
    write = Call(method="PUT", path=f"{GUEST}/config", params={"cores": "2", "digest": before})
    assert await pve.send(write) == Done()
    after = await pve.config(PVE1, QEMU, MADE)
    assert after.config["cores"] == "2"
    assert after.digest != before
    await refused(pve, "checksum mismatch", "PUT", f"{GUEST}/config", cores="3", digest=before)
    assert (await pve.config(PVE1, QEMU, MADE)).config["cores"] == "2"


async def equal_text_has_an_equal_digest(pve: PveClient) -> None:
    await make(pve)
    digests: list[str] = []
    for _ in range(2):  # the text that a creation leaves differs in a blank from what the next write makes of it
        await done(pve, "PUT", f"{GUEST}/config", onboot="1")
        await done(pve, "PUT", f"{GUEST}/config", delete="onboot")
        digests.append((await pve.config(PVE1, QEMU, MADE)).digest)
    assert digests[0] == digests[1]


async def protection_stops_a_destroy(pve: PveClient) -> None:
    await make(pve)
    await done(pve, "PUT", f"{GUEST}/config", protection="1")
    await refused(pve, "protection mode enabled", "DELETE", GUEST)
    assert (await pve.config(PVE1, QEMU, MADE)).config["protection"] == "1"


async def a_guest_starts_and_stops(pve: PveClient) -> None:
    await make(pve)
    assert not await pve.running(PVE1, QEMU, MADE)
    await done(pve, "POST", f"{GUEST}/status/start")
    assert await pve.running(PVE1, QEMU, MADE)
    await done(pve, "POST", f"{GUEST}/status/stop")
    assert not await pve.running(PVE1, QEMU, MADE)


async def a_running_guest_is_not_destroyed(pve: PveClient) -> None:
    await make(pve)
    await done(pve, "POST", f"{GUEST}/status/start")
    await refused(pve, "is running", "DELETE", GUEST)
    assert await pve.running(PVE1, QEMU, MADE)


async def what_waits_for_a_restart_is_pending(pve: PveClient) -> None:
    await make(pve)
    await done(pve, "POST", f"{GUEST}/status/start")
    await done(pve, "PUT", f"{GUEST}/config", cores="3")
    assert (await pve.config(PVE1, QEMU, MADE)).pending == ("cores",)


async def a_destroyed_guest_is_gone_for_good(pve: PveClient) -> None:
    await make(pve)
    await done(pve, "DELETE", GUEST, purge="1")
    with pytest.raises(Absent):
        await pve.config(PVE1, QEMU, MADE)
    await refused(pve, "does not exist", "DELETE", GUEST)


async def a_wrong_parameter_is_not_sent(pve: PveClient) -> None:
    with pytest.raises(NotSent):
        await pve.send(Call(method="POST", path="/nodes/pve1/qemu", params={"vmid": "106", "nosuch": "1"}))
    assert Vmid(106) not in {row.vmid for row in await pve.resources()}


async def an_unknown_call_is_not_sent(pve: PveClient) -> None:
    with pytest.raises(NotSent):
        await pve.send(Call(method="POST", path="/nodes/pve1/nosuch"))


async def a_clone_is_a_task_of_its_source(pve: PveClient) -> None:
    call = Call(method="POST", path="/nodes/pve1/qemu/9000/clone", params={"newid": str(MADE), "full": "1"})
    reply = await pve.send(call)
    assert isinstance(reply, TaskStarted)
    assert (reply.upid.type, reply.upid.id) == ("qmclone", "9000")
    assert await ended(pve, reply.upid) == "OK"
    assert (await pve.config(PVE1, QEMU, MADE)).config["cores"] == "1"


async def a_snapshot_has_its_name_once(pve: PveClient) -> None:
    call = Call(method="POST", path="/nodes/pve1/qemu/9000/clone", params={"newid": str(MADE), "full": "1"})
    reply = await pve.send(call)
    assert isinstance(reply, TaskStarted)
    await ended(pve, reply.upid)
    await done(pve, "POST", f"{GUEST}/snapshot", snapname="s1")
    again = await pve.send(Call(method="POST", path=f"{GUEST}/snapshot", params={"snapname": "s1"}))
    assert isinstance(again, TaskStarted)
    assert "already used" in await ended(pve, again.upid)


BEHAVIOURS = (
    the_cluster_is_read, the_rights_are_told, a_template_is_read, what_is_not_there_is_absent, an_unknown_task_is_none,
    an_unknown_node_is_no_absence, a_creation_is_a_task_of_ours, a_task_names_the_token, a_vmid_is_given_once,
    a_description_comes_back_as_it_was, a_write_with_an_old_digest_is_refused, equal_text_has_an_equal_digest,
    protection_stops_a_destroy, a_guest_starts_and_stops, a_running_guest_is_not_destroyed,
    what_waits_for_a_restart_is_pending, a_destroyed_guest_is_gone_for_good, a_wrong_parameter_is_not_sent,
    an_unknown_call_is_not_sent, a_clone_is_a_task_of_its_source, a_snapshot_has_its_name_once,
)  # fmt: skip


@pytest.fixture(scope="module", params=PLACES)
def named_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[tuple[str, Place]]:
    """One process for all behaviours; each leaves it as it was."""
    name: str = request.param
    if name == "fakepve" and not COMMAND.exists():
        pytest.skip("fakepve is not installed")
    with PLACES[name](tmp_path_factory.mktemp("place")) as place:
        yield name, place


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda one: one.__name__)
def test_it_behaves_as_pve(named_place: tuple[str, Place], behaviour) -> None:
    name, place = named_place

    async def story(pve: PveClient) -> None:
        try:
            await behaviour(pve)
        finally:
            await tidy(pve)

    if name == "fakepve" and behaviour.__name__ in FAKEPVE:
        with pytest.raises((AssertionError, PveError)):
            place(story)
    else:
        place(story)


async def tidy(pve: PveClient) -> None:
    if MADE not in {row.vmid for row in await pve.resources()}:
        return
    if await pve.running(PVE1, QEMU, MADE):
        await done(pve, "POST", f"{GUEST}/status/stop")
    if "protection" in (await pve.config(PVE1, QEMU, MADE)).config:
        await done(pve, "PUT", f"{GUEST}/config", delete="protection")
    await done(pve, "DELETE", GUEST)


def test_the_list_names_behaviours_that_there_are() -> None:
    assert set(FAKEPVE) <= {behaviour.__name__ for behaviour in BEHAVIOURS}
