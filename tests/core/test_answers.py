"""The table that tells what an answer says about the effect."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.core import answers
from trueup.core.answers import TABLE, Answer, Effect, Target, sort, target_of
from trueup.model.errors import NotSent, Refused, Unknown
from trueup.model.limits import ERROR_TEXT_MAX

CREATE = "/nodes/pve1/qemu"
GUEST = "/nodes/pve1/qemu/105"
CT = "/nodes/pve1/lxc/105"
FLOCK = "can't lock file '/var/lock/qemu-server/lock-105.conf' - got timeout"
CT_FLOCK = "can't lock file '/run/lock/lxc/pve-config-105.lock' - got timeout"
ACTIVE = "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout"
GONE = "Configuration file 'nodes/pve1/qemu-server/105.conf' does not exist"
CHECKSUM = "checksum mismatch (file change by other user?)"

CASES: dict[str, list[tuple[Effect, str, str, int, str]]] = {
    "no answer": [(Effect.UNKNOWN, "POST", GUEST + "/status/start", 0, "")],
    "worker may run": [
        (Effect.UNKNOWN, "POST", GUEST + "/status/start", 500, ACTIVE),
        (Effect.UNKNOWN, "POST", GUEST + "/config", 500, ACTIVE),
        (Effect.UNKNOWN, "DELETE", GUEST, 500, ACTIVE),
    ],
    "broken off behind the proxy": [
        (Effect.UNKNOWN, "PUT", GUEST + "/config", status, "Connection timed out") for status in (596, 597, 598, 599)
    ],
    "not passed on": [(Effect.NOT_SENT, "POST", CREATE, 595, "Connection refused")],
    "not authenticated": [(Effect.NOT_SENT, "DELETE", GUEST, 401, "No ticket")],
    "not permitted": [
        (Effect.NOT_SENT, "DELETE", GUEST, 403, "Permission check failed (/vms/105, VM.Allocate)"),
        (
            Effect.NOT_SENT,
            "PUT",
            GUEST + "/config",
            403,
            "Permission check failed (/vms/105, VM.Config.Disk|VM.Config.CPU)",
        ),
    ],
    "not permitted halfway": [
        (Effect.UNKNOWN, "PUT", GUEST + "/config", 403, "Permission check failed (/mapping/pci/gpu, Mapping.Use)"),
    ],
    "no such call": [(Effect.NOT_SENT, "POST", CT + "/config", 501, "Method 'POST ..' not implemented")],
    "config write with a bad value": [
        (Effect.UNKNOWN, "PUT", GUEST + "/config", 400, "Parameter verification failed."),
        (Effect.UNKNOWN, "POST", GUEST + "/config", 400, "Parameter verification failed."),
        (Effect.UNKNOWN, "PUT", CT + "/config", 400, "Parameter verification failed."),
        (Effect.UNKNOWN, "PUT", GUEST + "/unlink", 400, "Parameter verification failed."),
    ],
    "bad parameters": [
        (Effect.NOT_SENT, "POST", CREATE, 400, "Parameter verification failed."),
        (Effect.NOT_SENT, "POST", GUEST + "/status/start", 400, "Parameter verification failed.\n"),
    ],
    "unknown node": [
        (Effect.NOT_SENT, "POST", CREATE, 500, "hostname lookup 'pve1' failed - failed to get address info for: pve1"),
        (Effect.NOT_SENT, "POST", CREATE, 500, "proxy loop detected"),
    ],
    "entry node is sick": [
        (
            Effect.NOT_SENT,
            "POST",
            CREATE,
            500,
            "RPCEnvironment init request failed: Unable to load access control list",
        ),
    ],
    "vmid taken": [
        (Effect.REFUSED, "POST", CREATE, 500, "unable to create VM 105 - VM 105 already exists on node 'pve1'"),
        (Effect.REFUSED, "POST", CREATE, 500, "unable to create VM 105 - CT 105 already exists on node 'pve2'"),
        (Effect.REFUSED, "POST", "/nodes/pve1/lxc", 500, "CT 105 already exists on node 'pve1'"),
        (
            Effect.REFUSED,
            "POST",
            "/nodes/pve1/lxc",
            500,
            "unable to restore CT 105 - VM 105 already exists on node 'a'",
        ),
        (Effect.REFUSED, "POST", GUEST + "/clone", 500, "unable to create VM 106: config file already exists"),
        (Effect.REFUSED, "POST", CT + "/clone", 500, "CT 106 already exists on node 'pve1'"),
    ],
    "guest locked": [
        (Effect.REFUSED, "PUT", GUEST + "/config", 500, "VM is locked (snapshot-delete)"),
        (Effect.REFUSED, "DELETE", CT, 500, "CT is locked (disk)"),
        (Effect.REFUSED, "POST", GUEST + "/clone", 500, "VM is locked (backup)"),
    ],
    "digest differs": [
        (Effect.REFUSED, "PUT", GUEST + "/config", 500, CHECKSUM),
        (Effect.REFUSED, "POST", GUEST + "/config", 500, "checksum missmatch (file change by other user?)"),
        (Effect.REFUSED, "PUT", GUEST + "/resize", 500, CHECKSUM),
        (
            Effect.REFUSED,
            "PUT",
            CT + "/config",
            500,
            "detected modified configuration - file changed by other user? Try again.",
        ),
    ],
    "guest busy": [
        (Effect.REFUSED, "PUT", GUEST + "/config", 500, FLOCK),
        (Effect.REFUSED, "POST", GUEST + "/config", 500, FLOCK),
        (Effect.REFUSED, "PUT", CT + "/config", 500, CT_FLOCK),
    ],
    "clone source busy": [(Effect.REFUSED, "POST", GUEST + "/clone", 500, FLOCK)],
    "no such guest": [
        (Effect.REFUSED, "DELETE", GUEST, 500, GONE),
        (Effect.REFUSED, "DELETE", CT, 500, "Configuration file 'nodes/pve1/lxc/105.conf' does not exist"),
        (Effect.REFUSED, "POST", GUEST + "/clone", 500, "unable to find configuration file for VM 105 on node 'pve1'"),
        (Effect.REFUSED, "PUT", GUEST + "/config", 500, GONE),
    ],
    "no quorum": [
        (Effect.REFUSED, "POST", CREATE, 500, "cluster not ready - no quorum?"),
        (Effect.REFUSED, "POST", GUEST + "/status/start", 500, "cluster not ready - no quorum?"),
    ],
    "protected": [
        (Effect.REFUSED, "DELETE", GUEST, 500, "can't remove VM 105 - protection mode enabled"),
        (Effect.REFUSED, "DELETE", CT, 500, "can't remove CT 105 - protection mode enabled"),
    ],
    "running": [
        (Effect.REFUSED, "DELETE", GUEST, 500, "VM 105 is running - destroy failed"),
        (Effect.REFUSED, "DELETE", CT, 500, "unable to destroy CT 105 - container is running"),
    ],
    "managed by HA": [
        (
            Effect.REFUSED,
            "DELETE",
            GUEST,
            500,
            "unable to remove VM 105 - used in HA resources and purge parameter not set.",
        ),
    ],
    "power state": [
        (Effect.REFUSED, "POST", CT + "/status/start", 500, "CT 105 already running"),
        (Effect.REFUSED, "POST", CT + "/status/stop", 500, "CT 105 not running"),
        (Effect.REFUSED, "POST", GUEST + "/status/reset", 500, "VM 105 not running"),
    ],
    "template": [
        (Effect.REFUSED, "POST", GUEST + "/template", 500, "you can't convert a template to a template"),
        (Effect.REFUSED, "POST", GUEST + "/template", 500, "unable to create template, because VM contains snapshots"),
        (Effect.REFUSED, "POST", GUEST + "/template", 500, "you can't convert a VM to template if VM is running"),
    ],
    "only root": [(Effect.REFUSED, "PUT", GUEST + "/config", 500, "only root can set 'lock' config")],
    "nothing asked": [(Effect.REFUSED, "PUT", GUEST + "/config", 500, "no options specified")],
    "no such storage": [(Effect.REFUSED, "POST", CREATE, 500, "storage 'nosuch' does not exist")],
    "clone impossible": [
        (Effect.REFUSED, "POST", GUEST + "/clone", 500, "snapshot 'nosuch' does not exist"),
        (Effect.REFUSED, "POST", GUEST + "/clone", 500, "parameter 'storage' not allowed for linked clones"),
    ],
    "no such target node": [(Effect.REFUSED, "POST", GUEST + "/clone", 500, "no such cluster node 'pve9'")],
    "reserved snapshot name": [
        (Effect.REFUSED, "POST", GUEST + "/snapshot", 500, "unable to use snapshot name 'current' (reserved name)")
    ],
    "already that size": [(Effect.REFUSED, "PUT", CT + "/resize", 500, "disk is already at specified size")],
    "no such token": [
        (Effect.REFUSED, "DELETE", "/access/users/a@pve/token/x1", 500, "no such token 'x1' for user 'a@pve'"),
        (
            Effect.REFUSED,
            "DELETE",
            "/access/users/a@pve/token/x1",
            500,
            "deleting token failed: no such token 'x1' for user 'a@pve'",
        ),
    ],
    "anything else": [
        # Each of these is close to a row and is none.
        (Effect.UNKNOWN, "PUT", GUEST + "/config", 500, FLOCK + "\nand more"),
        (Effect.UNKNOWN, "PUT", GUEST + "/config", 500, "clone failed: " + FLOCK),
        (Effect.UNKNOWN, "POST", CT + "/clone", 500, CT_FLOCK),  # may have locked the source by then
        (Effect.UNKNOWN, "POST", CT + "/clone", 500, "snapshot 'nosuch' does not exist"),
        (Effect.UNKNOWN, "PUT", GUEST + "/config", 500, "only root can set 'usb0' config for real devices"),
        (Effect.UNKNOWN, "POST", CREATE, 500, "got no worker upid - start worker failed"),
        (Effect.UNKNOWN, "PUT", GUEST + "/config", 500, "can't remove drive 'scsi0' - protection mode enabled"),
        (Effect.UNKNOWN, "PUT", GUEST + "/config", 500, "volume 'local:iso/a.iso' does not exist"),
        (
            Effect.UNKNOWN,
            "PUT",
            GUEST + "/config",
            500,
            "unable to open file '/etc/pve/nodes/pve1/qemu-server/105.conf.tmp.7' - Permission denied",
        ),
        (Effect.UNKNOWN, "DELETE", GUEST, 500, "cluster not ready - no quorum?"),  # a destroy does not check it first
        (Effect.UNKNOWN, "PUT", GUEST + "/config", 500, "storage 'x' does not exist"),
        (Effect.UNKNOWN, "POST", CREATE, 500, ""),
        (Effect.UNKNOWN, "POST", CREATE, 400, "bad request"),
        (Effect.UNKNOWN, "POST", CREATE, 200, ""),
        (Effect.UNKNOWN, "POST", CREATE, 301, "Moved Permanently"),
        (Effect.UNKNOWN, "POST", CREATE, 404, "Not Found"),
        (Effect.UNKNOWN, "POST", CREATE, 502, "Bad Gateway"),
        (Effect.UNKNOWN, "POST", CREATE, 504, "Gateway Timeout"),
    ],
}


@pytest.mark.parametrize(
    ("row", "effect", "method", "path", "status", "text"),
    [(row, *case) for row, cases in CASES.items() for case in cases],
)
def test_each_row_decides_what_it_says(
    row: str, effect: Effect, method: str, path: str, status: int, text: str
) -> None:
    for answer in (
        Answer(method=method, path=path, status=status, reason=text),
        Answer(method=method, path=path, status=status, reason="first line", message=text + "\n"),
    ):
        if not text and answer.message.strip() == "" and answer.reason:
            continue
        found = sort(answer)
        assert (found.name, found.effect) == (row, effect)


def test_every_row_is_reached() -> None:
    assert {rule.name for rule in TABLE} == set(CASES) | {"no byte written"}
    assert len({rule.name for rule in TABLE}) == len(TABLE)
    assert all(rule.why for rule in TABLE)


def test_a_text_with_perls_own_place_behind_it_is_the_same_text() -> None:
    text = f"{CHECKSUM} at /usr/share/perl5/PVE/API2/Qemu.pm line 2211."
    assert sort(Answer(method="PUT", path=GUEST + "/config", status=500, reason=text)).name == "digest differs"


@given(
    status=st.integers(0, 999),
    text=st.text(max_size=50),
    method=st.sampled_from(["POST", "PUT", "DELETE"]),
    path=st.sampled_from([CREATE, GUEST, GUEST + "/config", CT + "/clone", "/elsewhere"]),
)
def test_whatever_comes_has_a_row_and_no_byte_written_is_never_anything_but_not_sent(
    status: int, text: str, method: str, path: str
) -> None:
    answer = Answer(method=method, path=path, status=status, reason=text)
    assert sort(answer) in TABLE
    unsent = Answer(method=method, path=path, status=status, reason=text, sent=False)
    assert sort(unsent).effect is Effect.NOT_SENT
    error = answers.error(answer)
    assert str(error).isprintable()


@given(text=st.text(max_size=80), path=st.sampled_from([CREATE, GUEST, GUEST + "/config", GUEST + "/clone"]))
def test_a_500_with_any_other_text_is_unknown(text: str, path: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert sort(Answer(method=method, path=path, status=500, message=f"{text}!")).effect is Effect.UNKNOWN


def test_errors_carry_pves_words_and_the_place() -> None:
    refused = answers.error(Answer(method="PUT", path=GUEST + "/config", status=500, message="VM is locked (backup)\n"))
    assert isinstance(refused, Refused)
    assert refused.text == "VM is locked (backup)"
    assert refused.status == 500
    assert str(refused) == f"PUT {GUEST}/config: PVE answered 500: VM is locked (backup)"

    bad = answers.error(
        Answer(
            method="POST",
            path=CREATE,
            status=400,
            message="Parameter verification failed.\n",
            errors={"vmid": "type check ('integer') failed - got 'abc'"},
        )
    )
    assert isinstance(bad, NotSent)
    assert "vmid: type check" in str(bad)

    lost = answers.error(Answer(method="POST", path=CREATE, lost="no answer in time"))
    assert isinstance(lost, Unknown)
    assert "no answer in time" in str(lost)
    assert lost.status == 0


def test_foreign_text_becomes_one_bounded_printable_line() -> None:
    assert answers.one_line("a\n\tb\x1b[31m\x00c") == "a b [31m c"
    assert answers.one_line("x" * ERROR_TEXT_MAX) == "x" * ERROR_TEXT_MAX
    assert answers.one_line("x" * 100_000) == "x" * (ERROR_TEXT_MAX - 1) + "…"
    assert answers.one_line(" " * 2 * ERROR_TEXT_MAX + "x") == "", "no more than that is looked at"
    assert answers.one_line("\udc80").isprintable()


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("POST", "/nodes/pve1/lxc", Target.CREATE),
        ("DELETE", GUEST, Target.DESTROY),
        ("POST", CT + "/clone", Target.CT_CLONE),
        ("POST", GUEST + "/clone", Target.CLONE),
        ("PUT", GUEST + "/config", Target.CONFIG),
        ("PUT", GUEST + "/snapshot/s1/config", Target.CONFIG),
        ("POST", GUEST + "/move_disk", Target.MOVE),
        ("PUT", GUEST + "/move_disk", Target.OTHER),
        ("POST", CT + "/move_volume", Target.MOVE),
        ("DELETE", GUEST + "/snapshot/s1", Target.SNAPSHOT),
        ("POST", GUEST + "/snapshot/s1/rollback", Target.SNAPSHOT),
        ("POST", GUEST + "/migrate", Target.MIGRATE),
        ("POST", "/access/users/a@pve/token/x1", Target.TOKEN),
        ("POST", "/nodes/pve1/vzdump", Target.OTHER),
        ("GET", GUEST + "/config", Target.OTHER),
    ],
)
def test_calls_are_told_apart(method: str, path: str, target: Target) -> None:
    assert target_of(method, path) is target


GUESTS = "clone config ct_clone destroy migrate move power resize snapshot template"

# The rows that hold for some calls only, written once more, so that a slip has to be made twice.
CALLS = {
    "not permitted halfway": "config",
    "config write with a bad value": "config",
    "vmid taken": "clone create ct_clone",
    "guest locked": GUESTS,
    "digest differs": "config move resize",
    "guest busy": "config destroy power snapshot template",
    "clone source busy": "clone",
    "no such guest": GUESTS,
    "no quorum": "clone create ct_clone migrate power",
    "protected": "destroy",
    "running": "destroy",
    "managed by HA": "destroy",
    "power state": "power",
    "template": "template",
    "only root": "clone config create",
    "nothing asked": "config",
    "no such storage": "clone create ct_clone",
    "clone impossible": "clone",
    "no such target node": "clone ct_clone migrate",
    "reserved snapshot name": "snapshot",
    "already that size": "resize",
    "no such token": "token",
}


def test_a_text_counts_for_the_calls_in_which_it_comes_before_any_change_and_no_others() -> None:
    assert {rule.name: " ".join(sorted(rule.targets)) for rule in TABLE if rule.targets} == CALLS


@pytest.mark.parametrize("words", [Effect, Target])
def test_the_words_for_calls_and_effects_are_their_names(words: type[Effect | Target]) -> None:
    assert [word.value for word in words] == [word.name.lower() for word in words]


def test_a_sick_endpoint_is_told_by_its_whole_text() -> None:
    sick = "RPCEnvironment init request failed: Unable to load access control list\n"
    assert answers.blames_entry(500, sick)
    assert not answers.blames_entry(400, sick)
    assert not answers.blames_entry(500, "x " + sick)
    assert not answers.blames_entry(595, "")


def test_absence_is_said_by_a_whole_text_only() -> None:
    assert answers.says_absent(500, GONE + "\n")
    assert not answers.says_absent(500, "error: " + GONE)
    assert not answers.says_absent(404, GONE)
    assert not answers.says_absent(595, "")
    assert answers.says_no_such_task(400, {"upid": "no such task"})
    assert not answers.says_no_such_task(400, {"upid": "unable to parse worker upid"})
    assert not answers.says_no_such_task(500, {"upid": "no such task"})
    assert answers.says_no_such_token(500, "no such token 'x' for user 'a@pve'\n")
    assert not answers.says_no_such_token(500, "no such user ('a@pve')")
    assert not answers.says_no_such_token(595, "no such token 'x' for user 'a@pve'")


def test_what_was_never_written_is_not_sent_whatever_came_back() -> None:
    assert sort(Answer(method="POST", path=CREATE, sent=False)).effect is Effect.NOT_SENT
    assert sort(Answer(method="POST", path=CREATE, status=500, reason="x", sent=False)).effect is Effect.NOT_SENT
    assert sort(Answer(method="POST", path=CREATE)).effect is Effect.UNKNOWN


def test_no_words_at_all_are_no_answer() -> None:
    assert answers.describe(0, "", {}) == "no answer"
    assert answers.describe(502, "", {}) == "PVE answered 502"
