"""The journal is copied, shortened, and saved as far as it can be; what is left is proved, and what is lost is said."""

import sqlite3
import typing
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.stage import Stage, guest, several
from tests.journal import samples
from tests.operator.living import Agent, living
from trueup.adapters import sqlite
from trueup.adapters.sqlite.retention import Clerk
from trueup.model.errors import BadInput
from trueup.model.gate import Refusal
from trueup.model.ids import Digest, GuestType, NodeName, OpId, TokenId, Vmid
from trueup.model.ops import (
    Adopted,
    Denied,
    Draft,
    Event,
    Failed,
    Fenced,
    Fencing,
    Intent,
    Kind,
    Paused,
    Reason,
    Released,
    Started,
    Succeeded,
    TaskRunning,
)

DAY_MS = 24 * 3600 * 1000
NOW_MS = 1_800_000_000_000
SIGNED_THAT_STAY = ("op-7", "deliverable", "later", "pending", "fenced", "young")


class Book:
    """A journal with records of many days."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = sqlite.open_journal(path, inline=True)
        self.number = 0

    async def begin(self, at_ms: int) -> None:
        self.epoch = await self.journal.take_epoch(
            holder="h", token=TokenId(""), record_id=self.record_id(), at_ms=at_ms
        )

    def record_id(self) -> str:
        self.number += 1
        return f"r{self.number}"

    async def add(self, at_ms: int, op_id: str, *events: Event) -> None:
        drafts = [Draft(record_id=self.record_id(), at_ms=at_ms, op_id=OpId(op_id), event=event) for event in events]
        await self.journal.append(self.epoch, drafts)

    async def signed(
        self, at_ms: int, op_id: str, *events: Event, execute_by_ms: int = 0, kind: Kind = Kind.START
    ) -> None:
        """What people signed, as far as acceptance, and what came of it."""
        until = execute_by_ms or at_ms
        asked = samples.requested(op_id, kind=kind, execute_by_ms=until).event
        accepted = samples.accepted(op_id, kind=kind, execute_by_ms=until).event
        await self.add(at_ms, op_id, asked, accepted, *events)


def intent(vmid: int) -> Intent:
    return Intent(
        kind=Kind.START, type=GuestType.QEMU, vmid=Vmid(vmid), node=NodeName("pve1"), method="POST", path="/x",
        token=TokenId("t@pve!x"),
    )  # fmt: skip


async def old_and_new(path: Path) -> None:
    """A hundred operations, one a day; of the old ones some are open, some signed, and some tell who is adopted."""
    book = Book(path)
    await book.begin(NOW_MS - 100 * DAY_MS)
    for day in range(100):
        at_ms = NOW_MS - (100 - day) * DAY_MS
        upid = f"UPID:pve1:0000{day:04X}:00000001:65000000:qmstart:{100 + day}:t@pve!x:"
        if day == 7:
            await book.signed(at_ms, "op-7", samples.sent("op-7", kind=Kind.START).event)
        else:
            await book.add(at_ms, f"op-{day}", Started(intent=intent(100 + day)))
        if day == 11:
            continue  # never ended
        await book.add(at_ms + 1, f"op-{day}", TaskRunning(upid=upid), Succeeded(reason=Reason.TASK_OK))
        await book.add(at_ms + 2, "", Adopted(vmid=Vmid(100 + day % 10), uid=f"u-{day}"))
        if day == 20:
            await book.add(at_ms, "", Released(vmid=Vmid(100), uid="u-20"), Paused(guests=("a",)))
    long_ago = NOW_MS - 95 * DAY_MS
    await book.signed(long_ago, "expired", Failed(reason=Reason.EXPIRED))
    await book.add(long_ago, "vetoed", samples.requested("vetoed").event, samples.vetoed("vetoed").event)
    await book.add(long_ago, "", Denied(refusal=Refusal.SIGNATURE, text="no"))
    # These stay.
    await book.signed(long_ago, "deliverable", Failed(reason=Reason.EXPIRED), execute_by_ms=NOW_MS - 60_000)
    later = samples.requested("later", execute_by_ms=NOW_MS + DAY_MS).event
    await book.add(long_ago, "later", later, samples.vetoed("later").event)
    await book.add(long_ago, "pending", samples.requested("pending").event)
    destroy = samples.sent("fenced", kind=Kind.DESTROY).event
    fence = (Fencing(counter=1, digest=Digest("a")), Fenced(digest=Digest("b")))
    await book.signed(long_ago, "fenced", destroy, *fence, Failed(reason=Reason.NOT_STARTED), kind=Kind.DESTROY)
    await book.add(long_ago, "young", samples.requested("young").event)
    await book.add(NOW_MS - DAY_MS, "young", samples.approved("young").event)
    await book.add(long_ago, "young", samples.vetoed("young").event)  # the clock had stepped back
    await book.journal.close()


def clerk() -> Clerk:
    ids = iter(range(10_000))
    return Clerk(holder="pruner", at_ms=NOW_MS, record_id=lambda: f"p{next(ids)}")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    import asyncio

    path = tmp_path / "journal.db"
    asyncio.run(old_and_new(path))
    return path


def state(path: Path) -> dict[str, object]:
    """What a reader sees of everything but the operations that are over."""
    import asyncio

    async def read() -> dict[str, object]:
        reader = sqlite.open_reader(path)
        found = {
            "adopted": await reader.adopted(),
            "paused": await reader.paused(),
            "in_flight": await reader.in_flight(),
            "epochs": (await reader.epochs())[:1],
            "first": (await reader.records(limit=1))[0],
            "new": await reader.op(OpId("op-95")),
            "signed": [await reader.op(OpId(op_id)) for op_id in SIGNED_THAT_STAY],
            "requests": [await reader.request(OpId(op_id)) for op_id in SIGNED_THAT_STAY],
            "nonces": [await reader.request_of_nonce(f"n-{op_id}") for op_id in SIGNED_THAT_STAY],
            "applied": await reader.requests_of_key("k-op-7"),
            "fences": await reader.standing_fences(),
            "labels": await reader.labels(),
        }
        await reader.close()
        return found

    return asyncio.run(read())


def gone(path: Path) -> list[object]:
    """What is left of the requests that nobody will ask for again."""
    import asyncio

    async def read() -> list[object]:
        reader = sqlite.open_reader(path)
        found: list[object] = [await reader.request(OpId(op_id)) for op_id in ("expired", "vetoed")]
        assert [r for r in await reader.records() if isinstance(r.event, Denied)] == []
        await reader.close()
        return found

    return asyncio.run(read())


def test_pruning_keeps_the_chain_and_all_that_counts(old: Path) -> None:
    before, size = state(old), sqlite.stats(old).records
    planned = sqlite.prune(old, before_ms=NOW_MS - 30 * DAY_MS, clerk=clerk(), dry=True)
    assert sqlite.stats(old).records == size
    done = sqlite.prune(old, before_ms=NOW_MS - 30 * DAY_MS, clerk=clerk(), dry=False)
    assert done == planned
    assert done.ops == 70  # 68 of the loop's 70 (one was signed, one is open), and two that people signed
    assert gone(old) == [None, None]
    assert state(old) == before
    assert None not in typing.cast("list[object]", before["requests"] + before["nonces"])  # type: ignore[operator]
    found = sqlite.verify(old)
    assert (found.ok, found.what) == (True, "")
    assert found.records == size - done.records + 2  # an epoch and the word about what was pruned
    assert sqlite.rebuild(old).ok
    assert state(old) == before

    # And so on: it can be written, pruned again, exported and read anew elsewhere.
    again = sqlite.prune(old, before_ms=NOW_MS - 8 * DAY_MS, clerk=_later(), dry=False)
    assert again.ops == 22
    done = sqlite.prune(old, before_ms=NOW_MS - 8 * DAY_MS, clerk=_later("r", 2 * DAY_MS), dry=False)
    assert done.ops == 2  # their deadlines are over now, too
    assert sqlite.verify(old).ok
    before = state(old)
    assert sqlite.verify(old).ok
    copy = old.with_name("copy.db")
    lines = [line.encode() for line in sqlite.export(old)]
    assert sqlite.import_lines(lines, copy).head == sqlite.verify(old).head
    assert state(copy) == before


def _later(prefix: str = "q", ms: int = 0) -> Clerk:
    ids = iter(range(10_000))
    return Clerk(holder="pruner", at_ms=NOW_MS + ms, record_id=lambda: f"{prefix}-{next(ids)}")


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM gaps WHERE first_seq = (SELECT min(first_seq) FROM gaps)",
        "UPDATE gaps SET hash = prev_hash WHERE first_seq = (SELECT min(first_seq) FROM gaps)",
        "UPDATE gaps SET prev_hash = hash WHERE first_seq = (SELECT min(first_seq) FROM gaps)",
        "INSERT INTO gaps SELECT seq, seq, 1, 'x', 'y' FROM head",
    ],
)
def test_a_gap_that_no_record_owns_up_to_is_damage(old: Path, sql: str) -> None:
    sqlite.prune(old, before_ms=NOW_MS - 30 * DAY_MS, clerk=clerk(), dry=False)
    with closing(sqlite3.connect(old)) as connection:
        connection.execute(sql)
        connection.commit()
    assert not sqlite.verify(old).ok
    assert sqlite.rebuild(old).ok  # the records themselves know better
    assert sqlite.verify(old).ok


def test_a_record_still_cannot_be_removed_in_silence(old: Path) -> None:
    sqlite.prune(old, before_ms=NOW_MS - 30 * DAY_MS, clerk=clerk(), dry=False)
    last = sqlite.stats(old).last_seq
    with closing(sqlite3.connect(old)) as connection:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute("DELETE FROM records WHERE seq = ?", (last,))
        connection.execute("INSERT INTO gaps SELECT seq, seq, epoch, 'x', hash FROM head")  # lying does not help
        connection.execute("DELETE FROM records WHERE seq = ?", (last,))
        connection.commit()
    assert not sqlite.verify(old).ok


def test_young_records_are_kept(old: Path) -> None:
    with pytest.raises(BadInput, match="give at least --older-than 7d"):
        sqlite.prune(old, before_ms=NOW_MS - 6 * DAY_MS, clerk=clerk(), dry=False)


def test_a_long_pruned_journal_opens_after_a_look_at_its_end(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    sqlite.prune(old, before_ms=NOW_MS - 8 * DAY_MS, clerk=clerk(), dry=False)
    monkeypatch.setattr(sqlite.audit, "VERIFY_ALL_UP_TO", 1)
    for tail in range(1, 60):
        monkeypatch.setattr(sqlite.audit, "VERIFY_TAIL", tail)
        asyncio.run(sqlite.open_journal(old).close())


# --- through the commands ---------------------------------------------------------------------------------------------


@pytest.fixture
def used(stage: Stage) -> Stage:
    stage.manifest(several(guest("web-1", 101), guest("db-1", 102)))
    stage.json("apply", "--yes")
    return stage


def test_a_backup_beside_a_living_agent(used: Stage) -> None:
    with living(Agent(used)) as agent:
        agent.until_said("pass_ended")
        done = used.json("journal", "backup", "copy.db")
        assert used.run("journal", "backup", "copy.db").returncode == 1  # nothing is overwritten
    copy = used.folder / "copy.db"
    assert sqlite.verify(copy).head == done["head"]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in used.folder.glob("*copy.db*")] == ["copy.db"]
    # It takes the journal's place, and everything goes on.
    (used.folder / "state").rename(used.folder / "lost")
    (used.folder / "state").mkdir()
    copy.rename(used.journal())
    assert used.json("apply", "--yes")["converged"] is True


def test_an_export_makes_the_same_journal(used: Stage) -> None:
    assert used.run("journal", "export", "-o", "lines.jsonl").returncode == 0
    head = used.json("journal", "verify")["head"]
    assert "there is a file already" in used.run("journal", "import", "lines.jsonl").stderr
    (used.folder / "state").rename(used.folder / "before")
    assert used.json("journal", "import", "lines.jsonl")["head"] == head
    assert used.json("apply", "--yes")["converged"] is True
    damaged = (used.folder / "lines.jsonl").read_bytes().replace(b"web-1", b"web-2", 1)
    (used.folder / "bad.jsonl").write_bytes(damaged)
    (used.folder / "state").rename(used.folder / "again")
    assert "damaged" in used.run("journal", "import", "bad.jsonl").stderr
    assert not used.journal().exists()


def spoil(stage: Stage, sql: str) -> None:
    with closing(sqlite3.connect(stage.journal())) as connection:
        connection.execute("DROP TRIGGER records_are_not_changed")
        connection.execute("DROP TRIGGER records_are_not_removed")
        connection.execute(sql)
        connection.commit()


@pytest.mark.parametrize("seq", [1, 4])
def test_a_damaged_journal_is_put_aside_and_nothing_is_changed_until_somebody_has_looked(used: Stage, seq: int) -> None:
    spoil(used, f"UPDATE records SET line = x'00' WHERE seq = {seq}")
    assert used.run("apply", "--yes").returncode == 1
    done = used.json("journal", "quarantine", "--yes")
    assert done["same_installation"] is True
    assert Path(done["aside"]).exists()
    assert len(Path(done["exported"]).read_text().splitlines()) == done["kept"] + done["left_out"]
    assert used.json("journal", "verify")["ok"] is True
    assert used.run("plan").returncode == 0  # the guests are still ours

    used.sim.by_hand(vmid=101, status="stopped")
    count = len(used.sim.mutations())
    refused = used.run("apply", "--yes")
    assert refused.returncode == 1
    assert "nothing is changed: the journal was damaged" in refused.stderr
    assert "then `trueup journal acknowledge`" in refused.stderr
    with living(Agent(used)) as agent:
        agent.until_said("alarm", "nothing is changed")
        agent.until_said("pass_ended", "observing only")
        assert len(used.sim.mutations()) == count
        assert len(used.json("journal", "acknowledge")["acknowledged"]) == 1
        agent.until_said("op_ended")
    assert used.json("journal", "acknowledge")["acknowledged"] == []


def test_a_journal_of_which_nothing_can_be_read(used: Stage) -> None:
    used.journal().write_bytes(b"not a database at all" * 1000)
    for side in ("-wal", "-shm"):
        used.journal().with_name(used.journal().name + side).unlink(missing_ok=True)
    done = used.json("journal", "quarantine", "--yes")
    assert (done["kept"], done["same_installation"]) == (0, False)
    used.json("journal", "acknowledge")
    assert used.json("plan", code=2)["summary"]["blocked"] == 2
    used.json("adopt", "--all", "--take-over", "--yes")
    assert used.json("apply", "--yes")["converged"] is True


def test_a_sound_journal_is_left_where_it_is(used: Stage) -> None:
    done = used.run("journal", "quarantine", "--yes")
    assert "every record of the journal is sound" in done.stderr
    with closing(sqlite3.connect(used.journal())) as connection:
        connection.execute("DELETE FROM adopted")
        connection.commit()
    assert used.run("journal", "verify").returncode == 1
    assert "`trueup journal rebuild`" in used.run("journal", "quarantine", "--yes").stderr
    assert used.json("journal", "rebuild")["ok"] is True
    assert used.json("journal", "verify")["ok"] is True


def test_pruning_by_command(used: Stage) -> None:
    assert used.json("journal", "prune", "--older-than", "90d")["removed"] == 0
    assert "records younger than 7 days are kept" in used.run("journal", "prune", "--older-than", "1h").stderr
    with living(Agent(used)) as agent:
        agent.until_said("pass_ended")
        assert "another trueup (pid" in used.run("journal", "prune", "--older-than", "90d").stderr
