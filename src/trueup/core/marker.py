"""Our claim on a guest is one HTML comment in its description, and the user's text is everything else.

PVE renders descriptions as Markdown, so nobody sees the comment. PVE does not give a description back as it was sent:
it drops trailing blanks and newlines (QEMU) or adds a newline (LXC), so texts are compared without them. A description
with no marker, a damaged one, or more than one claims nothing: a guest is ours on clear evidence only.
"""

import json
import re
from sys import intern

import msgspec

from trueup.model.guests import Marker
from trueup.model.ids import VMID_MAX, VMID_MIN, OpId, Vmid

_OPEN = "<!-- trueup "
_CLOSE = " -->"
_ALIKE = re.compile(r"<!--[ \t]*trueup\b[^\n]*?-->")
"""What looks like a marker, whoever wrote it. A comment of ours never spans lines."""


class _Wire(msgspec.Struct, frozen=True, kw_only=True):
    """The marker's JSON. Fields of later versions are passed over."""

    uid: str
    installation: str
    vmid: int
    op: str
    n: int


_decoder = msgspec.json.Decoder(_Wire)


def render(user_text: str, marker: Marker) -> str:
    """The description to send: the user's own text, then the marker on a line of its own.

    Whatever looks like a marker in the user's text is left out: it would make the claim ambiguous.
    """
    own = clean(user_text)
    return f"{own}\n{_comment(marker)}" if own else _comment(marker)


def split(description: str) -> tuple[str, Marker | None]:
    """The user's own text, trailing blanks and newlines trimmed, and the marker, if there is exactly one good one.

    Text around a marker that does not count stays part of the user's text, with that marker in it.
    """
    found = list(_ALIKE.finditer(description))
    if len(found) != 1:
        return description.rstrip(), None
    start, end = found[0].span()
    before, after = description[:start], description[end:]
    line_before, line_after = before.rpartition("\n")[2], after.partition("\n")[0]
    marker = None if line_before.strip() or line_after.strip() else _parse(found[0].group())
    if marker is None:
        return description.rstrip(), None
    own = before[: len(before) - len(line_before)] + after[len(line_after) + 1 :]
    return own.rstrip(), marker


def clean(user_text: str) -> str:
    """A text as it is compared and rendered: nothing in it that looks like a marker, no trailing blanks or newlines."""
    text = user_text
    while _ALIKE.search(text):  # taking one out may join the halves of another
        text = _ALIKE.sub("", text)
    return text.rstrip()


def is_copy(marker: Marker, vmid: Vmid) -> bool:
    """Whether this marker was written for another guest: clones and restores carry descriptions along."""
    return marker.vmid != vmid


def _comment(marker: Marker) -> str:
    fields = {
        "uid": marker.uid,
        "installation": marker.installation,
        "vmid": marker.vmid,
        "op": marker.op_id,
        "n": marker.counter,
    }
    text = json.dumps(fields, separators=(",", ":"))
    # Two hyphens, or an angle, could end the comment early; inside JSON strings their escapes mean the same.
    text = text.replace("--", "-\\u002d").replace(">", "\\u003e").replace("<", "\\u003c")
    return f"{_OPEN}{text}{_CLOSE}"


def _parse(comment: str) -> Marker | None:
    if not (comment.startswith(_OPEN) and comment.endswith(_CLOSE)):
        return None
    try:
        wire = _decoder.decode(comment[len(_OPEN) : -len(_CLOSE)].encode(errors="replace"))
    except (msgspec.MsgspecError, RecursionError):
        return None
    if not (wire.uid and wire.installation and VMID_MIN <= wire.vmid <= VMID_MAX and wire.n >= 0):
        return None
    return Marker(
        uid=wire.uid,
        installation=intern(wire.installation),  # of thousands of guests the same
        vmid=Vmid(wire.vmid),
        op_id=OpId(wire.op),
        counter=wire.n,
    )
