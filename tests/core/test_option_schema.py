"""What PVE's own schema plainly says against a value, and nothing beyond that."""

from collections.abc import Mapping

import pytest

from trueup.core.option_schema import Option, OptionSchema, fault_of, value_fault
from trueup.model.ids import GuestType

QEMU, LXC = GuestType.QEMU, GuestType.LXC
TWELVE = tuple(f"word{letter}" for letter in "abcdefghijkl")
PARTS = {
    "file": Option(default_key=True, pattern="not looked at"),
    "size": Option(type="integer"),
    "discard": Option(enum=("ignore", "on")),
    "queues": Option(type="integer", minimum=1),
}
SCHEMA = OptionSchema(
    version="9",
    options={
        QEMU: {
            "cores": Option(type="integer", minimum=1),
            "cipassword": Option(max_length=3),
            "net[n]": Option(description="A card."),
            "scsi[n]": Option(parts=PARTS),
            "vga": Option(parts=PARTS),
        },
        LXC: {"mp[n]": Option(parts={"volume": Option(pattern="not looked at")})},
    },
)


def fault(key: str, value: str | Mapping[str, str], guest: GuestType = QEMU) -> str:
    found = fault_of(SCHEMA, guest, key, value)
    return "" if found is None else f"{found.what} ({found.remedy})"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("cores", "", ""),  # what goes needs no form
        ("cores", {}, ""),
        ("cipassword", "hunter2", ""),  # nothing is said of a secret
        ("scsi0", {"size": "32G", "storage": "a"}, ""),  # a manifest's own way to say where a disk is
        ("vga", {"size": "32G"}, "'vga.size' is '32G'; it must be an integer ()"),
        ("scsi0", "a:1,queues=1", ""),
        ("scsi0", "a:1,queues=0", "'scsi0.queues' is 0; it must be at least 1 ()"),
        ("scsi0", "a:1,discard=1", ""),
        ("scsi0", "a:1,discard=no", ""),
        ("scsi0", "a:1,discard=what", "'scsi0.discard' is 'what'; it must be ignore or on ()"),
        ("nett", "x", "PVE 9 knows no option 'nett' of a VM (did you mean 'net0'? PVE: A card.)"),
        ("nett7", "x", "PVE 9 knows no option 'nett7' of a VM (did you mean 'net7'? PVE: A card.)"),
    ],
)
def test_what_the_schema_has_against_a_key(key: str, value: str | Mapping[str, str], said: str) -> None:
    assert fault(key, value) == said


def test_the_other_types_options_are_not_this_ones() -> None:
    assert fault("mp0", {"volume": "a:1"}, LXC) == ""
    assert not Option().default_key
    assert fault("cores", "1", LXC).startswith("PVE 9 knows no option 'cores' of a container (see its API viewer")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        (Option(type="integer"), "-5", ""),
        (Option(type="integer", minimum=2), "2", ""),
        (Option(type="integer", maximum=2), "2", ""),
        (Option(type="number", maximum=2), "2.5", "is 2.5; it must be at most 2"),
        (Option(min_length=3), "abc", ""),
        (Option(min_length=3), "ab", "is shorter than 3 characters"),
        (Option(max_length=3), "abc", ""),
        (Option(max_length=3), "abcd", "is longer than 3 characters"),
        (Option(pattern="(?^i:a)"), "A", ""),
        (Option(pattern="(?^:a)"), "A", "is 'A'; it must match (?^:a)"),
        (Option(pattern="(?^u:a)"), "a", ""),
        (Option(type="boolean"), "x" * 60, f"is '{'x' * 60}'; it must be true or false"),
        (Option(type="boolean"), "x" * 61, f"is '{'x' * 60}…'; it must be true or false"),
        (Option(enum=("a", "b")), "c", "is 'c'; it must be a or b"),
        (Option(enum=("a", "b", "c")), "d", "is 'd'; it must be one of a, b, c"),
        (Option(enum=TWELVE), "no", f"is 'no'; it must be one of {', '.join(TWELVE)}"),
        (Option(enum=(*TWELVE, "zebra")), "7", f"is '7'; it must be one of {', '.join(TWELVE)}, …"),
        (
            Option(enum=(*TWELVE, "zebra")),
            "Zebr",
            f"is 'Zebr'; it must be one of {', '.join(TWELVE)}, …; did you mean zebra?",
        ),
        (Option(type="odd"), "x", ""),
    ],
)
def test_a_value_at_the_edge_of_what_an_option_takes(option: Option, value: str, said: str) -> None:
    assert value_fault(option, value) == said


@pytest.mark.parametrize("length", [200, 201])
def test_a_long_description_is_cut(length: int) -> None:
    known = {QEMU: {"cores": Option(type="integer", description="x" * length)}}
    found = fault_of(OptionSchema(version="9", options=known), QEMU, "cores", "no")
    assert found is not None
    assert found.remedy == f"PVE: {'x' * 200}{'…' if length > 200 else ''}"
