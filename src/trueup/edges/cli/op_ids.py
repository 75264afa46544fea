"""An operation by the beginning of its id."""

from typing import Final

from trueup.edges.looking import LookingJournal
from trueup.model.errors import BadInput
from trueup.model.ids import OpId
from trueup.model.ops import OpView

_AMBIGUOUS_SHOWN: Final = 5


async def find(journal: LookingJournal, start: str) -> OpView:
    """The operation whose id begins so. Raises BadInput: none, or several."""
    exact = await journal.op(OpId(start))
    if exact is not None:
        return exact
    found = [view for view in await journal.ops() if view.op_id.startswith(start.lower())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInput(what=f"no operation's id begins with {start!r}", remedy="see `trueup ops list`")
    some = ", ".join(view.op_id for view in found[:_AMBIGUOUS_SHOWN])
    more = ", ..." if len(found) > _AMBIGUOUS_SHOWN else ""
    raise BadInput(what=f"{len(found)} operations begin with {start!r}: {some}{more}", remedy="give more of the id")
