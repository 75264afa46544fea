"""Every kind of trouble has a page, every page is reached and says the same five things, and its commands work."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.stage import Simulator, Stage, guest
from tests.docs.blocks import ROOT, Shell, blocks
from trueup.app import parts
from trueup.edges import doctor, topics
from trueup.edges.cli import run
from trueup.model.errors import BadInput
from trueup.model.gate import Refusal
from trueup.model.ops import Reason

FOLDER = ROOT / "docs" / "trouble"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.stem != topics.INDEX)
PARTS = ["What you see", "What trueup knows for sure", "What it does not know", "What to do", "When it is over"]
OPEN = list(Reason)[list(Reason).index(Reason.TASK_UNKNOWN) :]


def listed(page: str) -> set[str]:
    """The first column of the page's table of reasons."""
    return set(re.findall(r"^\| `(\w+)` \|", (FOLDER / f"{page}.md").read_text(), re.MULTILINE))


# --- every trouble has its page ---------------------------------------------------------------------------------------


def test_each_reason_and_refusal_has_its_line() -> None:
    assert listed(topics.UNRESOLVED) == {reason.value for reason in OPEN}
    assert listed(topics.ENDED) == {reason.value for reason in Reason} - {reason.value for reason in OPEN}
    assert listed("request-refused") == {refusal.value for refusal in Refusal}


def test_each_reason_refusal_and_check_leads_to_a_page() -> None:
    there = {page.stem for page in PAGES}
    assert set(topics.OF_REASON) == set(Reason)
    assert set(topics.OF_REFUSAL) == set(Refusal)
    source = Path(doctor.__file__).read_text(encoding="utf-8")
    checks = set(re.findall(r'check="(\w+)"', source)) | set(re.findall(r'_(?:ok|bad)\(\s*"(\w+)"', source))
    assert checks == set(topics.OF_CHECK)
    assert len(checks) > 10
    own = set(re.findall(r'topic="([\w-]+)"', source))
    assert {*topics.OF_REASON.values(), *topics.OF_REFUSAL.values(), *topics.OF_CHECK.values(), *own} <= there


def test_the_index_lists_each_page_once() -> None:
    assert sorted(topics.names()) == [page.stem for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_is_known_what_is_not_and_what_to_do(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS
    assert all(part.strip() for part in re.split(r"^## .+$", text, flags=re.MULTILINE))


def test_a_page_is_printed_as_words(capsys: pytest.CaptureFixture[str]) -> None:
    for page in PAGES:
        assert run(parts, ["explain", page.stem]) == 0
        said = capsys.readouterr().out
        assert said.startswith("# ")
        assert not re.search(r"\]\(|<!--|```", said)
    assert run(parts, ["explain"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(PAGES)


@pytest.mark.parametrize("topic", ["nothing", "README", "../adr/0010-installation-id", ""])
def test_what_is_no_topic_is_said_to_be_none(topic: str) -> None:
    with pytest.raises(BadInput, match="there is no topic"):
        topics.page(topic)


# --- what they tell people to do works --------------------------------------------------------------------------------

MINE = guest("db-1", 102, "power: stopped")


def managed(stage: Stage) -> None:
    stage.manifest(MINE)
    assert stage.json("apply", "--yes")["converged"] is True


def locked(stage: Stage) -> None:
    managed(stage)
    stage.manifest(MINE + "config: {cores: 2}\n")
    stage.sim.ask("/_sim/control", {"action": "lock", "vmid": 102, "lock": "snapshot-delete"})


def made_by_hand(stage: Stage) -> None:
    stage.sim.by_hand(vmid=102, node="pve1", name="db-1", type="qemu", status="stopped")
    stage.manifest(MINE)


def revoked(stage: Stage) -> None:
    managed(stage)
    (stage.folder / "token.secret").write_text("11111111-2222-4333-8444-555555555555")


def clock_off(stage: Stage) -> None:
    stage.sim.ask("/_sim/control", {"action": "clock", "node": "pve1", "offset_s": 300})


def damaged(stage: Stage) -> None:
    managed(stage)
    with closing(sqlite3.connect(stage.journal())) as connection:
        connection.execute("DROP TRIGGER records_are_not_changed")
        connection.execute("UPDATE records SET line = x'00' WHERE seq = 4")
        connection.commit()


def brought_back(stage: Stage) -> None:
    stage.manifest(MINE)
    stage.json("apply", "--yes")
    stage.json("journal", "backup", "older.db")
    stage.manifest(MINE + "config: {cores: 2}\n")
    stage.json("apply", "--yes")
    for file in stage.journal().parent.glob("journal.db-*"):
        if not file.name.endswith("lock"):
            file.unlink()
    (stage.folder / "older.db").rename(stage.journal())


def no_keyring(stage: Stage) -> None:
    (stage.folder / "keyring.yaml").unlink()


def node_down(stage: Stage) -> None:
    stage.manifest(guest("db-1", 102, "power: stopped", node="pve3"))
    stage.json("apply", "--yes")
    stage.sim.ask("/_sim/control", {"action": "node_down", "node": "pve3"})


def no_quorum(stage: Stage) -> None:
    managed(stage)
    stage.manifest(MINE + "config: {cores: 2}\n")
    stage.sim.ask("/_sim/control", {"action": "quorum", "quorate": False})


def wrong_manifest(stage: Stage) -> None:
    stage.manifest(MINE + "metadata: {}\n")


SCENES: dict[str, Callable[[Stage], None]] = {
    "leftover-lock": locked,
    "not-ours": made_by_hand,
    "token-revoked": revoked,
    "clock-off": clock_off,
    "journal-damaged": damaged,
    "older-journal": brought_back,
    "gate-closed": no_keyring,
    "node-down": node_down,
    "quorum-lost": no_quorum,
    "manifests-refused": wrong_manifest,
}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    sim = Simulator()
    try:
        yield Stage(folder=tmp_path, sim=sim)
    finally:
        sim.stop()


def test_each_page_with_commands_has_its_scene() -> None:
    assert {page.stem for page in PAGES if blocks(page)} == set(SCENES)


@pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*(_SelectorTransport|socket.socket):pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("topic", SCENES)
def test_the_commands_of_a_page_work_as_written(topic: str, stage: Stage) -> None:
    SCENES[topic](stage)
    page = FOLDER / f"{topic}.md"
    shell = Shell(stage.folder)
    try:
        shell.play(page, blocks(page))
    finally:
        shell.close()
