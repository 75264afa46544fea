"""The check-up: everything that trueup leans on, looked at one by one, each finding with what to do about it.

Rule kept here: a check never ends another one. What cannot be found out is told as such, and not as well.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from http import HTTPStatus
from typing import Final

import msgspec

from trueup.adapters import pve_setup
from trueup.adapters.file_names import shown
from trueup.adapters.manifests import refuse_emptied
from trueup.adapters.pve_http import Login
from trueup.adapters.pve_setup import Inspector, Right
from trueup.core import gate_sense
from trueup.core.gate_rules import Files
from trueup.edges import incarnation, statements, topics
from trueup.edges.parts import Credential, Parts
from trueup.model import limits
from trueup.model.errors import BadInput, ManyProblems, ReadFailed, TrueupError
from trueup.model.ids import NodeName
from trueup.model.settings import Settings, StoreSettings
from trueup.ports import Pve

KNOWN_MAJORS: Final = frozenset({8, 9})
OLDEST: Final = (8, 4)
CLOCK_FINE_S: Final = 5
"""Less is no news: a Date has whole seconds, and an answer takes a moment."""

FREE_BYTES: Final = 200 * 1024 * 1024
SHARED_SINCE_S: Final = 24 * 3600

_DURABLE: Final = "set fsync and full_page_writes on, and name each replica in synchronous_standby_names"


class Mark(StrEnum):
    """How one check came out. UNKNOWN: it could not be found out."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One finding, with what to do about it. `topic` is its page, where that is not the one of its check."""

    check: str
    mark: Mark
    what: str
    remedy: str = ""
    topic: str = ""

    def page(self) -> str:
        """The topic that `trueup explain` takes; '' where all is well."""
        return "" if self.mark is Mark.OK else self.topic or topics.OF_CHECK[self.check]


def _ok(check: str, what: str) -> Finding:
    return Finding(check=check, mark=Mark.OK, what=what)


def _bad(check: str, error: TrueupError, mark: Mark = Mark.PROBLEM) -> Finding:
    what = f"{error.where}: {error.what}" if error.where else error.what
    return Finding(check=check, mark=mark, what=what, remedy=error.remedy)


async def examine(parts: Parts, settings: Settings) -> tuple[Finding, ...]:
    """Look at everything."""
    found = [Finding(check="settings", mark=Mark.WARNING, what=text) for text in settings.warnings]
    found += _store(parts, settings)
    found += await _manifests(parts, settings)
    found += _notify(parts, settings)
    found += _gate(settings, parts.clock().now_ms())
    warned: list[str] = []
    try:
        credential = incarnation.credential(settings, warned.append)
    except BadInput as error:
        return (*found, _bad("token", error))
    found += [Finding(check="token", mark=Mark.WARNING, what=text) for text in warned]
    async with _inspector(parts, settings, credential) as inspector:
        if isinstance(inspector, Finding):
            return (*found, inspector)
        answers = await _endpoints(parts, settings, inspector)
        found += answers
        if all(finding.mark is Mark.PROBLEM for finding in answers if finding.check == "endpoint"):
            return tuple(found)
        if settings.cluster.token_id is None:
            found.append(_only_a_keeper(settings))
        else:
            found += await _rights(inspector, credential, rights_wanted(parts, settings))
    found += await _cluster(parts, settings, credential)
    found += await _keeper(parts, settings)
    return tuple(found)


@asynccontextmanager
async def _inspector(parts: Parts, settings: Settings, who: Credential) -> AsyncGenerator[Inspector | Finding]:
    cluster = settings.cluster
    login = Login(endpoints=cluster.endpoints, trust=cluster.trust, token=who.token, secret=who.secret)
    try:
        context = pve_setup.connect_inspector(login, parts.clock())
        inspector = await context.__aenter__()
    except BadInput as error:
        yield _bad("endpoint", error)
        return
    try:
        yield inspector
    finally:
        await context.__aexit__(None, None, None)


# --- here -------------------------------------------------------------------------------------------------------------


def _store(parts: Parts, settings: Settings) -> Iterator[Finding]:
    if settings.store.postgres is not None:
        yield from _database(parts, settings.store)
        return
    store = settings.store
    folder = next(each for each in (store.path.parent, *store.path.parent.parents) if each.exists())
    if not os.access(folder, os.W_OK, effective_ids=True):
        remedy = "give the user that runs trueup the right to write there"
        yield Finding(check="store", mark=Mark.PROBLEM, what=f"{folder} cannot be written", remedy=remedy)
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        what = f"{free // 2**20} MiB are free on {folder}; a journal that cannot be written stops the agent"
        yield Finding(check="store", mark=Mark.PROBLEM, what=what, remedy=f"free space on {folder}", topic="disk-full")
    if not parts.journal_file.exists(store):
        yield _ok("store", f"there is no journal yet at {shown(store.path)}; the first apply makes it")
        return
    mode = stat.S_IMODE(store.path.stat().st_mode)
    if mode & 0o077:
        what = f"others may read the journal {shown(store.path)} (mode {mode:04o})"
        yield Finding(check="store", mark=Mark.WARNING, what=what, remedy=f"chmod 600 {shown(store.path)}")
    yield from _journal(parts, store, "start `trueup agent` once: it brings the journal up to date")


def _database(parts: Parts, store: StoreSettings) -> Iterator[Finding]:
    """Whether the database answers, how it keeps what it committed, and the journal in it."""
    try:
        yield _ok("store", f"{store.shown}: {parts.journal_file.described(store)}")
        there = parts.journal_file.exists(store)
        durability = parts.journal_file.durability(store)
    except TrueupError as error:
        yield msgspec.structs.replace(_bad("store", error), topic="database-lost")
        return
    if there:
        yield from _journal(parts, store, _DURABLE)
        return
    if durability:
        yield Finding(check="store", mark=Mark.PROBLEM, what=durability, remedy=_DURABLE, topic="database-lost")
    yield _ok("store", f"there is no journal yet in {store.shown}; the first apply makes it")


def _journal(parts: Parts, store: StoreSettings, remedy: str) -> Iterator[Finding]:
    """How the journal is kept, and whether it is sound."""
    try:
        durability = parts.journal_file.durability(store)
        verified = parts.journal_file.verify(store)
        led = parts.journal_file.held(store)
    except TrueupError as error:
        yield _bad("store", error)
        return
    if durability:
        yield Finding(check="store", mark=Mark.PROBLEM, what=durability, remedy=remedy)
    if not verified.ok:
        remedy = "`trueup journal rebuild`" if verified.records_ok else "`trueup journal quarantine`"
        yield Finding(check="store", mark=Mark.PROBLEM, what=verified.what, remedy=remedy)
        return
    held = "; an agent holds it" if led else ""
    yield _ok("store", f"the journal is sound: {verified.records} records, head {verified.head[:16]}…{held}")


async def _manifests(parts: Parts, settings: Settings) -> list[Finding]:
    try:
        manifests = parts.manifests(settings.manifests.path)()
        async with incarnation.journal_for_reading(parts, settings) as journal:
            refuse_emptied(manifests, await journal.adopted())
    except TrueupError as error:
        problems = getattr(error, "problems", (error,))
        return [_bad("manifests", problem) for problem in problems]
    return [_ok("manifests", f"{len(manifests.guests)} guests in {len(manifests.files)} files")]


def _notify(parts: Parts, settings: Settings) -> Iterator[Finding]:
    """Whether somebody hears of alarms."""
    count = len(settings.notify.urls)
    if not count:
        yield _ok("notify", "nobody is told of alarms: [notify] urls is empty")
        return
    problems = parts.notify_problems(settings.notify)
    for problem in problems:
        yield _bad("notify", problem)
    if not problems:
        yield _ok("notify", f"all {count} of [notify] urls are understood")


def _gate(settings: Settings, now_ms: int) -> Iterator[Finding]:
    """Keyring and policy: whether they can be read, and whether there are people who can satisfy each rule."""
    gate = settings.gate
    for name, path in (("keyring", gate.keyring), ("policy", gate.policy)):
        if not path.exists():
            what = f"there is no {name} at {shown(path)}: the gate is closed, nothing that needs signatures can be done"
            yield Finding(check="gate", mark=Mark.OK, what=what)
    try:
        keyring, policy = statements.keyring_of(gate.keyring), statements.policy_of(gate.policy)
    except BadInput as error:
        problems = error.problems if isinstance(error, ManyProblems) else (error,)
        yield from (_bad("gate", problem) for problem in problems)
        return
    if keyring is None or policy is None:
        return
    if not keyring.people and not policy.rules:
        yield _ok("gate", "nobody may sign anything yet: `trueup keys new` and rules in the policy change that")
        return
    found = gate_sense.findings(Files(keyring=keyring, policy=policy), now_ms)
    for what in found:
        remedy = "change the keyring or the policy, then `trueup keys check`"
        yield Finding(check="gate", mark=Mark.WARNING, what=what, remedy=remedy)
    if not found:
        yield _ok("gate", f"keyring and policy are in order: {len(keyring.people)} people, {len(policy.rules)} rules")


# --- PVE --------------------------------------------------------------------------------------------------------------


async def _endpoints(parts: Parts, settings: Settings, inspector: Inspector) -> list[Finding]:
    """Address, certificate, token, version and clock of each."""
    found: list[Finding] = []
    asked: set[NodeName] = set()
    for url in settings.cluster.endpoints:
        try:
            seen = await inspector.endpoint(url)
        except ReadFailed as error:
            found.append(_bad("endpoint", error))
            continue
        name = seen.node or url
        found.append(_ok("endpoint", f"{url} answers: PVE {seen.version}{f', node {seen.node}' if seen.node else ''}"))
        found += _version(name, seen.version)
        found += _clock(name, seen.date_s, parts.clock().now_ms())
        asked.add(seen.node)
    return found + await _other_clocks(parts, inspector, asked) if asked else found


async def _other_clocks(parts: Parts, inspector: Inspector, asked: set[NodeName]) -> list[Finding]:
    """The clocks of nodes that no endpoint names, as far as they tell them."""
    found: list[Finding] = []
    try:
        nodes = await inspector.nodes()
    except ReadFailed:
        return found
    for node in nodes:
        if node not in asked:
            try:
                found += _clock(node, await inspector.node_clock(node), parts.clock().now_ms())
            except ReadFailed:
                found += _clock(node, 0, 0)
    return found


def _version(name: str, version: str) -> Iterator[Finding]:
    parts = [int(part) for part in version.partition("-")[0].split(".")[:2] if part.isdigit()]
    if not parts or parts[0] not in KNOWN_MAJORS or tuple(parts) < OLDEST:
        what = f"{name} runs PVE {version}; trueup was tried with 8.4 and 9"
        yield Finding(check="version", mark=Mark.WARNING, what=what, remedy="upgrade PVE, or try it with care")


def _clock(name: str, date_s: int, now_ms: int) -> Iterator[Finding]:
    if not date_s:
        yield Finding(check="clock", mark=Mark.UNKNOWN, what=f"{name} does not tell its time")
        return
    difference = date_s - now_ms / 1000
    told = f"the clock of {name} is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} ours"
    remedy = f"`chronyc tracking` on {name} and here says which one is wrong"
    if abs(difference) > limits.CLOCK_DIFFERENCE_S:
        yield Finding(check="clock", mark=Mark.PROBLEM, what=told, remedy=remedy)
    elif abs(difference) > CLOCK_FINE_S:
        yield Finding(check="clock", mark=Mark.WARNING, what=told, remedy=remedy)
    else:
        yield _ok("clock", f"the clock of {name} agrees with ours")


def rights_wanted(parts: Parts, settings: Settings) -> tuple[Right, ...]:
    """What the agent needs for these manifests; for the usual ones if they cannot be read."""
    try:
        pools = any(want.pool for want in parts.manifests(settings.manifests.path)().guests)
    except BadInput:
        pools = False
    return pve_setup.rights_for(pools=pools)


async def _rights(inspector: Inspector, who: Credential, rights: tuple[Right, ...]) -> list[Finding]:
    roles: Mapping[str, frozenset[str]] = {}
    with contextlib.suppress(ReadFailed):
        roles = await inspector.roles()
    found: list[Finding] = []
    for right in rights:
        try:
            held = await inspector.privileges(right.path)
        except ReadFailed as error:
            found.append(_bad("rights", error, Mark.UNKNOWN))
            continue
        missing = [name for name in right.privileges if name not in held]
        shallow = [name for name in right.privileges if right.below and held.get(name) is False]
        if not (missing or shallow):
            found.append(_ok("rights", f"{right.why}: all {len(right.privileges)} on {right.path}"))
        found += [
            Finding(
                check="rights", mark=Mark.PROBLEM, what=_missing(name, right, who), remedy=_granting(right, roles, who)
            )
            for name in missing
        ]
        found += [
            Finding(
                check="rights",
                mark=Mark.PROBLEM,
                what=f"{name} is held on {right.path}, but not below it",
                remedy=pve_setup.acl_step(right.path, right.role, _user(who), below=True).command,
            )
            for name in shallow
        ]
    return found


def _only_a_keeper(settings: Settings) -> Finding:
    """The keeper's token shall not have the agent's rights, so nothing here can say whether the agent's tokens have."""
    user = settings.cluster.keeper.user if settings.cluster.keeper else ""
    what = "the keeper's is the only token: it sees no guests, so `plan` and `status` see none, and no right is checked"
    remedy = f'write token_id = "{user}!looking" into [cluster], then `trueup doctor --setup --keeper`'
    return Finding(check="rights", mark=Mark.WARNING, what=what, remedy=remedy)


def _missing(name: str, right: Right, who: Credential) -> str:
    return f"{who.token} lacks {name} on {right.path} ({right.why})"


def _granting(right: Right, roles: Mapping[str, frozenset[str]], who: Credential) -> str:
    """The very commands, for root on a node."""
    role = pve_setup.role_step(right.role, right.privileges, roles)
    grant = pve_setup.acl_step(right.path, right.role, _user(who), below=right.below)
    return " && ".join(step.command for step in (role, grant) if step)


def _user(who: Credential) -> str:
    return who.token.partition("!")[0]


async def _cluster(parts: Parts, settings: Settings, who: Credential) -> list[Finding]:
    """Quorum, nodes, and whether anybody else works with our token."""
    try:
        async with parts.pve(settings, who) as pve:
            state = await pve.cluster()
            found = [_ok("quorum", "the cluster is quorate")] if state.quorate else [_no_quorum()]
            for node in state.nodes:
                if node.online:
                    found.append(_ok("node", f"{node.name} is online"))
                else:
                    what = f"{node.name} is offline: its guests are left alone, and what is open there stays open"
                    found.append(Finding(check="node", mark=Mark.WARNING, what=what, remedy="bring it back"))
            online = [node.name for node in state.nodes if node.online]
            return found + await _sharing(parts, settings, pve, online)
    except (ReadFailed, BadInput) as error:
        return [_bad("cluster", error)]


def _no_quorum() -> Finding:
    what = "the cluster has no quorum: PVE refuses changes, or does half of them"
    return Finding(check="quorum", mark=Mark.PROBLEM, what=what, remedy="bring nodes back; `pvecm status` on a node")


async def _sharing(parts: Parts, settings: Settings, pve: Pve, nodes: list[NodeName]) -> list[Finding]:
    """Tasks of our token that the journal does not know: somebody else uses it, or the journal is not the newest."""
    if settings.cluster.token_id is None:
        return []
    since_s = parts.clock().now_ms() // 1000 - SHARED_SINCE_S
    found: list[Finding] = []
    strange: list[str] = []
    async with incarnation.journal_for_reading(parts, settings) as journal:
        for node in nodes:
            try:
                listed = await pve.tasks(node)
            except ReadFailed as error:
                found.append(_bad("token", error, Mark.UNKNOWN))
                continue
            ours = {
                row.upid.text
                for row in listed.rows
                if row.upid.user == settings.cluster.token_id and row.upid.starttime >= since_s
            }
            strange += sorted(ours - await journal.claimed_upids(frozenset(ours)))
    if strange:
        what = f"{len(strange)} tasks of {settings.cluster.token_id} in the last day are in no journal, as {strange[0]}"
        remedy = "give the agent a token of its own; if this journal is an older copy, bring back the newest"
        found.append(Finding(check="token", mark=Mark.PROBLEM, what=what, remedy=remedy))
    elif not found:
        found.append(_ok("token", f"nobody else worked with {settings.cluster.token_id} in the last day"))
    return found


async def _keeper(parts: Parts, settings: Settings) -> list[Finding]:
    keeper = settings.cluster.keeper
    if keeper is None:
        what = "no keeper: after a crash, some kinds of operations rest on time instead of on a dead token"
        return [Finding(check="keeper", mark=Mark.OK, what=what)]
    warned: list[str] = []
    try:
        who = incarnation.keeper_credential(keeper, warned.append)
        async with parts.pve(settings, who) as pve, parts.keeper(settings.cluster, keeper.user, who) as port:
            nodes = [node.name for node in (await pve.cluster()).nodes if node.online]
            for node in nodes:
                await port.listed(node)
    except (ReadFailed, BadInput) as error:
        finding = _bad("keeper", error)
        if isinstance(error, ReadFailed) and error.status == HTTPStatus.FORBIDDEN:
            remedy = "`trueup doctor --setup --keeper` gives the keeper what is missing"
            finding = msgspec.structs.replace(finding, remedy=remedy)
        return [finding]
    found = [_ok("keeper", f"{keeper.token_id} sees the tokens of {keeper.user}")]
    if 1 < len(nodes) != len(settings.cluster.endpoints):
        what = f"{len(settings.cluster.endpoints)} of {len(nodes)} nodes are named under endpoints"
        remedy = "name all nodes: whether a token is dead is asked of each node at its own address"
        found.append(Finding(check="keeper", mark=Mark.WARNING, what=what, remedy=remedy))
    return found
