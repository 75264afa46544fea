"""Where a journal in PostgreSQL is, checked before anything is connected, and what of it may be shown.

The password may stand in the URL, in `PGPASSWORD`, or in a password file (`?passfile=…`, `PGPASSFILE`, `~/.pgpass`);
the driver looks for it there. What is shown never has it.
"""

import re
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from trueup.model.errors import BadInput
from trueup.model.settings import PostgresAddress as Address
from trueup.model.settings import Secret

SCHEMES: Final = frozenset({"postgres", "postgresql"})
__all__ = ["Address", "parse", "redacted"]

KEYS: Final = frozenset(
    {
        "host", "port", "user", "passfile", "password", "dbname",
        "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "target_session_attrs", "application_name",
    }
)  # fmt: skip
"""What may stand behind the question mark; others would be taken for settings of the server, without a word."""

REMEDY: Final = 'write url = "postgresql://user@host:5432/database"'
_SECRET_KEYS: Final = frozenset({"password"})
_AUTHORITY: Final = re.compile(r"//[^/?#]*@")


def parse(url: str, journal: str) -> Address:
    """Check a URL; nothing is connected.

    Raises:
        BadInput: it is no address of a PostgreSQL database; the message does not repeat a password.
    """
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        unquote(parts.netloc, errors="strict")
    except (ValueError, UnicodeError):
        raise BadInput(what="the journal's address is no URL", remedy=REMEDY) from None
    if parts.scheme not in SCHEMES:
        raise BadInput(what="the journal's address is none of PostgreSQL", remedy=REMEDY)
    if "\0" in unquote(url) or parts.fragment:
        raise BadInput(what="the journal's address holds what no address holds", remedy=REMEDY)
    for key, _ in query:
        if key not in KEYS:
            raise BadInput(
                what=f"the journal's address has a key {key[:40]!r}", remedy=f"use {', '.join(sorted(KEYS))}"
            )
    keys = dict(query)
    if not (parts.path.strip("/") or keys.get("dbname")):
        raise BadInput(what="the journal's address names no database", remedy=REMEDY)
    return Address(url=Secret(url), shown=redacted(url), journal=journal)


def redacted(url: str) -> str:
    """The URL without a password, in however odd a place it stands."""
    head, _, query = url.partition("?")
    head = _AUTHORITY.sub(_without_password, head)
    try:
        kept = [(key, value) for key, value in parse_qsl(query, keep_blank_values=True) if key not in _SECRET_KEYS]
    except ValueError:
        kept = []
    return f"{head}?{urlencode(kept, safe='/')}" if kept else head


def _without_password(found: re.Match[str]) -> str:
    """The user's name alone; a password may hold an @ that nobody wrote as %40."""
    user, colon, _ = found.group()[2:-1].partition(":")
    return f"//{user}@" if colon or "@" not in user else "//***@"
