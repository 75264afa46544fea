"""Files and folders that may not be read or written: the right is given, as the message says, and then they may."""

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.operator.following import followed
from tests.operator.test_files_by_hand import Case, opens, token
from tests.operator.test_written_remedies import CLUSTER, HEAD
from trueup.adapters.control_socket import Message, ask, listening
from trueup.adapters.spool_folder import SpoolFolder
from trueup.app import parts
from trueup.edges import doctor
from trueup.model.errors import BadInput

NOBODY = 65_534
CASES: list[Case] = []


def case(
    remedy: str,
    wrong: Callable[[Path], object],
    attempt: Callable[[Path], object],
    follow: Callable[[Path, str], object],
) -> None:
    CASES.append((remedy, wrong, attempt, follow))


def answers(folder: Path) -> None:
    spool = SpoolFolder(folder / "spool")
    spool.answer("a.json", b"{}")


def puts_away(folder: Path) -> None:
    SpoolFolder(folder / "spool").put_away("a.json", "done")


def open_to_all(name: str) -> Callable[[Path, str], None]:
    return lambda folder, _: (folder / name).chmod(0o777)


def closed(name: str, mode: int = 0) -> Callable[[Path], None]:
    def wrong(folder: Path) -> None:
        (folder / name).chmod(mode)

    return wrong


def manifests(folder: Path) -> None:
    parts().manifests(folder / "manifests")()


def checks(folder: Path) -> None:
    """The check-up, as far as it needs no PVE."""
    (folder / "trueup.toml").write_text(f"{CLUSTER}[store]\nurl = 'sqlite:state/journal.db'\n")
    for found in doctor._store(parts(), parts().settings(folder / "trueup.toml")):
        if found.mark is doctor.Mark.PROBLEM:
            raise BadInput(what=found.what, remedy=found.remedy)


def by_hand(folder: Path, _: str) -> None:
    (folder / "spool").chmod(0o777)
    (folder / "spool" / "a.json").rename(folder / "a.json")


case(
    "give the user that runs trueup the right to read it",
    closed("manifests/a.yaml"),
    manifests,
    open_to_all("manifests/a.yaml"),
)
case(
    "let the user who runs trueup read it",
    closed("spool/a.json"),
    lambda folder: SpoolFolder(folder / "spool").read("a.json"),
    open_to_all("spool/a.json"),
)
case("make room, or give the right to write", closed("spool", 0o555), answers, open_to_all("spool"))
case("move it away by hand", closed("spool", 0o555), puts_away, by_hand)
case(
    "trueup needs to read and write this file, and to write in its folder",
    closed("journal.db", 0o444),
    opens,
    open_to_all("journal.db"),
)
case(
    "trueup needs to read and write this file, and to write in its folder",
    closed("journal.db.lock", 0o444),
    opens,
    open_to_all("journal.db.lock"),
)
case(
    "give the user that runs trueup the right to write there",
    closed("state", 0o555),
    checks,
    open_to_all("state"),
)
case(
    "see [http] token_file",
    closed("web", 0o555),
    lambda folder: token(folder / "web"),
    open_to_all("web"),
)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may do everything: without its rights, if we have them."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder of nobody's, with all that the attempts need."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("manifests", "spool", "state", "web"):
            (folder / part).mkdir()
        (folder / "manifests" / "a.yaml").write_text(HEAD)
        (folder / "spool" / "a.json").write_text("{}")
        opens(folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777)
            if os.geteuid() == 0:
                os.chown(path, NOBODY, NOBODY)
        yield folder
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777)


@pytest.mark.parametrize(("remedy", "wrong", "attempt", "follow"), CASES, ids=[one[0][:40] for one in CASES])
def test_rights_as_the_message_says(
    public: Path,
    tmp_path: Path,
    remedy: str,
    wrong: Callable[[Path], object],
    attempt: Callable[[Path], object],
    follow: Callable[[Path, str], object],
) -> None:
    del tmp_path
    manifests(public)  # modules are read while that is allowed
    wrong(public)
    with as_nobody():
        followed(remedy, lambda: attempt(public), lambda text: follow(public, text))


def test_the_user_that_runs_the_agent(public: Path) -> None:
    """The socket of an agent is its own user's."""

    async def takes(_: Message) -> object:
        raise AssertionError

    async def work(path: Path, reach: Callable[[], Awaitable[object]]) -> None:
        async with listening(path, takes):  # type: ignore[arg-type]
            await reach()

    if os.geteuid() != 0:
        pytest.skip("two users are needed")

    async def reach() -> None:
        with as_nobody():
            await ask(public / "journal.db", Message(command="pause", guests=("a",)))

    with pytest.raises(Exception, match="run it as the user that runs the agent"):
        asyncio.run(work(public / "journal.db", reach))


FOLLOWED = {*(remedy for remedy, _, _, _ in CASES), "run it as the user that runs the agent"}
