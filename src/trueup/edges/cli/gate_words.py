"""What became of requests, in words: one sentence for each event of the gate.

What people wrote stands in quotes, and what cannot be printed in it is escaped.
"""

from trueup.edges.cli.output import WORD_OF, local
from trueup.model.gate import (
    Approved,
    Denied,
    GateEvent,
    Lapsed,
    Request,
    Requested,
    RequestState,
    RequestView,
    Vetoed,
)
from trueup.model.gate_answers import Resolution, Veto


def title(view: RequestView) -> str:
    """Which request it is."""
    target = view.request.target
    return f"request for {_plain(view.request.kind)} of {WORD_OF[target.type]} {target.vmid}"


def statement(said: Request | Veto | Resolution) -> str:
    """What somebody signs, in one line; the rest of it is in the file."""
    why = f", because of {_quoted(said.reason)}" if said.reason else ""
    match said:
        case Request(target=target, params=params):
            with_ = f" with {_plain(', '.join(f'{name}={value}' for name, value in params.items()))}" if params else ""
            what = (
                f"{_plain(said.kind)} of {WORD_OF[target.type]} {target.vmid}{with_} on cluster {_plain(said.cluster)}"
            )
            return f"{what}, asked for by {_plain(said.requested_by)}{why}, good until {local(said.execute_by_ms)}"
        case Veto():
            return f"a veto to request {_plain(said.request_id)} on cluster {_plain(said.cluster)}{why}"
        case Resolution():
            ended = f"operation {_plain(said.op_id)} on cluster {_plain(said.cluster)} {said.resolved_as.value}"
            return f"that {ended}{why}"


def words_of(event: GateEvent | Denied) -> str:
    """One event in words."""
    match event:
        case Requested(request=request, ruling=ruling, via=via):
            came = f" by {_plain(via)}" if via else ""
            need = f" {_upper(_plain(ruling.missing))}." if ruling.missing else ""
            return f"Asked for{came}: {_plain(request.requested_by)} gave as reason {_quoted(request.reason)}.{need}"
        case Approved(approval=approval):
            return f"{_plain(approval.person)} signed it, with key {_plain(approval.key_id)}."
        case Vetoed(approval=approval, reason=reason):
            why = f", because of {_quoted(reason)}" if reason else ""
            return f"{_plain(approval.person)} vetoed it{why}: it is not carried out."
        case Lapsed(state=RequestState.EXPIRED, text=text):
            return f"Its time was over before enough people had signed it{_because(text)}."
        case Lapsed(why=why, text=text):
            return f"It was refused ({why.value}){_because(text)}."
        case Denied(refusal=refusal, text=text, via=via, times=times):
            came = f" by {_plain(via)}" if via else ""
            often = f", {times} times" if times > 1 else ""
            return f"The gate refused what came{came}{often} ({refusal.value}){_because(text)}."


def accepted(execute_by_ms: int, not_before_ms: int) -> str:
    """That enough people signed it."""
    grace = f", not before {local(not_before_ms)}: until then it can be vetoed" if not_before_ms else ""
    return f"Signed by enough people and accepted, to be carried out by {local(execute_by_ms)}{grace}."


def _because(text: str) -> str:
    return f": {_plain(text).rstrip('.')}" if text else ""


def _quoted(text: str) -> str:
    return f'"{_plain(text)}"'


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
