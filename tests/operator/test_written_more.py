"""Manifests and folders of them, wrong in ways that are met less often, and then as the message says."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gate.world import ssh_line
from tests.operator.following import followed
from trueup.app import parts
from trueup.model import limits

HEAD = "kind: VirtualMachine\nname: db-1\nvmid: 102\nnode: pve1\n"
CT = HEAD.replace("VirtualMachine", "Container")
DEFAULTS = "kind: Defaults\n"

Good = str | Callable[[str], str]
Case = tuple[str, str, Good]
"""A remedy, what is wrong, and what is written when it is followed: it may be made out of the remedy as printed."""


def config(remedy: str, bad: str, good: Good) -> Case:
    def make(text: str) -> str:
        return f"{HEAD}config: {{{good if isinstance(good, str) else good(text)}}}\n"

    return remedy, f"{HEAD}config: {{{bad}}}\n", make


def more(remedy: str, bad: str, good: str, head: str = HEAD) -> Case:
    return remedy, f"{head}{bad}\n", f"{head}{good}\n"


def number(text: str) -> int:
    found = re.search(r"\d+", text)
    assert found
    return int(found[0])


def keys(count: int) -> str:
    return f"sshkeys: {[ssh_line('alice') + str(n) for n in range(count)]}"


QUOTED: list[Case] = [
    config("put it in quotes", "nameserver: [yes]", "nameserver: ['yes']"),
    more("put it in quotes", "labels: {new: true}", "labels: {new: 'true'}"),
    config("put it in quotes, or write it as a block after |", "description: {a: b}", "description: '{a: b}'"),
    (
        "put it in quotes, or write it as a block after |",
        f"{HEAD}config:\n  description: {{a: b}}\n",
        f"{HEAD}config:\n  description: |\n    {{a: b}}\n",
    ),
]
VALUES: list[Case] = [
    config("shorten it", f"description: {'x' * (limits.DESCRIPTION_MAX + 1)}", "description: x"),
    config("PVE takes no longer value", f"args: {'x' * (limits.CONFIG_VALUE_MAX + 1)}", "args: x"),
    config(
        "give each part a key of its own",
        "net0: {model: 'virtio,bridge=vmbr0'}",
        "net0: {model: virtio, bridge: vmbr0}",
    ),
    config("leave it out, or give it one", "net0: {model: virtio, bridge: }", "net0: {model: virtio}"),
    config("leave it out, or give it one", "net0: {model: virtio, bridge: }", "net0: {model: virtio, bridge: vmbr0}"),
    config("write letters, digits and hyphens", "net0: {'mod el': virtio}", "net0: {model: virtio}"),
    config("write null to delete the key", "net0: {}", lambda text: f"net0: {text.split()[1]}"),
    config("write it as PVE writes it, or as a map", "net0: [virtio]", "net0: 'virtio,bridge=vmbr0'"),
    config("write it as PVE writes it, or as a map", "net0: [virtio]", "net0: {model: virtio}"),
    config("write one text for each item", "tags: [{a: b}]", "tags: [a, b]"),
    config("write it as in authorized_keys: TYPE KEY COMMENT", "sshkeys: [abc]", f"sshkeys: ['{ssh_line('alice')}']"),
    config("write one key a line, or one for each item", "sshkeys: [{a: b}]", f"sshkeys: ['{ssh_line('alice')}']"),
    (
        "write one key a line, or one for each item",
        f"{HEAD}config: {{sshkeys: [{{a: b}}]}}\n",
        f"{HEAD}config:\n  sshkeys: |\n    {ssh_line('alice')}\n    {ssh_line('bob')}\n",
    ),
    config("leave at most {}", keys(limits.SSH_KEYS_MAX + 1), lambda text: keys(number(text))),
    config(
        "remove those that PVE fills in by itself",
        ", ".join(f"net{n}: x" for n in range(limits.CONFIG_KEYS_MAX + 1)),
        "cores: 2",
    ),
]
FORM: list[Case] = [
    more("write one of these", "power: [running]", "power: running"),
    more("leave `snapshots` out", "template: true\nsnapshots: {schedule: hourly, keep: 1}", "template: true"),
    more("leave it out", "source: {empty: true, full: true}", "source: {empty: true}"),
    more("write the source that is meant, or leave it out", "source: {empty: false}", "source: {clone: 9000}"),
    more("write the source that is meant, or leave it out", "source: {empty: false}", ""),
    more("write the vmid of the guest to be cloned", "source: {clone: 102}", "source: {clone: 9000}"),
    more(
        'write "hourly"',
        f"snapshots: {{schedule: 'daily {','.join(f'{n // 3:02}:{n % 3}0' for n in range(49))}', keep: 1}}",
        "snapshots: {schedule: hourly, keep: 1}",
    ),
    (
        "check the indentation, the quotes and the colons of this line and of the one above",
        f"{HEAD}config:\n  cores: 2\n memory: 3\n",
        f"{HEAD}config:\n  cores: 2\n  memory: 3\n",
    ),
    (
        "check the indentation, the quotes and the colons of this line and of the one above",
        HEAD.replace("db-1", "'db-1"),
        HEAD.replace("db-1", "'db-1'"),
    ),
    (
        "check the indentation, the quotes and the colons of this line and of the one above",
        f"{HEAD}config:\n  cores 2\n  memory: 3\n",
        f"{HEAD}config:\n  cores: 2\n  memory: 3\n",
    ),
    ("write `<<: *anchor`", f"{HEAD}config: {{<<: one}}\n", f"labels: &one {{}}\n{HEAD}config: {{<<: *one}}\n"),
    ("write `key: value`", f"{HEAD}config: {{[cores]: 2}}\n", f"{HEAD}config: {{cores: 2}}\n"),
    (
        "split or simplify the file; the rest of it was not read",
        f"{HEAD}labels: {'{a: ' * 40}1{'}' * 40}\n",
        f"{HEAD}labels: {{a: '1'}}\n",
    ),
    *(
        ('write "200-299" or "200-299,400", within {} and {}', f"{DEFAULTS}vmids: [1]\n---\n{HEAD}", good)
        for good in (
            lambda text: f"{DEFAULTS}vmids: {text.split()[1]}\n---\n{HEAD.replace('102', '200')}",
            lambda text: f"{DEFAULTS}vmids: {text.split()[3].rstrip(',')}\n---\n{HEAD.replace('102', '400')}",
        )
    ),
    (
        "choose another vmid, or move the manifest",
        f'{DEFAULTS}vmids: "200-299"\n---\n{HEAD}',
        f'{DEFAULTS}vmids: "200-299"\n---\n{HEAD.replace("102", "202")}',
    ),
    (
        "write them into one document",
        f"{DEFAULTS}power: running\n---\n{DEFAULTS}labels: {{a: b}}\n---\n{HEAD}",
        f"{DEFAULTS}power: running\nlabels: {{a: b}}\n---\n{HEAD}",
    ),
]  # fmt: skip
MANIFESTS = [*QUOTED, *VALUES, *FORM]


@pytest.mark.parametrize(("remedy", "bad", "good"), MANIFESTS, ids=[one[0][:40] for one in MANIFESTS])
def test_a_manifest_as_the_message_says(tmp_path: Path, remedy: str, bad: str, good: Good) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(bad)
    load = parts().manifests(tmp_path)
    followed(
        remedy,
        lambda: load().guests,
        lambda text: file.write_text(good if isinstance(good, str) else good(text)),
    )
    assert load().guests


# --- folders ----------------------------------------------------------------------------------------------------------


def deep(folder: Path) -> Path:
    below = folder.joinpath(*["d"] * (limits.MANIFEST_FOLDERS_DEEP + 2))
    below.mkdir(parents=True)
    (below / "deep.yaml").write_text(HEAD)
    return below / "deep.yaml"


def up(folder: Path) -> None:
    next(folder.rglob("deep.yaml")).rename(folder / "deep.yaml")
    for path in sorted(folder.rglob("d"), key=lambda one: -len(one.parts)):
        path.rmdir()


def huge(folder: Path) -> None:
    (folder / "a.yaml").write_text(HEAD + "#" * limits.MANIFEST_MAX_BYTES)


def split(folder: Path) -> None:
    half = limits.MANIFEST_MAX_BYTES // 2
    (folder / "a.yaml").write_text(HEAD + "#" * half)
    (folder / "b.yaml").write_text("#" * half)


def circle(folder: Path) -> None:
    (folder / "x.yaml").symlink_to("x.yaml")


def mend(folder: Path) -> None:
    (folder / "x.yaml").unlink()
    (folder / "x.yaml").symlink_to("../other.yaml")


def aside(folder: Path) -> None:
    (folder.parent / "p.secret").write_text("geheim")
    (folder / "a.yaml").write_text(f"{HEAD}config: {{ide2: 'shared:cloudinit', cipassword: {{file: ../p.secret}}}}\n")


def beside(folder: Path) -> None:
    (folder.parent / "p.secret").rename(folder / "p.secret")
    (folder / "a.yaml").write_text((folder / "a.yaml").read_text().replace("../", ""))


FOLDERS: list[tuple[str, Callable[[Path], object], Callable[[Path], object]]] = [
    ("move the files up", deep, up),
    ("split it", huge, split),
    ("remove it", lambda folder: os.mkfifo(folder / "p.yaml"), lambda folder: (folder / "p.yaml").unlink()),
    ("remove it, or mend the link", circle, lambda folder: (folder / "x.yaml").unlink()),
    ("remove it, or mend the link", circle, mend),
    ("put the file beside the manifest, or below", aside, beside),
]


@pytest.mark.parametrize(("remedy", "wrong", "follow"), FOLDERS, ids=[one[0] for one in FOLDERS])
def test_a_folder_as_the_message_says(
    tmp_path: Path, remedy: str, wrong: Callable[[Path], object], follow: Callable[[Path], object]
) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (tmp_path / "other.yaml").write_text(HEAD.replace("db-1", "db-2").replace("102", "103"))
    (folder / "a.yaml").write_text(HEAD.replace("db-1", "db-0").replace("102", "100"))
    wrong(folder)
    load = parts().manifests(folder)
    followed(remedy, load, lambda _: follow(folder))
    assert load().guests


FOLLOWED = {remedy for remedy, _, _ in (*MANIFESTS, *FOLDERS)}
