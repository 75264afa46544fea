"""What is wrong is told in one clear line, with the exit code of an error, and nothing is changed by it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.stage import Simulator, Stage, guest, several
from trueup.app import parts
from trueup.edges.cli import run

Break = Callable[[Stage], object]
Tell = Callable[..., tuple[int, list[str]]]


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    simulator = Simulator()
    yield simulator
    simulator.stop()


@pytest.fixture
def stage(tmp_path: Path, running: Simulator) -> Stage:
    return Stage(folder=tmp_path, sim=running)


@pytest.fixture
def tell(stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tell:
    """Run a command in this process; its exit code and what it said on standard error."""
    monkeypatch.chdir(stage.folder)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("TRUEUP_TOKEN_SECRET", raising=False)

    def told(*arguments: str) -> tuple[int, list[str]]:
        capsys.readouterr()
        code = run(parts, arguments)
        return code, capsys.readouterr().err.splitlines()

    return told


def _settings(old: str, new: str) -> Break:
    return lambda stage: stage.settings((old, new))


def _manifest(text: str) -> Break:
    def write(stage: Stage) -> None:
        stage.manifest(text)

    return write


def _secret(text: str | None) -> Break:
    def write(stage: Stage) -> None:
        file = stage.folder / "token.secret"
        file.unlink() if text is None else file.write_text(text)

    return write


def _foreign_ca(stage: Stage) -> None:
    from trustme import CA

    CA().cert_pem.write_to_path(str(stage.folder / "other.pem"))
    stage.settings((stage.sim.ca_file, "other.pem"))


def _fingerprint(stage: Stage) -> None:
    stage.settings((f'ca_file = "{stage.sim.ca_file}"', f'fingerprint = "{":".join(["AB"] * 32)}"'))


def _unreachable(stage: Stage) -> None:
    stage.settings((stage.sim.url, "https://127.0.0.1:9"))


CASES: dict[str, tuple[Break, str]] = {
    "no settings": (lambda stage: (stage.folder / "trueup.toml").unlink(), "trueup.toml: there is no settings file"),
    "not TOML": (_settings('name = "lab"', "name = lab"), "trueup.toml:4:8: not TOML"),
    "an unknown key in the settings": (_settings("[limits]", "[limits]\nslots = 3"), "unknown key 'slots'"),
    "no secret": (_secret(None), "token.secret: cannot read the token secret"),
    "a wrong token": (_secret("not-the-secret"), "PVE answered 401"),
    "a wrong CA": (_foreign_ca, "the certificate is not trusted"),
    "a wrong fingerprint": (_fingerprint, "the certificate has another fingerprint"),
    "an unreachable endpoint": (_unreachable, "https://127.0.0.1:9"),
    "malformed YAML": (_manifest("kind: [\n"), "manifests/guests.yaml:2:1: not YAML"),
    "a duplicate key": (_manifest(guest("a", 101, "name: b")), "manifests/guests.yaml:5:1: duplicate key 'name'"),
    "a duplicate vmid": (
        _manifest(several(guest("a", 101), guest("b", 101))),
        "manifests/guests.yaml:8:1: vmid 101 is already that of 'a'",
    ),
    "an unknown key": (_manifest(guest("a", 101, "colour: red")), "manifests/guests.yaml:5:1: unknown key 'colour'"),
    "no manifest folder": (
        lambda stage: (stage.folder / "manifests").rename(stage.folder / "elsewhere"),
        "the manifest folder does not exist",
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("command", [("plan",), ("apply", "--yes")], ids=["plan", "apply"])
def test_one_clear_line(stage: Stage, tell: Tell, name: str, command: tuple[str, ...]) -> None:
    stage.manifest(guest("a", 101))
    breaking, expected = CASES[name]
    breaking(stage)
    before = len(stage.sim.mutations())
    code, lines = tell(*command)
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert expected in lines[0]
    assert "Traceback" not in lines[0]
    assert "not-the-secret" not in lines[0]
    assert len(stage.sim.mutations()) == before
    assert not stage.journal().exists() or len(list(parts().journal_file.export(_store(stage)))) == 0


def _store(stage: Stage):
    return parts().settings(stage.folder / "trueup.toml").store


@pytest.mark.parametrize(
    ("command", "name"),
    [("agent", "a wrong token"), ("agent", "an unreachable endpoint"), ("recover", "a wrong CA")],
)
def test_commands_that_write_say_it_too(stage: Stage, tell: Tell, name: str, command: str) -> None:
    CASES[name][0](stage)
    code, lines = tell(command)
    assert code == 1
    assert CASES[name][1] in lines[-1]
    assert "not-the-secret" not in "".join(lines)


def test_insecure_tls_is_said_on_every_run(stage: Stage, tell: Tell) -> None:
    stage.settings((f'ca_file = "{stage.sim.ca_file}"', "insecure = true"))
    for command in (("plan",), ("status",), ("recover",), ("apply", "--yes")):
        code, lines = tell(*command)
        assert code == 0
        assert lines[0].startswith("warning: insecure = true")


def test_an_emptied_folder_is_refused_where_guests_are_managed(stage: Stage, tell: Tell) -> None:
    file = stage.manifest(guest("emptied", 140))
    assert tell("apply", "--yes")[0] == 0
    file.unlink()
    for command in (("plan",), ("apply", "--yes")):
        code, lines = tell(*command)
        assert code == 1
        assert "is empty, but 1 guest is managed" in lines[-1]
    code, lines = tell("status")
    assert code == 2
    assert "is empty, but 1 guest is managed" in lines[0]


def test_an_empty_folder_where_nothing_is_managed_means_no_guests(tell: Tell) -> None:
    assert tell("plan") == (0, [])


def test_a_damaged_journal_is_never_written_and_still_read(stage: Stage, tell: Tell) -> None:
    file = stage.manifest(guest("damaged", 141))
    assert tell("apply", "--yes")[0] == 0
    with closing(sqlite3.connect(stage.journal())) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(stage.journal().read_bytes())
    data[data.index(b'"seq":3,') + 40] ^= 1
    stage.journal().write_bytes(data)

    file.write_text(guest("damaged", 141, "config: {cores: 2}"))
    before = len(stage.sim.mutations())
    for command in (("apply", "--yes"), ("recover",), ("agent",)):
        code, lines = tell(*command)
        assert code == 1
        assert "record 3 is damaged" in lines[-1]
    assert len(stage.sim.mutations()) == before
    for command in (("ops", "list"), ("status",), ("journal", "stats"), ("plan",)):
        assert tell(*command)[0] in {0, 2}
    assert tell("journal", "verify")[0] == 1
    assert tell("journal", "tail")[0] == 1


def test_the_cluster_away_status_still_shows_what_the_journal_knows(stage: Stage, tell: Tell) -> None:
    stage.manifest(guest("away", 142))
    assert tell("apply", "--yes")[0] == 0
    _unreachable(stage)
    code, lines = tell("status", "--json")
    assert code == 2
    assert lines[0].startswith("warning: the cluster cannot be read")
    assert tell("ops", "list")[0] == 0


def test_without_a_terminal_apply_wants_to_be_told(stage: Stage, tell: Tell) -> None:
    done = stage.run("apply")
    assert done.returncode == 1
    assert done.stderr == "error: there is no terminal to ask on (look at `trueup plan`, then give --yes)\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("plan", "--nonsense"), "trueup plan: no such option '--nonsense' (see `trueup plan --help`)"),
        (("nonsense",), "trueup: no such command 'nonsense' (see `trueup --help`)"),
        (("ops", "show"), "trueup ops show: missing argument 'ID' (see `trueup ops show --help`)"),
        (("ops", "list", "--state", "odd"), "trueup ops list: invalid value for '--state'"),
    ],
)
def test_usage_errors_exit_1(tell: Tell, arguments: tuple[str, ...], expected: str) -> None:
    code, lines = tell(*arguments)
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith(expected)


@pytest.mark.parametrize("arguments", [("ops", "show", "zz"), ("journal", "verify"), ("init", ".")])
def test_what_is_not_there_or_there_already(tell: Tell, arguments: tuple[str, ...]) -> None:
    code, lines = tell(*arguments)
    assert code == 1
    assert len(lines) == 1


def test_debug_adds_the_traceback(tell: Tell) -> None:
    code, lines = tell("plan", "--debug", "-c", "nowhere.toml")
    assert code == 1
    assert lines[0].startswith("error: nowhere.toml: ")
    assert "Traceback" in lines[1]
