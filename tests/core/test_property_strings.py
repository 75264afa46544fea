"""Property strings taken apart and put together, word by word."""

from collections.abc import Mapping

import pytest

from trueup.core.property_formats import format_of
from trueup.core.property_strings import is_false, is_net, is_true, overlaid, parse, render_map, same_value
from trueup.model.ids import GuestType

QEMU, LXC = GuestType.QEMU, GuestType.LXC


def test_spellings_of_truth_and_falsehood() -> None:
    words = ["1", "on", "yes", "true", " Yes ", "0", "off", "no", "false", " OFF ", "2", "", "onX"]
    assert [word for word in words if is_true(word)] == ["1", "on", "yes", "true", " Yes "]
    assert [word for word in words if is_false(word)] == ["0", "off", "no", "false", " OFF "]


@pytest.mark.parametrize(
    ("subkey", "want", "have", "same"),
    [
        ("", " a ", "a", True),
        ("", "a", "A", False),
        ("", "1", "yes", True),
        ("", "no", "off", True),
        ("", "1", "0", False),
        ("", "yes", "off", False),
        ("", "2.50", "2.5", True),
        ("", "-1", "-1.0", True),
        ("", "2", "3", False),
        ("", "2", "two", False),
        ("", "two", "2", False),
        ("macaddr", "aa:bb", "AA:BB", True),
        ("hwaddr", "aa:bb", "AA:BC", False),
        ("macaddr", "1", "yes", False),  # in an address nothing is a truth
        ("flags", "+aes;-pcid", "-pcid;+aes", True),
        ("trunks", "1;2", "2;3", False),
        ("mount", "1", "yes", False),
        ("other", "a;b", "b;a", False),
    ],
)
def test_two_values_of_one_part_mean_the_same(subkey: str, want: str, have: str, *, same: bool) -> None:
    assert same_value(subkey, want, have) is same


@pytest.mark.parametrize(
    ("guest", "key", "text", "parts"),
    [
        (QEMU, "net0", "virtio=AA, bridge = b", {"model": "virtio", "macaddr": "AA", "bridge": "b"}),
        (QEMU, "net0", "virtio=,bridge=b", {"model": "virtio", "bridge": "b"}),
        (QEMU, "net0", "hwaddr=AA", {"macaddr": "AA"}),
        (QEMU, "scsi0", "virtio=AA,size=1G", {"virtio": "AA", "size": "1G"}),  # a model of a card, but no card
        (LXC, "net0", "virtio=AA", {"virtio": "AA"}),
        (LXC, "net0", "macaddr=AA,name=eth0", {"hwaddr": "AA", "name": "eth0"}),
        (LXC, "net0", "eth0", None),  # no part's name may be left out here
        (QEMU, "agent", "1,type=isa", {"enabled": "1", "type": "isa"}),
        (QEMU, "agent", "1,2", None),
        (QEMU, "agent", "type=a,type=b", None),
        (QEMU, "agent", "=1", None),
    ],
)
def test_a_text_is_taken_apart(guest: GuestType, key: str, text: str, parts: Mapping[str, str] | None) -> None:
    assert parse(guest, key, text) == parts


@pytest.mark.parametrize(
    ("guest", "key", "parts", "text"),
    [
        (QEMU, "net0", {"bridge": "b", "macaddr": "AA", "model": "virtio"}, "virtio=AA,bridge=b"),
        (QEMU, "net0", {"bridge": "b", "model": "virtio", "tag": ""}, "virtio,bridge=b"),
        (QEMU, "net0", {"bridge": "b", "macaddr": "AA"}, "bridge=b,macaddr=AA"),
        (LXC, "net0", {"name": "eth0", "model": "x"}, "name=eth0,model=x"),
        (QEMU, "rng0", {"max_bytes": "9", "source": "/dev/urandom"}, "/dev/urandom,max_bytes=9"),
        (QEMU, "cpu", {"model": "x", "cputype": "host"}, "host,model=x"),
        (QEMU, "watchdog", {"action": "reset", "model": "ib700"}, "ib700,action=reset"),
    ],
)
def test_parts_are_put_together(guest: GuestType, key: str, parts: Mapping[str, str], text: str) -> None:
    assert render_map(guest, key, parts) == text


@pytest.mark.parametrize(
    ("key", "new", "old", "kept"),
    [
        ("net0", {"ip": "dhcp"}, {"ip": "10.0.0.2/8", "gw": "10.0.0.1", "gw6": "::1"}, ["ip", "gw6"]),
        ("net0", {"ip": "manual"}, {"gw": "10.0.0.1"}, ["ip"]),
        ("net0", {"ip6": "auto"}, {"ip6": "::2/64", "gw6": "::1", "gw": "10.0.0.1"}, ["ip6", "gw"]),
        ("net0", {"ip": "10.0.0.3/8"}, {"ip": "10.0.0.2/8", "gw": "10.0.0.1"}, ["ip", "gw"]),
        ("usb0", {"mapping": "n"}, {"mapping": "m", "usb3": "1"}, ["mapping", "usb3"]),  # in its old place
        ("usb0", {"host": "1:2"}, {"mapping": "m", "usb3": "1"}, ["usb3", "host"]),
        ("usb0", {"mapping": "n", "usb3": "0"}, {"host": "1:2"}, ["mapping", "usb3"]),
        ("usb0", {"usb3": "0"}, {"mapping": "m", "usb3": "1"}, ["mapping", "usb3"]),
    ],
)
def test_new_parts_rule_out_old_ones(key: str, new: Mapping[str, str], old: Mapping[str, str], kept: list[str]) -> None:
    found = overlaid(format_of(QEMU, key), new, old)
    assert list(found) == kept
    assert new.items() <= found.items()


def test_only_numbered_interfaces_are_some() -> None:
    assert [key for key in ("net0", "net12", "net", "net1x", "xnet1") if is_net(LXC, key)] == ["net0", "net12"]
