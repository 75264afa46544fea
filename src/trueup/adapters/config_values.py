"""What stands under `config` in a manifest, as PVE's own property strings and maps of them.

PVE keeps text, so a value is passed on **as it was written**: `0x10de`, `01:02:03:04:05:06` and `1.50` are not numbers
to be spelled anew, whatever YAML 1.1 reads from them. Three things are translated: true and false (and yes, no, on and
off, where PVE means a truth value) become 1 and 0, a list is joined as PVE joins that list, and null deletes the key.
Keys that are trueup's own or that PVE keeps for itself are refused with the reason. A password is not written here but
named by its file: manifests stand in version control.
"""

import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

import msgspec

from trueup.adapters.yaml_positions import ListNode, MapNode, Node, Scalar, is_null
from trueup.core import marker
from trueup.model import limits

Tell = Callable[[Scalar | ListNode | MapNode, str, str], None]
"""Takes a complaint: the place, what is wrong, the remedy."""

TRUTHS: Final = {
    spelled: word in {"yes", "true", "on"}
    for word in ("yes", "true", "on", "no", "false", "off")
    for spelled in (word, word.title(), word.upper())
}
"""The words that YAML 1.1 takes for truth values."""

_WORDS: Final = frozenset({"keyboard", "discard", "videostreaming"})
"""Keys, at either level, for which PVE takes `no`, `on` or `off` as words of their own (enumerations of its schema)."""

_KEY: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
_PART: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.-]*", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_JOINED: Final = {"tags": ";", "nameserver": " ", "searchdomain": " "}
_INNER_JOINT: Final = ";"
"""Inside a property string a comma ends the part, so all of PVE's inner lists take semicolons."""

_AT_TOP: Final = "it is the manifest's own key: write `{}` beside `config`"
_INTERNAL: Final = "PVE writes it itself"
_CALL: Final = "it is a switch of a single call, not a part of a guest"
REFUSED: Final = MappingProxyType(
    {
        "vmid": _AT_TOP.format("vmid"),
        "name": _AT_TOP.format("name"),
        "hostname": _AT_TOP.format("name"),
        "node": _AT_TOP.format("node"),
        "lock": "only root may set it, and only to clear up by hand",
        "digest": "PVE computes it",
        "template": _AT_TOP.format("template"),
        "meta": "PVE writes it at creation; it tells a guest from its successor",
        "vmgenid": "PVE makes it; it tells a guest from a restored copy",
        **dict.fromkeys(
            ("parent", "snaptime", "snapstate", "snapshots", "vmstate", "pending", "runningmachine", "runningcpu"),
            _INTERNAL,
        ),
        "running-nets-host-mtu": _INTERNAL,
        "ostemplate": "the template is the source: write `source: {template: …}`",
        "archive": "the backup is the source: write `source: {archive: …}`",
        "restore": "a backup is restored by `source: {archive: …}`",
        "start": "write `power: running`",
        "pool": _AT_TOP.format("pool"),
        "password": "a manifest is no place for a password, and PVE takes it at creation only",
        "ssh-public-keys": "PVE takes it at creation only and does not show it afterwards",
        **dict.fromkeys(
            ("force", "unique", "skiplock", "delete", "revert", "background_delay", "live-restore", "bwlimit"), _CALL
        ),
        **dict.fromkeys(
            ("storage", "newid", "target", "full", "snapname", "format", "purge", "destroy-unreferenced-disks"), _CALL
        ),
        **dict.fromkeys(("import-working-storage", "ignore-unpack-errors", "ha-managed"), _CALL),
    }
)
"""Keys that cannot stand in a manifest, with the reason."""

_UNUSED: Final = re.compile(r"unused[0-9]+", re.ASCII)


IN_FILES: Final = frozenset({"cipassword"})
"""Keys whose value stands in a file of its own: `{file: PATH}`."""

_HASHED: Final = re.compile(r"\$[0-9a-z]+\$\S+", re.ASCII)
_SSH_KEY: Final = re.compile(r"(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[A-Za-z0-9@.-]+ +[A-Za-z0-9+/]+={0,2}(?: .*)?")
_ENCODED: Final = re.compile(r"[A-Za-z0-9%._~@*+-]*%20[A-Za-z0-9%._~@*+-]*", re.ASCII)


class SecretFile(msgspec.Struct, frozen=True, kw_only=True):
    """Where a secret stands, as it was written, and the place in the manifest that says so."""

    name: str
    line: int
    column: int


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The values by key, in the form of `Desired.config`; and the user's own description (None = not ours).

    `secrets` are keys whose value is still to be read from a file.
    """

    values: dict[str, str | dict[str, str]]
    description: str | None
    secrets: dict[str, SecretFile] = {}


def read_config(node: MapNode, tell: Tell) -> Config:
    """Read what stands under `config`; complaints go to `tell`, and what they are about is left out."""
    if len(node.entries) > limits.CONFIG_KEYS_MAX:
        tell(node, f"more than {limits.CONFIG_KEYS_MAX} config keys", "remove those that PVE fills in by itself")
        return Config(values={}, description=None)
    values: dict[str, str | dict[str, str]] = {}
    secrets: dict[str, SecretFile] = {}
    description: str | None = None
    for key, value in node.entries:
        if key.text == "description":
            description = _description(value, tell)
        elif key.text in IN_FILES and not (isinstance(value, Scalar) and is_null(value)):
            if isinstance(value, Scalar) and _HASHED.fullmatch(value.text):
                values[key.text] = value.text
            elif (found := _secret_file(key.text, value, tell)) is not None:
                secrets[key.text] = found
        elif key.text == "sshkeys" and not (isinstance(value, Scalar) and is_null(value)):
            values[key.text] = _ssh_keys(value, tell)
        elif _allowed(key, tell) and (read := _value(key.text, value, tell)) is not None:
            values[key.text] = read
            if key.text == "protection" and read in {"", "0"}:
                tell(key, "'protection' cannot be lifted by a manifest", "a signed destroy lifts it; leave the key out")
    return Config(values=values, description=description, secrets=secrets)


def _secret_file(key: str, node: Node, tell: Tell) -> SecretFile | None:
    inner = node.get("file") if isinstance(node, MapNode) and len(node.entries) == 1 else None
    if not isinstance(inner, Scalar) or is_null(inner) or not inner.text or _CONTROL.search(inner.text):
        remedy = f"write {key}: {{file: PATH}}, relative to this manifest, and keep that file out of version control"
        tell(node, f"{key!r} is no value that may stand in a manifest", remedy)
        return None
    return SecretFile(name=inner.text, line=inner.line, column=inner.column)


def _ssh_keys(node: Node, tell: Tell) -> str:
    """Public keys, one a line, as `authorized_keys` has them; PVE's own spelling, percent-encoded, is taken too."""
    items = node.items if isinstance(node, ListNode) else (node,)
    keys: list[str] = []
    for item in items:
        if not isinstance(item, Scalar):
            tell(item, "a public key must be a text", "write one key a line, or one for each item")
            continue
        text = unquote(item.text) if _ENCODED.fullmatch(item.text) else item.text
        for line in (line.strip() for line in text.splitlines()):
            if not line or line.startswith("#"):
                continue
            if _SSH_KEY.fullmatch(line) is None or _CONTROL.search(line):
                tell(item, f"{line[:40]!r} is no public SSH key", "write it as in authorized_keys: TYPE KEY COMMENT")
            keys.append(line)
    if len(keys) > limits.SSH_KEYS_MAX or sum(map(len, keys)) > limits.CONFIG_VALUE_MAX:
        tell(node, "more public keys than PVE takes", f"leave at most {limits.SSH_KEYS_MAX}")
    return "\n".join(keys)


def _allowed(key: Scalar, tell: Tell) -> bool:
    reason = REFUSED.get(key.text) or (_INTERNAL if _UNUSED.fullmatch(key.text) else "")
    if reason:
        tell(key, f"{key.text!r} cannot stand under config", reason)
    elif _KEY.fullmatch(key.text) is None:
        lower = key.text.lower()
        remedy = f"did you mean {lower!r}?" if _KEY.fullmatch(lower) else "PVE's keys are lower-case letters and digits"
        tell(key, f"{key.text[:60]!r} is no config key", remedy)
    else:
        return True
    return False


def _value(key: str, node: Node, tell: Tell) -> str | dict[str, str] | None:
    if isinstance(node, MapNode):
        return _parts(key, node, tell)
    if isinstance(node, Scalar):
        return "" if is_null(node) else _text(key, node, tell)
    joint = _JOINED.get(key)
    if joint is None:
        tell(node, f"{key!r} is no list", "write it as PVE writes it, or as a map")
        return None
    items = _items(key, node, tell)
    if key == "tags":
        for item, read in zip(node.items, items, strict=False):
            if _TAG.fullmatch(read) is None:
                tell(item, f"{read[:60]!r} is no tag", "PVE takes letters, digits and _ - + . in a tag")
    return joint.join(items)


def _parts(key: str, node: MapNode, tell: Tell) -> dict[str, str] | None:
    """A property string written as a map."""
    if not node.entries:
        tell(node, f"{key!r} is an empty map", "write null to delete the key")
        return None
    parts: dict[str, str] = {}
    for name, value in node.entries:
        if _PART.fullmatch(name.text) is None:
            tell(name, f"{name.text[:60]!r} is no part of a property", "write letters, digits and hyphens")
        elif isinstance(value, MapNode):
            tell(value, f"{name.text!r} is a map inside a map", "PVE's properties have one level")
        elif isinstance(value, ListNode):
            parts[name.text] = _INNER_JOINT.join(_items(name.text, value, tell))
        elif value.text == "" or is_null(value):
            tell(value, f"{name.text!r} has no value", "leave it out, or give it one")
        elif (text := _text(name.text, value, tell)) is not None:
            if "," in text:
                tell(value, f"{name.text!r} has a comma, which ends it in PVE", "give each part a key of its own")
            parts[name.text] = text
    return parts


def _items(key: str, node: ListNode, tell: Tell) -> list[str]:
    items: list[str] = []
    for item in node.items:
        if not isinstance(item, Scalar) or is_null(item) or item.text == "":
            tell(item, f"an item of {key!r} must be a text", "write one text for each item")
        elif re.search(r"[,;\s]", item.text):
            tell(item, f"an item of {key!r} has a separator in it", "write each one as an item of its own")
        elif (text := _text(key, item, tell, in_list=True)) is not None:
            items.append(text)
    return items


def _text(key: str, node: Scalar, tell: Tell, *, in_list: bool = False) -> str | None:
    text = node.text
    if node.plain and text in TRUTHS:
        word = text.lower()
        if in_list:
            tell(node, f"YAML reads {text} as a truth value", "put it in quotes")
            return None
        if key in _WORDS and word not in {"true", "false"}:
            return word
        return "1" if TRUTHS[text] else "0"
    if len(text) > limits.CONFIG_VALUE_MAX:
        tell(node, f"{key!r} is longer than {limits.CONFIG_VALUE_MAX} characters", "PVE takes no longer value")
        return None
    if _CONTROL.search(text):
        tell(node, f"{key!r} has a line break or a control character", "write the value in one line")
        return None
    return text


def _description(node: Node, tell: Tell) -> str | None:
    if not isinstance(node, Scalar):
        tell(node, "'description' must be a text", "put it in quotes, or write it as a block after |")
        return None
    if is_null(node):
        return ""
    if len(node.text) > limits.DESCRIPTION_MAX:
        tell(node, f"the description is longer than {limits.DESCRIPTION_MAX} characters", "shorten it")
    if marker.clean(node.text) != node.text.rstrip():
        tell(node, "the description has one of trueup's markers in it", "take the `<!-- trueup … -->` out")
    return node.text
