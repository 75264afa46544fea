"""Names as they are stored: UTF-8 in bytea. PostgreSQL's text takes no NUL, and sorts by the server's mind."""

from trueup.adapters.sqlite.gate_tables import REBUILD
from trueup.model.errors import Corrupt


def name(value: str) -> bytes:
    """A name as it is stored. One that is no UTF-8 is in no journal, and is merely not found."""
    return value.encode("utf-8", "surrogatepass")


def text(value: object) -> str:
    """A name as it was; a damaged row can give anything. Raises Corrupt."""
    if not isinstance(value, bytes):
        raise Corrupt(what="the journal is damaged: a name is gone", first_bad=0, remedy=REBUILD)
    return value.decode("utf-8", "surrogatepass")
