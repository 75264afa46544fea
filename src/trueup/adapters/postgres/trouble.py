"""What PostgreSQL's errors mean; the only place that maps them.

Two questions are answered apart: what a person is told, and whether another connection may do better. What became of a
COMMIT without an answer is neither's business: the store looks it up.
"""

import contextlib
from collections.abc import Generator, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

import asyncpg

from trueup.model.errors import BadInput, Corrupt, JournalFailed, TrueupError

T = TypeVar("T")

Foreign: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Everything that the driver raises; time-outs and TLS errors are OSErrors."""

READ_ONLY: Final = "25006"
RESTORE: Final = "bring the database back from a backup, or save what can be read with `trueup journal quarantine`"
_REACH: Final = "see that the database runs and can be reached from here; the agent tries again by itself"

# SQLSTATE or its class -> what it means to us; the longest match counts. What is not listed is a journal that failed.
_MEANING: Final[Mapping[str, type[TrueupError]]] = MappingProxyType(
    {
        "28": BadInput,  # password, role
        "3D": BadInput,  # no such database
        "42501": BadInput,  # no right
        "42": Corrupt,  # our statements are right, so a table or a column is gone
        "3F": Corrupt,  # the schema is gone
        "23": Corrupt,  # admission has checked all of them: head and records disagree
        "XX": Corrupt,
    }
)

_REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "53100": "free space on the database's disk",
        "53300": "the database has no connection left: raise max_connections, or end what uses them",
        READ_ONLY: "this server is a standby or set to read only: point [store] url at the primary, or name all hosts",
        "28": "give the right user, and its password in the URL, PGPASSWORD or a password file",
        "3D": "make the database: `createdb -h HOST -p PORT -U USER NAME`",
        "42501": "give the user the right to make and use the schema trueup: make it the database's owner",
        "55P03": "another session holds the journal's head: look for it in pg_stat_activity",
    }
)

_TRANSIENT: Final = ("08", "57P01", "57P02", "57P03", "25P03", READ_ONLY, "40001", "40P01", "53300")
"""The connection is gone, or the server told to try again: another connection, perhaps to another server, may do."""


def means(error: BaseException, where: str) -> TrueupError:
    """What a person is told. Never "not found", whatever it is; no secret is in what PostgreSQL says."""
    state = _state(error)
    meaning = _best(_MEANING, state) or JournalFailed
    remedy = _best(_REMEDIES, state)
    if not state:
        said = str(error).strip() or type(error).__name__
        if isinstance(error, asyncpg.InternalClientError) and "target attribute" in said:  # no writes there
            what = f"no database that can be written: {_line(said)}"
            return JournalFailed(what=what, where=where, remedy=_REMEDIES[READ_ONLY])
        return JournalFailed(what=f"the database does not answer: {_line(said)}", where=where, remedy=_REACH)
    said = _line(getattr(error, "message", None) or str(error))
    if meaning is Corrupt:
        return Corrupt(what=f"the journal is damaged: {said}", first_bad=0, where=where, remedy=remedy or RESTORE)
    if meaning is BadInput:
        return BadInput(what=f"the journal cannot be used: {said}", where=where, remedy=remedy or "")
    return JournalFailed(what=f"the journal failed: {said}", where=where, remedy=remedy or _REACH)


def is_transient(error: BaseException) -> bool:
    """Whether another connection may do better. Says nothing about a COMMIT that was under way."""
    state = _state(error)
    if state:
        return state.startswith(_TRANSIENT)
    return isinstance(error, (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError))


@contextlib.contextmanager
def mapped(where: str) -> Generator[None]:
    """Turn PostgreSQL's errors into ours, and let damage say in which journal it is."""
    try:
        yield
    except Foreign as error:
        raise means(error, where) from error
    except Corrupt as error:
        if error.where:
            raise
        remedy = error.remedy or RESTORE
        raise Corrupt(what=error.what, first_bad=error.first_bad, where=where, remedy=remedy) from error


def _state(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def _best(table: Mapping[str, T], state: str) -> T | None:
    return next((table[state[:n]] for n in range(len(state), 1, -1) if state[:n] in table), None)


def _line(text: str) -> str:
    return " ".join(text.split())
