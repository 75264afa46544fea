"""Security keys on the page: who has one, who could approve with one, and how a new one becomes a line of the keyring.

Rule kept here: the page decides nothing. What a browser signs goes to the gate as an envelope like any other, and a new
key is only shown: it counts when the keyring's owner has written its line into the file, where no page can write.
"""

from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request

from trueup.adapters.gate_files import GateFiles
from trueup.adapters.signing_keys import read_public
from trueup.core import gate_rules, gate_webauthn
from trueup.core.gate_rules import Files
from trueup.edges.cli.output import Json
from trueup.edges.web.doors import Doors, Visitor
from trueup.edges.web.guard import VISITOR
from trueup.edges.web.problems import Problem
from trueup.model.errors import BadInput
from trueup.model.gate import RequestState, RequestView, Ruling
from trueup.model.keyring import Keyring, RelyingParty
from trueup.model.settings import GateSettings


class Signer(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who could approve a request here. `credentials` name their security keys to the browser."""

    person: str
    credentials: tuple[str, ...]


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One key of the keyring. `revoked_ms` is from when on it counts no more (0 = it does).

    `site` is what a security key was enrolled for; '' = the key signs with a command.
    """

    person: str
    roles: tuple[str, ...]
    algorithm: str
    key_id: str
    comment: str
    revoked_ms: int
    revoked: bool
    site: str


class Signing:
    """The keyring as the page sees it, and on which pages people sign."""

    def __init__(self, gate: GateSettings, party: RelyingParty) -> None:
        """Nothing is read before it is asked for; then the files are read again whenever they change."""
        self.party = party
        self._files = GateFiles(gate.keyring, gate.policy)

    def is_here(self, request: Request) -> bool:
        """Whether the page was opened at an address at which browsers sign for us."""
        host = request.headers.get("host", "").lower()
        return any(urlsplit(origin).netloc == host for origin in self.party.origins)

    def signers(self, view: RequestView, now_ms: int) -> tuple[Signer, ...]:
        """Who could approve this request with a security key, and has not signed it yet."""
        files = self._files.current()
        if files is None or not self.party.origins:
            return ()
        signed = {one.person for one in view.approvals}
        roles = _roles(files, view)
        found = [
            Signer(person=person.name, credentials=_credentials(files.keyring, person.name, self.party, now_ms))
            for person in files.keyring.people
            if person.name not in signed and (roles is None or person.roles & roles)
        ]
        return tuple(one for one in found if one.credentials)

    def ruling(self, view: RequestView, now_ms: int) -> Ruling:
        """Who counts and who is missing, by today's keyring if the policy is the same; else as it was judged."""
        files = self._files.current()
        if files is None or view.state is not RequestState.PENDING or _roles(files, view) is None:
            return view.ruling
        number = view.ruling.rule
        valid = gate_rules.valid_at(files.keyring, view.approvals, now_ms)
        return gate_rules.rule_on(files.policy.rules[number - 1], number, files, view.request, valid)

    def rows(self, now_ms: int) -> tuple[KeyRow, ...] | None:
        """All keys of the keyring; None: there is none that can be read."""
        files = self._files.current()
        if files is None:
            return None
        keyring = files.keyring
        return tuple(
            KeyRow(
                person=person.name,
                roles=tuple(sorted(person.roles)),
                algorithm=key.algorithm,
                key_id=key.key_id,
                comment=key.comment,
                revoked_ms=gate_rules.revoked_from(keyring, key.key_id),
                revoked=gate_rules.is_revoked(keyring, key.key_id, now_ms),
                site=gate_webauthn.site_of(key.public),
            )
            for person in keyring.people
            for key in person.keys
        )

    def closed(self) -> str:
        """Why there is no keyring to show; as of the last `rows`."""
        return self._files.closed()


def _credentials(keyring: Keyring, name: str, party: RelyingParty, now_ms: int) -> tuple[str, ...]:
    person = keyring.person(name)
    keys = person.keys if person else ()
    return tuple(
        gate_webauthn.pack(gate_webauthn.credential_of(key.public))
        for key in keys
        if gate_webauthn.site_of(key.public) == party.rp_id and not gate_rules.is_revoked(keyring, key.key_id, now_ms)
    )


def _roles(files: Files, view: RequestView) -> frozenset[str] | None:
    """The roles whose approvals count, None where that is not known: the policy was changed since the ruling."""
    ruling = view.ruling
    if not 0 < ruling.rule <= len(files.policy.rules) or ruling.policy_digest != files.policy.digest:
        return None
    return files.policy.rules[ruling.rule - 1].roles


async def enrol(request: Request, doors: Doors, party: RelyingParty) -> dict[str, Json]:
    """The keyring's line for a new security key. Raises Problem: it may not be enrolled, and why."""
    from trueup.adapters import webauthn_enrol

    visitor: Visitor = request.scope[VISITOR]
    if not party.origins:
        raise Problem(HTTPStatus.CONFLICT, "no page is named in [http] origins, so no security key can be used")
    try:
        found = msgspec.json.decode(await request.body(), type=dict[str, str])
    except msgspec.DecodeError:
        raise Problem(HTTPStatus.BAD_REQUEST, "this takes what a browser says of a new security key") from None
    try:
        made = webauthn_enrol.parse_enrolment(found)
        line = webauthn_enrol.enrolled(made, doors.challenge(visitor), party).line
    except BadInput as error:
        raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from None
    return {"line": line, "key_id": read_public(line).key_id}
