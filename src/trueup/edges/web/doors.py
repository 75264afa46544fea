"""Who may come in: the bearer token for programs, a session for people, nothing on the unix socket.

Rule kept here: secrets are compared in constant time and never stored as they are. A session is a random number in a
cookie that scripts cannot read; it lives in memory only, so a restart logs everybody out. Everything that a browser
posts carries a CSRF token that belongs to its session.
"""

import hashlib
import hmac
import os
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Final

import msgspec
from starlette.requests import HTTPConnection

from trueup.adapters.system import unguessable
from trueup.edges.settings import read_secret
from trueup.edges.web.attempts import Attempts
from trueup.model import limits
from trueup.model.errors import BadInput
from trueup.model.settings import Secret, SecretSource
from trueup.ports import Clock

TRUSTED: Final = "trueup.trusted"
"""Set in the scope of requests that came over the unix socket; no client can set it."""

CSRF_HEADER: Final = "x-csrf-token"

_SAME_SITE: Final = frozenset({"same-origin", "none"})


class Visitor(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who was let in. `csrf` is what a browser has to send back ('' = no browser); `session` names it."""

    csrf: str = ""
    session: str = ""


class Doors:
    """Lets in and keeps out."""

    def __init__(self, token: Secret, clock: Clock, *, tls: bool) -> None:
        """Expect this token. `tls`: cookies are sent over TLS only."""
        self._token = _digest(token.reveal())
        self._clock = clock
        self._key = unguessable().encode()
        self._sessions: dict[str, float] = {}
        self.attempts = Attempts(clock)
        self._tls = tls
        self._cookie = "__Host-trueup" if tls else "trueup"
        self._login_cookie = "__Host-trueup-login" if tls else "trueup-login"

    def visitor(self, connection: HTTPConnection) -> Visitor | None:
        """Who asks; None for somebody who may not come in."""
        if connection.scope.get(TRUSTED):
            return Visitor()
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return Visitor() if self.is_token(given.strip()) else None
        session = _cookie(connection, self._cookie)
        name = _digest(session).hex()
        ends = self._sessions.get(name, 0.0)
        if not session or self._clock.monotonic() > ends:
            self._sessions.pop(name, None)
            return None
        return Visitor(csrf=self._mac("session", name), session=name)

    def is_token(self, given: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(_digest(given), self._token)

    def log_in(self) -> str:
        """Begin a session; returns the header that gives it to the browser."""
        now = self._clock.monotonic()
        live = {name: ends for name, ends in self._sessions.items() if ends > now}
        while len(live) >= limits.SESSIONS_MAX:
            live.pop(next(iter(live)))  # the oldest
        session = unguessable()
        live[_digest(session).hex()] = now + limits.SESSION_S
        self._sessions = live
        return self._set(self._cookie, session, int(limits.SESSION_S))

    def log_out(self, visitor: Visitor) -> str:
        """End a session; returns the header that takes it from the browser."""
        self._sessions.pop(visitor.session, None)
        return self._set(self._cookie, "", 0)

    def before_login(self, connection: HTTPConnection) -> tuple[str, str]:
        """The CSRF token of a login form, and the header that binds it to this browser."""
        bound = _cookie(connection, self._login_cookie) or unguessable()
        return self._mac("login", bound), self._set(self._login_cookie, bound, int(limits.SESSION_S))

    def may_log_in(self, connection: HTTPConnection, csrf: str) -> bool:
        """Whether a login form came from a page that we gave to this browser."""
        bound = _cookie(connection, self._login_cookie)
        return bool(bound) and self._same_site(connection) and _same(csrf, self._mac("login", bound))

    def may_post(self, connection: HTTPConnection, visitor: Visitor, csrf: str) -> bool:
        """Whether something that changes was meant: programs always mean it, a browser proves it."""
        return not visitor.csrf or (self._same_site(connection) and _same(csrf, visitor.csrf))

    def challenge(self, visitor: Visitor) -> bytes:
        """What a new security key signs when it is enrolled on a page that this visitor was given."""
        return bytes.fromhex(self._mac("enrol", visitor.session))

    @staticmethod
    def _same_site(connection: HTTPConnection) -> bool:
        """Browsers of today say where a request came from; older ones say nothing."""
        return connection.headers.get("sec-fetch-site", "none") in _SAME_SITE

    def _mac(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()

    def _set(self, name: str, value: str, age_s: int) -> str:
        secure = "; Secure" if self._tls else ""
        return f"{name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}"


def open_token(file: Path) -> tuple[Secret, str]:
    """The token of our own HTTP, and a line about it ('' = nothing to say). A missing file is made, for us alone.

    Raises:
        BadInput: the file cannot be read or made, or holds no token.
    """
    made = ""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        what = f"cannot make the file with the HTTP token: {error.strerror}"
        raise BadInput(what=what, where=str(file), remedy="see [http] token_file") from error
    else:
        with os.fdopen(descriptor, "w") as opened:
            opened.write(unguessable() + "\n")
        made = f"a token for HTTP and the web page was made: {file}"
    read = read_secret(SecretSource(file=file), {}, what="HTTP token")
    token = read.secret.reveal()
    if len(token) < limits.HTTP_TOKEN_MIN:
        remedy = "remove the file, and a good one is made at the next start"
        raise BadInput(
            what=f"the HTTP token is shorter than {limits.HTTP_TOKEN_MIN} characters", where=str(file), remedy=remedy
        )
    return read.secret, "; ".join([*([made] if made else []), *read.warnings])


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode())


def _cookie(connection: HTTPConnection, name: str) -> str:
    for header in connection.headers.getlist("cookie"):
        try:
            found = SimpleCookie(header).get(name)
        except CookieError:
            continue
        if found is not None:
            return found.value
    return ""
