"""What an answer of PVE, or the lack of one, tells about a mutation's effect: one ordered table, first match decides.

Calling an effect "not there" when it is there runs an operation twice and reports a destroyed guest as living, so
everything that no row knows is UNKNOWN, and recovery finds out by looking. The other way round costs seconds only.
PVE answers nearly every refusal with status 500 and a text, so those texts are listed one by one. A text is listed
for the calls in which it is raised before anything is changed, and must match as a whole: a text with more behind it
is another text. Wordings are those of qemu-server and pve-container, of PVE 8.4 and 9.
"""

import re
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from trueup.model.errors import NotSent, Refused, Unknown
from trueup.model.limits import ERROR_TEXT_MAX


class Effect(StrEnum):
    """What is known: PVE cannot have acted; PVE refused before it acted; nothing is known."""

    NOT_SENT = "not_sent"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Target(StrEnum):
    """What a mutation asks for, as far as it matters for the meaning of a text."""

    CREATE = "create"
    CLONE = "clone"
    CT_CLONE = "ct_clone"
    CONFIG = "config"
    RESIZE = "resize"
    MOVE = "move"
    POWER = "power"
    DESTROY = "destroy"
    SNAPSHOT = "snapshot"
    TEMPLATE = "template"
    MIGRATE = "migrate"
    TOKEN = "token"  # noqa: S105 - the name of a call
    OTHER = "other"


_GUEST = r"/nodes/[^/]+/(qemu|lxc)/\d+"
_TARGETS: tuple[tuple[str, str, Target], ...] = (
    ("POST", r"/nodes/[^/]+/(qemu|lxc)", Target.CREATE),
    ("DELETE", _GUEST, Target.DESTROY),
    ("POST", r"/nodes/[^/]+/qemu/\d+/clone", Target.CLONE),
    ("POST", r"/nodes/[^/]+/lxc/\d+/clone", Target.CT_CLONE),
    ("POST|PUT", _GUEST + r"/(config|unlink|cloudinit|snapshot/[^/]+/config)", Target.CONFIG),
    ("PUT", _GUEST + r"/resize", Target.RESIZE),
    ("POST", _GUEST + r"/(move_disk|move_volume)", Target.MOVE),
    ("POST", _GUEST + r"/status/[a-z]+", Target.POWER),
    ("POST", _GUEST + r"/snapshot(/[^/]+/rollback)?", Target.SNAPSHOT),
    ("DELETE", _GUEST + r"/snapshot/[^/]+", Target.SNAPSHOT),
    ("POST", _GUEST + r"/template", Target.TEMPLATE),
    ("POST", _GUEST + r"/migrate", Target.MIGRATE),
    ("POST|PUT|DELETE", r"/access/users/[^/]+/token/[^/]+", Target.TOKEN),
)


def target_of(method: str, path: str) -> Target:
    """Tell what a mutation asks for; `path` starts behind /api2/json."""
    for methods, pattern, target in _TARGETS:
        if re.fullmatch(methods, method) and re.fullmatch(pattern, path):
            return target
    return Target.OTHER


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back to a mutation.

    `status` is 0 where no complete answer came. `reason` is the text of the status line, `message` that of the JSON
    body (http-server 5.2 and newer), `errors` names bad parameters. `sent` is false only if it is certain that not
    one byte of the request was written; `lost` says in our own words why there is no answer, or none to be read.
    """

    method: str
    path: str
    status: int = 0
    reason: str = ""
    message: str = ""
    errors: Mapping[str, str] = {}
    sent: bool = True
    lost: str = ""

    @property
    def text(self) -> str:
        """PVE's own words: the message where there is one, since the reason phrase has its first line only."""
        return self.message.strip() or self.reason.strip()


_ANY_STATUS: frozenset[int] = frozenset()
_ANY_TARGET: frozenset[Target] = frozenset()
_BROKEN_OFF = frozenset({596, 597, 598, 599})
_ON_A_GUEST = frozenset(Target) - {Target.CREATE, Target.TOKEN, Target.OTHER}
_CLONES = frozenset({Target.CLONE, Target.CT_CLONE})


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A row: it matches if all that it names matches. `why` is the reason for its effect."""

    name: str
    effect: Effect
    why: str
    sent: bool | None = None
    statuses: frozenset[int] = _ANY_STATUS
    targets: frozenset[Target] = _ANY_TARGET
    text: str = ""

    def matches(self, answer: Answer, target: Target) -> bool:
        """Whether this row decides about this answer."""
        return (
            (self.sent is None or self.sent == answer.sent)
            and (not self.statuses or answer.status in self.statuses)
            and (not self.targets or target in self.targets)
            and (not self.text or _says(self.text, answer.text))
        )


# Perl adds its own place where a text was raised without a newline.
_PLACE = r"( at /usr/\S+ line \d+\.)?"


def _says(pattern: str, text: str) -> bool:
    return re.fullmatch(f"(?:{pattern}){_PLACE}", text) is not None


def _refusal(name: str, text: str, targets: frozenset[Target] | Target, why: str) -> Rule:
    """A known text of status 500 that is raised before anything is changed."""
    only = frozenset({targets}) if isinstance(targets, Target) else targets
    return Rule(
        name=name,
        effect=Effect.REFUSED,
        statuses=frozenset({500}),
        targets=only,
        text=text,
        why=why,
    )


_ID = r"\d+"
_NAME = r"'[^']*'"
_GUEST_FLOCK = rf"'/(var|run)/lock/(qemu-server/lock-{_ID}\.conf|lxc/pve-config-{_ID}\.lock)'"

_NO_SUCH_TOKEN = rf"(deleting token failed: )?no such token {_NAME} for user {_NAME}"

_REFUSALS: tuple[Rule, ...] = (
    _refusal(
        "vmid taken",
        rf"(unable to (create|restore) (VM|CT) {_ID} - )?(VM|CT) {_ID} already exists on node {_NAME}"
        rf"|unable to create (VM|CT) {_ID}: config file already exists",
        _CLONES | {Target.CREATE},
        "the vmid is reserved before anything is allocated; a container's clone gives its source's lock back",
    ),
    _refusal(
        "guest locked",
        r"(VM|CT) is locked( \([a-z-]+\))?",
        _ON_A_GUEST,
        "the config lock is checked first",
    ),
    _refusal(
        "digest differs",
        r"checksum mis+match \(file change by other user\?\)"
        r"|detected modified configuration - file changed by other user\? Try again\.",
        frozenset({Target.CONFIG, Target.RESIZE, Target.MOVE}),
        "the digest is compared under the guest's lock, before the first change",
    ),
    _refusal(
        "guest busy",
        rf"can't lock file {_GUEST_FLOCK} - got timeout",
        frozenset({Target.CONFIG, Target.TEMPLATE, Target.SNAPSHOT, Target.POWER, Target.DESTROY}),
        "all work of these calls is done under the guest's flock, which was not got; tried: it is not made up later",
    ),
    _refusal(
        "clone source busy",
        rf"can't lock file '/var/lock/qemu-server/lock-{_ID}\.conf' - got timeout",
        Target.CLONE,
        "QEMU clones wait a second for the locks of source and target before they write; container clones are not"
        " listed, since they have locked the source's config by then",
    ),
    _refusal(
        "no such guest",
        rf"Configuration file 'nodes/[^/']+/(qemu-server|lxc)/{_ID}\.conf' does not exist"
        rf"|unable to find configuration file for (VM|CT) {_ID} on node {_NAME}",
        _ON_A_GUEST,
        "every call on a guest reads its config first",
    ),
    _refusal(
        "no quorum",
        r"cluster not ready - no quorum\?",
        _CLONES | {Target.CREATE, Target.POWER, Target.MIGRATE},
        "quorum is checked first in these calls; others find out halfway",
    ),
    _refusal(
        "protected",
        rf"can't remove (VM|CT) {_ID} - protection mode enabled",
        Target.DESTROY,
        "protection is checked before the fork, and again under the lock",
    ),
    _refusal(
        "running",
        rf"VM {_ID} is running - destroy failed|unable to destroy CT {_ID} - container is running",
        Target.DESTROY,
        "a running guest is not destroyed; checked before the fork",
    ),
    _refusal(
        "managed by HA",
        rf"unable to (remove|destroy) (VM|CT) {_ID} - used in HA resources and purge parameter not set\.?",
        Target.DESTROY,
        "checked before the fork",
    ),
    _refusal(
        "power state",
        rf"(VM|CT) {_ID} (not running|already running)",
        Target.POWER,
        "the state is looked at before the fork; it is the one that was asked for, or the call makes no sense in it",
    ),
    _refusal(
        "template",
        r"you can't convert a template to a template"
        r"|unable to create template, because (VM|CT) contains snapshots"
        r"|you can't convert a (VM|CT) to template if (VM|CT|the VM|the CT) is running",
        Target.TEMPLATE,
        "all checked before the template flag is set",
    ),
    _refusal(
        "only root",
        r"only root can set '[^']+' config",
        frozenset({Target.CREATE, Target.CLONE, Target.CONFIG}),
        "privileges for all keys are checked before the first one is written",
    ),
    _refusal("nothing asked", r"no options specified", Target.CONFIG, "there was nothing to do, and nothing was done"),
    _refusal(
        "no such storage",
        rf"storage {_NAME} does not exist",
        _CLONES | {Target.CREATE},
        "storages are looked up before the vmid is reserved",
    ),
    _refusal(
        "clone impossible",
        r"Linked clone feature is not supported for '[^']+' \([a-z0-9]+\)"
        r"|parameter 'storage' not allowed for linked clones"
        rf"|snapshot {_NAME} does not exist",
        Target.CLONE,
        "the source's disks are checked before the target's config is made; container clones check them after it",
    ),
    _refusal(
        "no such target node",
        rf"no such cluster node {_NAME}",
        _CLONES | {Target.MIGRATE},
        "checked first",
    ),
    _refusal(
        "reserved snapshot name",
        rf"unable to use snapshot name {_NAME} \(reserved name\)",
        Target.SNAPSHOT,
        "checked first",
    ),
    _refusal(
        "already that size",
        r"disk is already at specified size",
        Target.RESIZE,
        "containers say so instead of doing nothing",
    ),
    _refusal(
        "no such token",
        rf"{_NO_SUCH_TOKEN}|no such user \({_NAME}\)",
        Target.TOKEN,
        "looked up before the user file is changed",
    ),
)

TABLE: tuple[Rule, ...] = (
    Rule(
        name="no byte written",
        effect=Effect.NOT_SENT,
        sent=False,
        why="no connection, no TLS, or too late: the request never left us",
    ),
    Rule(
        name="no answer",
        effect=Effect.UNKNOWN,
        statuses=frozenset({0}),
        why="a request that was sent takes effect however the connection ends, and there is no limit to how late",
    ),
    Rule(
        name="worker may run",
        effect=Effect.UNKNOWN,
        statuses=frozenset({500}),
        text=r"can't lock file '/var/log/pve/tasks/\.active\.lock' - got timeout",
        why="the parent could not list its task, but the worker had already been told to go",
    ),
    Rule(
        name="broken off behind the proxy",
        effect=Effect.UNKNOWN,
        statuses=_BROKEN_OFF,
        why="pveproxy waited 30 s or lost its connection; what it passed on may still be carried out, however late",
    ),
    Rule(
        name="not passed on",
        effect=Effect.NOT_SENT,
        statuses=frozenset({595}),
        why="pveproxy had no connection to the daemon or to the node, so it had nothing to send the request on",
    ),
    Rule(
        name="not authenticated",
        effect=Effect.NOT_SENT,
        statuses=frozenset({401}),
        why="the token is checked before the call is looked at, at every hop",
    ),
    Rule(
        name="not permitted halfway",
        effect=Effect.UNKNOWN,
        statuses=frozenset({403}),
        targets=frozenset({Target.CONFIG}),
        text=r"Permission check failed \(/mapping/.*",
        why="the use of mapped devices is checked when the turn of their key comes; others may be stored by then",
    ),
    Rule(
        name="not permitted",
        effect=Effect.NOT_SENT,
        statuses=frozenset({403}),
        why="privileges are checked before the call runs",
    ),
    Rule(
        name="no such call",
        effect=Effect.NOT_SENT,
        statuses=frozenset({501}),
        why="PVE found no handler for this method and path, or did not accept the form of the request",
    ),
    Rule(
        name="config write with a bad value",
        effect=Effect.UNKNOWN,
        statuses=frozenset({400}),
        targets=frozenset({Target.CONFIG}),
        why="a config write stores key by key and reports what could not be plugged in only at the end",
    ),
    Rule(
        name="bad parameters",
        effect=Effect.NOT_SENT,
        statuses=frozenset({400}),
        text=r"Parameter verification failed\.[\s\S]*",
        why="parameters are checked against the schema before the handler runs",
    ),
    Rule(
        name="unknown node",
        effect=Effect.NOT_SENT,
        statuses=frozenset({500}),
        text=r"hostname lookup '[^']*' failed - .*|proxy loop detected",
        why="pveproxy did not find where to send it",
    ),
    Rule(
        name="entry node is sick",
        effect=Effect.NOT_SENT,
        statuses=frozenset({500}),
        text=r"RPCEnvironment init request failed: .*",
        why="the daemon could not read users and privileges, so it did not get to the call",
    ),
    *_REFUSALS,
    Rule(
        name="anything else",
        effect=Effect.UNKNOWN,
        why="no row knows this answer, and a guess is not allowed",
    ),
)


def sort(answer: Answer) -> Rule:
    """Find the row that decides about this answer. The last one takes everything."""
    target = target_of(answer.method, answer.path)
    return next(rule for rule in TABLE if rule.matches(answer, target))


_ERRORS: Mapping[Effect, type[NotSent] | type[Refused] | type[Unknown]] = {
    Effect.NOT_SENT: NotSent,
    Effect.REFUSED: Refused,
    Effect.UNKNOWN: Unknown,
}


def error(answer: Answer, *, remedy: str = "") -> NotSent | Refused | Unknown:
    """Make the error for this answer; `remedy` is what its sender knows of the connection."""
    rule = sort(answer)
    return _ERRORS[rule.effect](
        what=describe(answer.status, answer.lost or answer.text, answer.errors),
        where=f"{answer.method} {answer.path}",
        remedy=remedy,
        status=answer.status,
        text=one_line(answer.text),
    )


def describe(status: int, text: str, errors: Mapping[str, str]) -> str:
    """Say in one line what PVE answered."""
    named = "; ".join(f"{key}: {value}" for key, value in errors.items())
    said = one_line(f"{text} {named}".strip())
    if not status:
        return said or "no answer"
    return f"PVE answered {status}: {said}" if said else f"PVE answered {status}"


def one_line(text: str) -> str:
    """Make foreign text fit for a message: one line, printable, bounded."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * ERROR_TEXT_MAX]).split())
    return line if len(line) <= ERROR_TEXT_MAX else line[: ERROR_TEXT_MAX - 1] + "…"


def says_absent(status: int, text: str) -> bool:
    """Whether a read of a guest says that the guest is not on the node that was asked."""
    rule = next(rule for rule in _REFUSALS if rule.name == "no such guest")
    return status in rule.statuses and _says(rule.text, text.strip())


def says_no_such_task(status: int, errors: Mapping[str, str]) -> bool:
    """Whether a read of a task says that its node does not know it (pve-manager, PVE::API2::Tasks)."""
    return status == 400 and errors.get("upid", "").strip() == "no such task"  # noqa: PLR2004 - its status


def says_no_such_token(status: int, text: str) -> bool:
    """Whether the deletion of a token found that it is not there."""
    return status == 500 and _says(_NO_SUCH_TOKEN, text.strip())  # noqa: PLR2004 - PVE's status for nearly everything


def blames_entry(status: int, text: str) -> bool:
    """Whether an answer tells that the endpoint itself is sick, so that another one may do better."""
    rule = next(rule for rule in TABLE if rule.name == "entry node is sick")
    return status in rule.statuses and _says(rule.text, text.strip())
