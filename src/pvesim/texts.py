"""Guest configs as PVE keeps them: one text, whose SHA-1 is the digest.

Rule kept here: what a client reads is parsed from the text and the digest is a hash of the text, so equal texts
have equal digests however they came about, and a value PVE cannot round-trip comes back as PVE would return it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pvesim.wire import Json

_ENCODED = re.compile(r"[^\x20-\x24\x26-\x39\x3b-\x7e]")
QEMU_NUMBERS = frozenset({
    "acpi", "autostart", "balloon", "ciupgrade", "cores", "cpuunits", "freeze", "kvm", "localtime",
    "migrate_downtime", "migrate_speed", "numa", "onboot", "protection", "reboot", "shares", "smp", "snaptime",
    "sockets", "tablet", "tdf", "template", "vcpus", "allow-ksm",
})  # fmt: skip
LXC_NUMBERS = frozenset({
    "console", "cores", "cpuunits", "debug", "memory", "onboot", "protection", "snaptime", "swap", "template", "tty",
    "unprivileged",
})  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Config:
    """The parsed content of one config file."""

    values: dict[str, str] = field(default_factory=dict[str, str])
    pending: dict[str, str] = field(default_factory=dict[str, str])
    pending_delete: list[str] = field(default_factory=list[str])
    snapshots: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])

    def copy(self) -> Config:
        """An independent copy to edit."""
        return Config(
            values=dict(self.values),
            pending=dict(self.pending),
            pending_delete=list(self.pending_delete),
            snapshots={name: dict(values) for name, values in self.snapshots.items()},
        )

    def effective(self) -> dict[str, str]:
        """The values with everything pending applied."""
        merged = {key: value for key, value in self.values.items() if key not in self.pending_delete}
        merged.update(self.pending)
        return merged

    def apply_pending(self) -> None:
        """Make the pending values the current ones, as a start or a stop does."""
        self.values = self.effective()
        self.pending.clear()
        self.pending_delete.clear()


def encode_text(text: str) -> str:
    """One description line as it stands in the file."""
    return _ENCODED.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)


def raw_text(config: Config, guest_type: str = "qemu") -> str:
    """The file PVE writes for this content."""
    text = _section(config.values)
    if config.pending or config.pending_delete:
        waiting = dict(config.pending)
        if config.pending_delete:
            waiting["delete"] = ",".join(config.pending_delete)
        text += f"\n[{'PENDING' if guest_type == 'qemu' else 'pve:pending'}]\n{_section(waiting)}"
    for name in sorted(config.snapshots):
        text += f"\n[{name}]\n{_section(config.snapshots[name])}"
    return text


def _section(values: Mapping[str, str]) -> str:
    text = ""
    description = values.get("description", "").rstrip("\n")
    if description:
        text = "".join(f"#{encode_text(line)}\n" for line in description.split("\n"))
    return text + "".join(f"{key}: {values[key]}\n" for key in sorted(values) if key != "description")


def digest_of(text: str) -> str:
    """SHA-1 of the file."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def settle(config: Config, guest_type: str) -> Config:
    """What reading the written file gives back.

    Blanks at the end go (of a container's description only newlines), an empty description is none, and any other
    empty value is read as one blank.
    """
    settled = config.copy()
    for values in (settled.values, settled.pending, *settled.snapshots.values()):
        for key, value in values.items():
            if key == "description":
                values[key] = value.rstrip() if guest_type == "qemu" else value.rstrip("\n")
            else:
                values[key] = value.rstrip() or " "
    for values in (settled.values, *settled.snapshots.values()):
        if not values.get("description", "-"):
            del values["description"]
    return settled


def typed(guest_type: str, values: Mapping[str, str]) -> dict[str, Json]:
    """Values as JSON: whole numbers where PVE's schema says so, texts otherwise."""
    numbers = QEMU_NUMBERS if guest_type == "qemu" else LXC_NUMBERS
    out: dict[str, Json] = {}
    for key, value in values.items():
        if key in numbers and value.lstrip("-").isdigit():
            out[key] = int(value)
        elif key == "description" and guest_type == "lxc":
            out[key] = value + "\n"
        else:
            out[key] = value
    return out


def pending_rows(guest_type: str, config: Config, digest: str) -> list[dict[str, Json]]:
    """The rows of GET pending."""
    shown = typed(guest_type, config.values)
    rows: list[dict[str, Json]] = []
    waiting = typed(guest_type, config.pending)
    for key, value in shown.items():
        row: dict[str, Json] = {"key": key, "value": value}
        if key in waiting:
            row["pending"] = waiting[key]
        elif key in config.pending_delete:
            row["delete"] = 1
        rows.append(row)
    rows.append({"key": "digest", "value": digest})
    rows.extend({"key": key, "pending": value} for key, value in waiting.items() if key not in config.values)
    return rows


def clean_tags(raw: str) -> str:
    """Tags as PVE stores them: lower case, each once, sorted."""
    parts = (part.strip().lower() for part in re.split(r"[;, ]+", raw))
    return ";".join(sorted({part for part in parts if part}))
