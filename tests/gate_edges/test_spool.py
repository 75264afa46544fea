"""The spool by itself: a full disk, a gate that cannot write, files that vanish."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from tests.gate_edges.house import opened
from trueup.adapters import spool_folder
from trueup.edges.spool import Spool
from trueup.model.errors import JournalFailed
from trueup.model.gate_answers import Answer, Outcome
from trueup.model.ids import OpId


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def now_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Door:
    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.error: Exception | None = None

    async def submit(self, content: bytes, via: str) -> Answer:
        assert via == "spool"
        self.came.append(content)
        if self.error is not None:
            raise self.error
        return Answer(outcome=Outcome.PENDING, state="pending", request=OpId("r-1"), missing="bob")


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder, self.door, self.time, self.said = folder, Door(), Time(), list[str]()
        self.spool = Spool(folder, self.door, self.time, self.said.append)

    def look(self) -> int:
        return asyncio.run(self.spool.look())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path / "spool")
    assert made.look() == 0  # the folder is made
    return made


def test_a_file_is_taken_once_it_stood_still(bench: Bench) -> None:
    file = bench.folder / "one.json"
    file.write_bytes(b"{")
    assert bench.look() == 0
    file.write_bytes(b"{}")
    assert bench.look() == 0
    assert bench.look() == 1
    assert bench.door.came == [b"{}"]
    assert opened(bench.folder / "one.answer.json") == {
        "request": "r-1", "op": None, "state": "pending", "missing": "bob", "reason": None, "refusal": None,
    }  # fmt: skip
    assert not file.exists()
    assert (bench.folder / "done" / "one.json").exists()
    assert bench.look() == 0


def test_a_name_that_was_used_before_keeps_both_files(bench: Bench) -> None:
    for content in (b"1", b"2"):
        (bench.folder / "one.json").write_bytes(content)
        bench.look()
        bench.look()
    assert [(bench.folder / "done" / name).read_bytes() for name in ("one.json", "one.1.json")] == [b"1", b"2"]


def test_a_full_disk_leaves_the_file_for_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.folder / "one.json").write_bytes(b"{}")
    bench.look()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(spool_folder.os, "fsync", full)
        assert bench.look() == 1
    assert sorted(path.name for path in bench.folder.iterdir()) == ["one.json"]  # no half answer either
    assert any("No space left" in text for text in bench.said)
    assert bench.look() == 0  # it is not tried at each look
    bench.time.now += 31
    assert bench.look() == 1
    assert (bench.folder / "one.answer.json").exists()


def test_a_journal_that_fails_leaves_the_file_to_the_next_life(bench: Bench) -> None:
    (bench.folder / "one.json").write_bytes(b"{}")
    bench.look()
    bench.door.error = JournalFailed(what="disk full")
    with pytest.raises(JournalFailed):
        bench.look()
    assert sorted(path.name for path in bench.folder.iterdir()) == ["one.json"]
    again = Bench(bench.folder)
    again.look()
    assert again.look() == 1


def test_a_file_that_is_taken_back_is_no_matter(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.folder / "one.json").write_bytes(b"{}")
    bench.look()
    real = spool_folder.SpoolFolder.read

    def taken_back(self: spool_folder.SpoolFolder, name: str) -> bytes | None:
        (bench.folder / name).unlink()
        return real(self, name)

    monkeypatch.setattr(spool_folder.SpoolFolder, "read", taken_back)
    bench.look()
    assert bench.door.came == []
    assert list(bench.folder.iterdir()) == []


def test_an_unreadable_file_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """For root every file is readable, so the kernel's word is put into its mouth."""
    (bench.folder / "one.json").write_bytes(b"{}")
    bench.look()
    real = os.open

    def denied(path: object, flags: int, *more: int) -> int:
        if str(path).endswith("one.json") and not flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *more)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patched:
        patched.setattr(spool_folder.os, "open", denied)
        assert bench.look() == 1
    assert "cannot be read" in opened(bench.folder / "one.answer.json")["reason"]
    assert (bench.folder / "refused" / "one.json").exists()


def test_a_link_in_the_place_of_an_answer_is_not_followed(bench: Bench) -> None:
    mine = bench.folder.parent / "mine"
    mine.write_text("mine")
    for name in ("one.answer.json", ".one.answer.json.new"):
        (bench.folder / name).symlink_to(mine)
    (bench.folder / "one.json").write_bytes(b"{}")
    bench.look()
    bench.look()
    assert mine.read_text() == "mine"
    assert not (bench.folder / "one.answer.json").is_symlink()


def test_a_folder_that_cannot_be_used_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bench = Bench(tmp_path / "file")
    assert [bench.look(), bench.look()] == [0, 0]
    assert len(bench.said) == 1
    assert "[gate] spool" in bench.said[0]
