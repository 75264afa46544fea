"""PVE's property strings as maps and back: `name=value` parts between commas, one name of which may be left out.

Text that is no property string is told apart by None and never raises: it came from PVE or from a person.
"""

import re
from collections.abc import Mapping
from fractions import Fraction

from trueup.core.property_formats import MACS, NET_MODELS, SETS, Format, format_of
from trueup.model.ids import GuestType

_TRUE = frozenset({"1", "on", "yes", "true"})
_FALSE = frozenset({"0", "off", "no", "false"})
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_NET = re.compile(r"net[0-9]+")


def is_net(guest_type: GuestType, key: str) -> bool:
    """Whether a key holds a network interface."""
    del guest_type  # alike for both
    return _NET.fullmatch(key) is not None


def parse(guest_type: GuestType, key: str, text: str) -> Mapping[str, str] | None:
    """The subkeys of a property string under PVE's own names; None if it is none."""
    fmt = format_of(guest_type, key)
    found: dict[str, str] = {}
    for part in text.strip().split(","):
        name, equals, value = part.partition("=")
        name, value = name.strip(), value.strip()
        if not equals:
            name, value = fmt.default_key, name
        if not name or name in found:
            return None
        found[name] = value
    return canonical(guest_type, key, fmt, found)


def render_map(guest_type: GuestType, key: str, values: Mapping[str, str]) -> str:
    """Subkeys as PVE writes them: the default key bare and first, `virtio=MAC` for QEMU's network interfaces."""
    rest = {name: value for name, value in values.items() if value}
    fmt = format_of(guest_type, key)
    head: list[str] = []
    if guest_type is GuestType.QEMU and is_net(guest_type, key) and "model" in rest:
        model, mac = rest.pop("model"), rest.pop("macaddr", "")
        head = [f"{model}={mac}" if mac else model]
    elif fmt.default_key in rest:
        head = [rest.pop(fmt.default_key)]
    return ",".join(head + [f"{name}={value}" for name, value in rest.items()])


def same_value(subkey: str, want: str, have: str) -> bool:
    """Whether two values of one subkey mean the same: spellings of truth, of numbers, of MAC addresses, of sets."""
    want, have = want.strip(), have.strip()
    if want == have:
        return True
    if subkey in MACS:
        return want.casefold() == have.casefold()
    if subkey in SETS:
        return set(want.split(";")) == set(have.split(";"))
    if (is_true(want) and is_true(have)) or (is_false(want) and is_false(have)):
        return True
    if _NUMBER.fullmatch(want) and _NUMBER.fullmatch(have):
        return Fraction(want) == Fraction(have)
    return False


def is_true(text: str) -> bool:
    """One of PVE's spellings of truth."""
    return text.strip().lower() in _TRUE


def is_false(text: str) -> bool:
    """One of PVE's spellings of falsehood."""
    return text.strip().lower() in _FALSE


def canonical(guest_type: GuestType, key: str, fmt: Format, values: Mapping[str, str]) -> dict[str, str]:
    """Other names of subkeys replaced by PVE's; `virtio=MAC` taken apart."""
    found: dict[str, str] = {}
    models = NET_MODELS if guest_type is GuestType.QEMU and is_net(guest_type, key) else frozenset[str]()
    for name, value in values.items():
        if name in models:
            found["model"] = name
            if value.strip():
                found["macaddr"] = value
        else:
            found[fmt.aliases.get(name, name)] = value
    return found


def overlaid(fmt: Format, new: Mapping[str, str], old: Mapping[str, str]) -> dict[str, str]:
    """The old subkeys with the new ones in their place, without old ones that a new one rules out."""
    ruled_out = set(fmt.exclusive) if any(name in fmt.exclusive for name in new) else set[str]()
    for address, gateway in (("ip", "gw"), ("ip6", "gw6")):
        if new.get(address) in {"dhcp", "auto", "manual"}:
            ruled_out.add(gateway)
    kept = {name: value for name, value in old.items() if name in new or name not in ruled_out}
    return {**kept, **new}
