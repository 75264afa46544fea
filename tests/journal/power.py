"""Takes the power away from a program, from what the kernel saw of it: strace writes down each call that changes files.

`Disk` is what may be left: what was synced is there for sure. What was written and not synced may be there, in part,
in any order between files and sectors, or not at all. A name is there for sure once its folder was synced.
"""

import random
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
"""What a disk writes as a whole."""
CALLS = (
    "open,openat,creat,write,pwrite64,ftruncate,truncate,fallocate,fsync,fdatasync,unlink,unlinkat,"
    "rename,renameat,renameat2,mkdir,mkdirat"
)


class NotTraceable(Exception):
    """This machine has no strace, or does not let processes be traced."""


@dataclass(frozen=True)
class Step:
    """One call as it came back: `name`, the path that it was about, its bytes, and where."""

    name: str
    path: str
    data: bytes = b""
    at: int = 0
    new: str = ""


def trace(command: Sequence[str], folder: Path) -> list[Step]:
    """Run a program; the steps of it that touched files below `folder`, and what it printed, as steps called `told`."""
    log = folder.with_name(folder.name + ".trace")
    strace = ["strace", "-f", "-y", "-xx", "-s", "10000000", "-o", str(log), "-e", f"trace={CALLS}"]
    try:
        run = subprocess.run([*strace, *command], check=False, capture_output=True, timeout=100)
    except FileNotFoundError as error:
        raise NotTraceable("strace is not installed") from error
    if run.returncode and b"ptrace" in run.stderr:
        raise NotTraceable("processes may not be traced here")
    assert run.returncode == 0, run.stderr.decode()
    return [step for line in _whole(log.read_text("ascii").splitlines()) if (step := _step(line, str(folder)))]


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """Calls as one line each, at the time of their return; two threads may have cut each other short."""
    begun: dict[str, str] = {}
    for line in lines:
        pid, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[pid] = text.removesuffix("<unfinished ...>")
        elif text.startswith("<..."):
            yield begun.pop(pid, "") + text.partition("resumed>")[2]
        else:
            yield text


_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)", re.DOTALL)
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FD = re.compile(r"^-?\w+<((?:\\x[0-9a-f]{2})*)>")


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _step(line: str, folder: str) -> Step | None:
    found = _CALL.match(line)
    if found is None or found[3].startswith("-"):
        return None
    name, arguments = found[1], found[2]
    texts = [_bytes(text) for text in _TEXT.findall(arguments)]
    fd = _FD.match(arguments)
    on = _bytes(fd[1]).decode() if fd else ""
    if name == "write" and arguments.startswith("1<"):
        return Step("told", "", texts[0])
    if name in ("open", "openat", "creat"):
        path = texts[0].decode()
        made = name == "creat" or "O_CREAT" in arguments
        step = Step("create", path) if made else None
        assert "O_TRUNC" not in arguments or not path.startswith(folder), line
    elif name in ("write", "pwrite64"):
        at = int(arguments.rpartition(", ")[2]) if name == "pwrite64" else -1
        step = Step("write", on, texts[0][: int(found[3])], at)
    elif name in ("ftruncate", "truncate"):
        step = Step("size", on or texts[0].decode(), at=int(arguments.rpartition(", ")[2]))
    elif name in ("fsync", "fdatasync"):
        step = Step("sync", on)
    elif name in ("unlink", "unlinkat"):
        step = Step("unlink", texts[-1].decode())
    elif name.startswith("rename"):
        step = Step("rename", texts[0].decode(), new=texts[1].decode())
    elif name.startswith("mkdir"):
        step = Step("mkdir", texts[-1].decode())
    else:
        step = None
        assert not on.startswith(folder), line  # a call that this model does not know
    return step if step and step.path.startswith(folder) else None


@dataclass
class _File:
    synced: bytearray = field(default_factory=bytearray)
    waiting: list[Step] = field(default_factory=list)
    size: int = 0


@dataclass
class Disk:
    """Files below a folder, as far as they are synced, and what waits to be."""

    _names: dict[str, _File] = field(default_factory=dict)  # as the program sees them
    _synced_names: dict[str, _File] = field(default_factory=dict)
    _waiting_names: list[tuple[str, _File | None]] = field(default_factory=list)

    def do(self, step: Step) -> None:
        """Go on by one step."""
        match step.name:
            case "create" if step.path not in self._names:
                self._name(step.path, _File())
            case "write":
                file = self._names[step.path]
                at = file.size if step.at < 0 else step.at
                file.waiting.append(Step("write", step.path, step.data, at))
                file.size = max(file.size, at + len(step.data))
            case "size":
                file = self._names[step.path]
                file.waiting.append(step)
                file.size = step.at
            case "sync" if step.path in self._names:
                file = self._names[step.path]
                for one in file.waiting:
                    _apply(file.synced, one)
                file.waiting.clear()
            case "sync":
                self._sync_names(step.path)
            case "unlink":
                self._name(step.path, None)
            case "rename":
                file = self._names[step.path]
                self._name(step.path, None)
                self._name(step.new, file)
            case _:
                pass

    def _name(self, path: str, file: _File | None) -> None:
        _point(self._names, path, file)
        self._waiting_names.append((path, file))

    def _sync_names(self, folder: str) -> None:
        here = [one for one in self._waiting_names if str(Path(one[0]).parent) == folder]
        for path, file in here:
            _point(self._synced_names, path, file)
        self._waiting_names = [one for one in self._waiting_names if one not in here]

    def left(self, chance: random.Random, keep: float) -> dict[str, bytes]:
        """What is there when the power is back. `keep`: the chance of each thing that waits to have been written."""
        names = dict(self._synced_names)
        for path, file in self._waiting_names:  # file systems keep changes of names in their order
            if chance.random() >= keep:
                break
            _point(names, path, file)
        return {path: self._content(file, chance, keep) for path, file in names.items()}

    @staticmethod
    def _content(file: _File, chance: random.Random, keep: float) -> bytes:
        content = bytearray(file.synced)
        for one in file.waiting:
            if one.name == "size":
                if chance.random() < keep:
                    _apply(content, one)
                continue
            for start in range(0, len(one.data), SECTOR):
                if chance.random() < keep:
                    part = one.data[start : start + SECTOR]
                    _apply(content, Step("write", one.path, part, one.at + start))
        return bytes(content)


def _point(names: dict[str, _File], path: str, file: _File | None) -> None:
    if file is None:
        names.pop(path, None)
    else:
        names[path] = file


def _apply(content: bytearray, step: Step) -> None:
    if step.name == "size":
        if step.at < len(content):
            del content[step.at :]
        content.extend(bytes(step.at - len(content)))
        return
    content.extend(bytes(max(0, step.at + len(step.data) - len(content))))
    content[step.at : step.at + len(step.data)] = step.data
