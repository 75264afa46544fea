"""What root has on a node: the commands that messages name, with PVE's own syntax, acting on the simulator as root.

Strict on purpose: an unknown command, a missing argument or an option that the real command does not have ends with
255, as PVE's tools do. So a message that names a command wrongly is found out by whoever follows it. Syntax from the
synopses of pveum(1), qm(1), pct(1), pvenode(1), pvesh(1), pvecm(1), pvesm(1) and ha-manager(1).
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

Row = dict[str, str]
_CONTEXT = ssl.create_default_context(cafile=os.environ["HOST_CA"])
_DO = {"add": "POST", "modify": "PUT", "delete": "DELETE"}


def fail(text: str) -> NoReturn:
    print(text, file=sys.stderr)
    raise SystemExit(255)


def ask(method: str, path: str, params: Row | None = None) -> object:
    """The API, as root."""
    data = urllib.parse.urlencode(params or {})
    url = os.environ["HOST_URL"] + "/api2/json" + path + (f"?{data}" if method in {"GET", "DELETE"} and data else "")
    body = data.encode() if method in {"POST", "PUT"} else None
    token = f"PVEAPIToken={os.environ['HOST_TOKEN']}={os.environ['HOST_SECRET']}"
    request = urllib.request.Request(url, data=body, method=method, headers={"Authorization": token})  # noqa: S310 - our own
    try:
        with urllib.request.urlopen(request, context=_CONTEXT) as answer:  # noqa: S310 - our own
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        fail(f"{error.code} {error.reason} {error.read().decode()}")


def control(body: Row) -> object:
    """What only root at the machine can do, and no token."""
    url = os.environ["HOST_URL"] + "/_sim/" + ("control" if "action" in body else "guests")
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - our own
    with urllib.request.urlopen(request, context=_CONTEXT) as answer:  # noqa: S310 - our own
        return json.load(answer)


def state() -> dict:
    with urllib.request.urlopen(os.environ["HOST_URL"] + "/_sim/state", context=_CONTEXT) as answer:  # noqa: S310 - our own
        return json.load(answer)


def parsed(words: list[str], positional: tuple[str, ...], options: tuple[str, ...]) -> Row:
    """Arguments as PVE's CLI takes them: `--name value`, each once, and exactly the positional ones."""
    found: Row = {}
    rest = list(positional)
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            name, given, value = word[2:].partition("=")
            if name not in options or name in found:
                fail(f"Unknown option: {name}")
            if not given and not words:
                fail(f"Option {name} requires an argument")
            found[name] = value if given else words.pop(0)
        elif rest:
            found[rest.pop(0)] = word
        else:
            fail("400 too many arguments")
    if rest:
        fail(f"400 not enough arguments: {rest[0]}")
    return found


def guest(vmid: str, kind: str) -> dict:
    for seen in state()["guests"]:
        if str(seen["vmid"]) == vmid and seen["type"] == kind:
            return seen
    fail(f"Configuration file '{vmid}.conf' does not exist")


def api(
    method: str, path: str, *positional: str, body: tuple[str, ...] = (), options: tuple[str, ...] = ()
) -> Callable:
    """A command that is a call of the API: `path` takes positional arguments, `body` names those sent as parameters."""

    def run(words: list[str]) -> None:
        given = parsed(words, positional, options)
        for flag in ("append", "propagate", "privsep"):
            if given.get(flag, "1") not in {"0", "1"}:
                fail(f"{flag}: type check ('boolean') failed")
        where = path.format(
            **{name: urllib.parse.quote(given[name], safe="") for name in positional if name not in body}
        )
        sent = {name: value for name, value in given.items() if name not in positional or name in body}
        if answer := ask(method, where, sent):
            print(json.dumps(answer))

    return run


def unlock(kind: str, only: str = "") -> Callable:
    def run(words: list[str]) -> None:
        vmid = parsed(words, ("vmid",), ())["vmid"]
        lock = guest(vmid, kind)["lock"]
        if only and lock != only:
            fail(f"CT {vmid} is not {only}")
        control({"action": "lock", "vmid": vmid, "lock": ""})

    return run


def destroy(kind: str) -> Callable:
    def run(words: list[str]) -> None:
        vmid = parsed(words, ("vmid",), ())["vmid"]
        node = guest(vmid, kind)["node"]
        upid = ask("DELETE", f"/nodes/{node}/{kind}/{vmid}")
        # The command of a node works in the foreground: it returns when the guest is gone.
        while ask("GET", f"/nodes/{node}/tasks/{upid}/status")["status"] == "running":  # type: ignore[index, call-overload]
            time.sleep(0.05)
        print(upid)

    return run


def hands_over(kind: str, name: str) -> Callable:
    """Give a disk to another guest, under the same key; PVE renames its volume."""

    def run(words: list[str]) -> None:
        given = parsed(words, ("vmid", name), ("target-vmid",))
        vmid, key, target = given["vmid"], given[name], given["target-vmid"]
        value, there = guest(vmid, kind)["config"][key], guest(target, kind)["config"]
        if key in there:
            fail(f"Target key '{key}' is already in use on target VM '{target}'")
        control({"vmid": vmid, "config": {key: None}})  # type: ignore[dict-item]
        control({"vmid": target, "config": {key: value.replace(f"vm-{vmid}-disk-", f"vm-{target}-disk-")}})  # type: ignore[dict-item]

    return run


def task_list(words: list[str]) -> None:
    given = parsed(words, (), ("vmid", "limit", "typefilter", "source"))
    for node in state()["nodes"]:
        for row in ask("GET", f"/nodes/{node['node']}/tasks", {"source": "all", **given}) or []:  # type: ignore[attr-defined]
            print(row["upid"], row.get("status", ""))


def pvesh_get(words: list[str]) -> None:
    print(json.dumps(ask("GET", urllib.parse.quote(parsed(words, ("path",), ())["path"], safe="/"))))


def tracking(words: list[str]) -> None:
    parsed(words, (), ())
    for node in state()["nodes"]:
        offset = node["clock_offset_s"]
        print(f"{node['node']}: System time : {abs(offset):.9f} seconds {'fast' if offset > 0 else 'slow'} of NTP time")


def quorum(words: list[str]) -> None:
    parsed(words, (), ())
    for row in ask("GET", "/cluster/status") or []:  # type: ignore[attr-defined]
        print(row["name"], row.get("online", row.get("quorate")))


def storages(words: list[str]) -> None:
    parsed(words, (), ())
    for row in ask("GET", f"/nodes/{state()['nodes'][0]['node']}/storage") or []:  # type: ignore[attr-defined]
        print(row["storage"])


def ha_set(words: list[str]) -> None:
    given = parsed(words, ("sid",), ("state",))
    ask("PUT", f"/cluster/ha/resources/{given['sid']}", {"state": given["state"]})


def ha_status(words: list[str]) -> None:
    parsed(words, (), ())
    for row in state()["ha"]:
        print(row["sid"], row["state"])


_USER = "/access/users/{userid}"
_TOKEN = f"{_USER}/token/{{tokenid}}"
_ACL = ("users", "groups", "tokens", "roles", "propagate")
COMMANDS: dict[str, dict[tuple[str, ...], Callable[[list[str]], None]]] = {
    "pveum": {
        ("role", "add"): api("POST", "/access/roles", "roleid", body=("roleid",), options=("privs",)),
        ("role", "modify"): api("PUT", "/access/roles/{roleid}", "roleid", options=("privs", "append")),
        ("user", "add"): api("POST", "/access/users", "userid", body=("userid",), options=("comment", "groups")),
        ("user", "modify"): api("PUT", _USER, "userid", options=("groups", "append", "comment")),
        ("user", "token", "add"): api("POST", _TOKEN, "userid", "tokenid", options=("privsep", "comment", "expire")),
        ("user", "token", "remove"): api("DELETE", _TOKEN, "userid", "tokenid"),
        ("group", "add"): api("POST", "/access/groups", "groupid", body=("groupid",), options=("comment",)),
        ("acl", "modify"): api("PUT", "/access/acl", "path", body=("path",), options=_ACL),
    },
    "qm": {
        ("unlock",): unlock("qemu"),
        ("destroy",): destroy("qemu"),
        ("disk", "move"): hands_over("qemu", "disk"),
    },
    "pct": {
        ("unlock",): unlock("lxc"),
        ("destroy",): destroy("lxc"),
        ("unmount",): unlock("lxc", "mounted"),
        ("move-volume",): hands_over("lxc", "volume"),
    },
    "pvenode": {("task", "list"): task_list},
    "pvesh": {("get",): pvesh_get},
    "pvecm": {("status",): quorum, ("nodes",): quorum},
    "pvesm": {("status",): storages},
    "chronyc": {("tracking",): tracking},
    "ha-manager": {("set",): ha_set, ("status",): ha_status},
}  # fmt: skip


def main() -> None:
    tool, words = Path(sys.argv[1]).name, sys.argv[2:]
    for length in (3, 2, 1):
        if run := COMMANDS[tool].get(tuple(words[:length])):
            run(words[length:])
            return
    fail(f"ERROR: unknown command '{tool} {' '.join(words)}'")


main()
