"""Whether a vmid is still the guest that an operation was meant for.

Two questions, on purpose apart. *As signed* is strict: all that told the guest from another when people signed must be
the same, and its config to the letter. *Still* is what recovery asks after our own writes: our marker may be new, a
rollback may have renewed the generation, and it is the same guest for all that.
"""

from msgspec.structs import replace

from trueup.model.guests import Marker, Observed
from trueup.model.ops import Intent


def as_signed(intent: Intent, guest: Observed) -> str:
    """Why this is not the guest that was signed for, as a clause; '' if it is. An unknown identity is none."""
    if intent.identity is None or not intent.digest:
        return "the request does not say which guest it means"
    if guest.type is not intent.type:
        return f"vmid {guest.vmid} is a {guest.type} guest now"
    if guest.identity != intent.identity:
        return "the vmid belongs to another guest now, or to this one after a restore or a rollback"
    if guest.digest != intent.digest:
        return "the guest's config was changed after it was signed for"
    return ""


def still(intent: Intent, guest: Observed) -> bool:
    """Whether the guest is the one that the operation was meant for, whatever happened to it since."""
    before = intent.identity
    if before is None:
        return True
    if guest.type is not intent.type:
        return False
    if before.smbios1_uuid:
        return (guest.identity.smbios1_uuid, guest.identity.ctime) == (before.smbios1_uuid, before.ctime)
    if _wrote(intent.marker, guest):
        return True
    return replace(guest.identity, vmgenid="") == replace(before, vmgenid="")


def _wrote(mark: Marker | None, guest: Observed) -> bool:
    """Whether the guest carries the uid that this operation wrote or found."""
    return mark is not None and guest.marker is not None and guest.marker.uid == mark.uid
