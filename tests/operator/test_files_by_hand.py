"""What is told about files, folders, addresses and sockets is done, and then they can be used."""

import asyncio
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trustme

from tests.journal.samples import epoch, started
from tests.operator.following import followed
from tests.operator.test_written_remedies import CLUSTER, HEAD
from tests.pve.servers import SteppedClock
from trueup.adapters import manifest_writer, notify
from trueup.adapters.manifest_writer import Group
from trueup.adapters.postgres.address import parse
from trueup.adapters.pve_endpoints import Endpoints
from trueup.adapters.pve_http import CaFile, Fingerprint, Insecure, Login, connect
from trueup.adapters.spool_folder import SpoolFolder
from trueup.adapters.sqlite import copies, open_journal, rebuild, verify
from trueup.app import parts
from trueup.core import windows
from trueup.core.ordering import check_order
from trueup.edges.starter import write_starter
from trueup.edges.web.doors import open_token
from trueup.edges.web.serving import serving
from trueup.model.guests import Desired
from trueup.model.ids import TokenId
from trueup.model.settings import HttpSettings, Secret
from trueup.model.windows import Window

NOBODY = 65_534
Case = tuple[str, Callable[[Path], object], Callable[[Path], object], Callable[[Path, str], object]]
"""A remedy, what makes it go wrong in a folder, what is attempted, and how the remedy is followed."""

CASES: list[Case] = []


def case(
    remedy: str,
    wrong: Callable[[Path], object],
    attempt: Callable[[Path], object],
    follow: Callable[[Path, str], object],
) -> None:
    CASES.append((remedy, wrong, attempt, follow))


def nothing(*_: object) -> None:
    pass


# --- the journal's file -----------------------------------------------------------------------------------------------


def opens(folder: Path) -> None:
    """As the settings of the folder say, if there are any."""
    there = folder / "url"
    name = there.read_text() if there.exists() else "journal.db"
    asyncio.run(open_journal(folder / name).close())


def elsewhere(folder: Path, _: str = "") -> None:
    (folder / "url").write_text("other.db")


def strange(folder: Path) -> None:
    with sqlite3.connect(folder / "journal.db") as connection:
        connection.execute("CREATE TABLE other (a)")
    connection.close()


def newer(folder: Path) -> None:
    opens(folder)
    with sqlite3.connect(folder / "journal.db") as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {version + 1}")
        (folder / "version").write_text(str(version))
    connection.close()


def the_newer_trueup(folder: Path, _: str) -> None:
    """Another trueup is not at hand: when it knows the version, this one is the newer one."""
    with sqlite3.connect(folder / "journal.db") as connection:
        connection.execute(f"PRAGMA user_version = {(folder / 'version').read_text()}")
    connection.close()


def emptied(folder: Path) -> None:
    opens(folder)
    (folder / "good.db").write_bytes((folder / "journal.db").read_bytes())
    (folder / "journal.db").write_bytes(b"")
    (folder / "journal.db-wal").write_bytes(b"x" * 100)


def brought_back(folder: Path, _: str) -> None:
    (folder / "journal.db").write_bytes((folder / "good.db").read_bytes())
    (folder / "journal.db-wal").unlink()


def both_away(folder: Path, _: str) -> None:
    (folder / "journal.db").rename(folder / "away.db")
    (folder / "journal.db-wal").rename(folder / "away.db-wal")


case("point [store] url elsewhere", strange, opens, elsewhere)
case("use the newer trueup that wrote it", newer, opens, the_newer_trueup)
case("bring the file back that belongs to it, or move both away", emptied, opens, brought_back)
case("bring the file back that belongs to it, or move both away", emptied, opens, both_away)


def sound(folder: Path) -> None:
    opens(folder)


def quarantines(folder: Path) -> None:
    """Asks for it once; a sound journal is left where it is."""
    if not (folder / "left").exists():
        copies.quarantine(folder / "journal.db", stamp="x", record_id="r", at_ms=1)
    opens(folder)


case("leave it where it is", sound, quarantines, lambda folder, _: (folder / "left").touch())


def test_stop_the_other_or_go_elsewhere(tmp_path: Path) -> None:
    for follow in ("stop", "elsewhere"):
        holding = open_journal(tmp_path / "journal.db")
        stopped: list[bool] = []

        def stop(_: str, holding: object = holding, stopped: list[bool] = stopped) -> None:
            asyncio.run(holding.close())  # type: ignore[attr-defined]
            stopped.append(True)

        followed(
            "stop it or point [store] url elsewhere",
            lambda: opens(tmp_path),
            stop if follow == "stop" else lambda _: elsewhere(tmp_path),
        )
        if not stopped:
            asyncio.run(holding.close())


def test_the_program_that_holds_the_file_is_ended(tmp_path: Path) -> None:
    opens(tmp_path)
    holding = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    holding.execute("PRAGMA locking_mode = EXCLUSIVE")
    holding.execute("BEGIN EXCLUSIVE")
    followed("end it", lambda: opens(tmp_path), lambda _: holding.close())


def test_a_journal_without_a_copy_of_its_tables(tmp_path: Path) -> None:
    """Tables that are wrong while every record is sound: nothing to be put aside."""
    path = tmp_path / "journal.db"

    async def writes_one() -> None:
        journal = open_journal(path)
        await journal.append(await epoch(journal), [started("a")])
        await journal.close()

    asyncio.run(writes_one())
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM ops")
    connection.close()
    followed(
        "`trueup journal rebuild` makes its tables anew",
        lambda: verified(path) or copies.quarantine(path, stamp="x", record_id="r", at_ms=1),
        lambda _: rebuild(path),
    )


def verified(path: Path) -> bool:
    return verify(path).ok


# --- addresses and settings -------------------------------------------------------------------------------------------


def logs_in(**given: object) -> Callable[[Path], None]:
    def attempt(folder: Path) -> None:
        login = Login(
            **{  # type: ignore[arg-type]
                "endpoints": ["https://pve1:8006"],
                "trust": Insecure(),
                "token": TokenId("trueup@pve!agent"),
                "secret": Secret("11111111-2222-4333-8444-555555555555"),
                **(given if not (folder / "followed").exists() else GOOD[(folder / "followed").read_text()](folder)),
            }
        )

        async def work() -> None:
            async with connect(login, SteppedClock()):
                pass

        asyncio.run(work())

    return attempt


GOOD: dict[str, Callable[[Path], dict[str, object]]] = {
    "32 bytes": lambda _: {"trust": Fingerprint(sha256=b"\xaa" * 32)},
    "pem": lambda folder: {"trust": CaFile(path=folder / "ca.pem")},
    "url": lambda _: {"endpoints": ["https://pve1.example.org:8006"]},
    "token": lambda _: {"token": TokenId("trueup@pve!agent")},
    "most": lambda folder: {"endpoints": [f"https://p{n}:8006" for n in range(int((folder / "number").read_text()))]},
}


def writes(text: str) -> Callable[[Path, str], None]:
    def follow(folder: Path, remedy: str) -> None:
        (folder / "followed").write_text(text)
        (folder / "number").write_text("".join(filter(str.isdigit, remedy)) or "0")

    return follow


def der(folder: Path) -> None:
    (folder / "ca.der").write_bytes(b"\x30\x82")
    trustme.CA().cert_pem.write_to_path(folder / "ca.pem")


case("32 bytes, as in AA:BB:…", nothing, logs_in(trust=Fingerprint(sha256=b"\xaa" * 31)), writes("32 bytes"))
case("as in https://pve1.example.org:8006", nothing, logs_in(endpoints=["http://pve1"]), writes("url"))
case("as in trueup@pve!agent", nothing, logs_in(token=TokenId("trueup")), writes("token"))
case("at most {} are used", nothing, logs_in(endpoints=[f"https://p{n}:8006" for n in range(500)]), writes("most"))


def test_an_authority_in_pem(tmp_path: Path) -> None:
    der(tmp_path)
    followed(
        "name one in PEM, as PVE's pve-root-ca.pem is",
        lambda: logs_in(trust=CaFile(path=tmp_path / "ca.der"))(tmp_path),
        lambda text: writes("pem")(tmp_path, text),
    )


def test_an_endpoint_at_least() -> None:
    urls: list[str] = []
    followed(
        "name at least one, e.g. https://pve1.example.org:8006",
        lambda: Endpoints(urls),
        lambda text: urls.append(text.rpartition(" ")[2]),
    )


def test_a_key_of_the_journals_address() -> None:
    held = ["postgresql://u@h/db?ssl=1"]
    followed(
        "use {}",
        lambda: [parse(one, "j") for one in held],
        lambda text: held.__setitem__(
            slice(None), [f"postgresql://u@h/db?{key}=1" for key in text.removeprefix("use ").split(", ")]
        ),
    )


FIRST = CLUSTER.replace("[cluster]", "[[cluster]]")
SECOND = FIRST.replace("pve1", "pve2").replace("lab", "shop")

SETTINGS: list[tuple[str, str, str]] = [
    (
        "give each cluster a name that differs in letters and digits",
        FIRST + CLUSTER.replace("[cluster]", "[[cluster]]").replace("pve1", "pve2"),
        FIRST + SECOND,
    ),
    (
        "one cluster has one table: two journals would not know of each other's operations",
        FIRST + SECOND.replace("pve2", "pve1"),
        FIRST,
    ),
    (
        "write a folder of its own, or a url in [cluster.store]",
        FIRST + SECOND + '[cluster.store]\nurl = "sqlite:../lab/state/journal.db"\n',
        FIRST + SECOND + '[cluster.store]\nurl = "sqlite:own.db"\n',
    ),
    (
        "write {} in [cluster.{}], for a folder of its own",
        FIRST + SECOND + '[manifests]\npath = "/srv/guests"\n',
        FIRST + SECOND + '[cluster.manifests]\npath = "shops"\n[manifests]\npath = "/srv/guests"\n',
    ),
    ("write the whole path", CLUSTER.replace("ca.pem", "~nobodyhere/ca.pem"), CLUSTER.replace("ca.pem", "/ca.pem")),
]


@pytest.mark.parametrize(("remedy", "bad", "good"), SETTINGS)
def test_settings_as_the_message_says(tmp_path: Path, remedy: str, bad: str, good: str) -> None:
    file = tmp_path / "trueup.toml"
    file.write_text(bad)
    followed(remedy, lambda: parts().clusters(file), lambda _: file.write_text(good))


def test_a_zone_that_is_not_here() -> None:
    zone = ["Mars/Base"]

    def attempt() -> None:
        windows.is_open(Window.parse(f"Sat 02:00-04:00 {zone[0]}"), 1_800_000_000_000)

    followed(
        "write an IANA name such as Europe/Berlin, and install tzdata",
        attempt,
        lambda text: zone.__setitem__(0, text.partition("such as ")[2].partition(",")[0]),
    )


# --- the order of guests ----------------------------------------------------------------------------------------------

TWO = f"{HEAD}after: [@]\n---\n{HEAD.replace('db-1', 'db-2').replace('102', '103')}after: [&]\n"
ORDERS = [
    ("correct the name in `after`, or declare that guest", ("db-3", ""), ("db-2", ""), ""),
    (
        "correct the name in `after`, or declare that guest",
        ("db-3", ""),
        ("db-3", ""),
        "---\n" + HEAD.replace("db-1", "db-3").replace("102", "104"),
    ),
    ("take one of them out of `after`, or clone from another guest", ("db-2", "db-1"), ("db-2", ""), ""),
]


@pytest.mark.parametrize(("remedy", "bad", "good", "further"), ORDERS)
def test_an_order_as_the_message_says(
    tmp_path: Path, remedy: str, bad: tuple[str, str], good: tuple[str, str], further: str
) -> None:
    """Behind what is told of one folder of manifests: guests from anywhere."""
    (tmp_path / "a.yaml").write_text(TWO.replace("@", "").replace("&", "") + further)
    one, two, *others = parts().manifests(tmp_path)().guests

    def guests(names: tuple[str, str], *more: Desired) -> list[Desired]:
        after = [tuple(filter(None, [name])) for name in names]
        return [*map(lambda want, name: msgspec.structs.replace(want, after=name), (one, two), after), *more]

    held = guests(bad)
    followed(remedy, lambda: check_order(held), lambda _: held.__setitem__(slice(None), guests(good, *others)))


def test_clone_from_another_guest(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    circle = TWO.replace("@", "db-2").replace("after: [&]", "source: {clone: 102}")
    file.write_text(circle)
    load = parts().manifests(tmp_path)
    followed(
        "take one of them out of `after`, or clone from another guest",
        lambda: check_order(load().guests),
        lambda _: file.write_text(circle.replace("clone: 102", "clone: 9000")),
    )


# --- sockets, tokens, folders -----------------------------------------------------------------------------------------


async def _app(_scope: object, _receive: object, _send: object) -> None:
    raise AssertionError("nobody asks")


def serves(folder: Path, port: int, beside: Path | None = None) -> None:
    async def work() -> None:
        settings = HttpSettings(port=port, token_file=folder / "t", socket=beside)
        async with serving(settings, _app):  # type: ignore[arg-type]
            pass

    asyncio.run(work())


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    remedy = "choose another address in [http] listen, or end what listens there"
    taken = socket.create_server(("127.0.0.1", 0))
    ports = [taken.getsockname()[1]]
    followed(remedy, lambda: serves(tmp_path, ports[0]), lambda _: ports.__setitem__(0, 0))
    ports = [taken.getsockname()[1]]
    followed(remedy, lambda: serves(tmp_path, ports[0]), lambda _: taken.close())


def test_another_path_for_the_socket(tmp_path: Path) -> None:
    held = [tmp_path / "none" / "s"]
    followed(
        "choose another path in [http] socket",
        lambda: serves(tmp_path, 0, held[0]),
        lambda _: held.__setitem__(0, tmp_path / "s"),
    )


def token(folder: Path) -> None:
    file = folder / "http.token"
    open_token(file)


def short_token(folder: Path) -> None:
    (folder / "http.token").write_text("abc\n")
    (folder / "http.token").chmod(0o600)


case(
    "remove the file, and a good one is made at the next start",
    short_token,
    token,
    lambda folder, _: (folder / "http.token").unlink(),
)


def spools(folder: Path) -> None:
    spool = SpoolFolder(folder / (folder / "url").read_text())
    for one in spool.waiting(10):
        spool.read(one.name)


def spool_is_a_file(folder: Path) -> None:
    (folder / "url").write_text("spool")
    (folder / "spool").write_text("")


def spool_with(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def wrong(folder: Path) -> None:
        (folder / "url").write_text("spool")
        (folder / "spool").mkdir()
        (folder / "real.json").write_text("{}")
        make(folder / "spool" / "a.json")

    return wrong


SPOOL = "make it a folder that the user who runs trueup may write, or name another in [gate] spool"


def a_folder(folder: Path, _: str) -> None:
    (folder / "spool").unlink()
    (folder / "spool").mkdir()


def a_file(folder: Path, _: str) -> None:
    dropped = folder / "spool" / "a.json"
    dropped.unlink() if not dropped.is_dir() else dropped.rmdir()
    dropped.write_bytes((folder / "real.json").read_bytes())


case(SPOOL, spool_is_a_file, spools, a_folder)
case(SPOOL, spool_is_a_file, spools, lambda folder, _: (folder / "url").write_text("other"))
case("drop the file itself", spool_with(lambda path: path.symlink_to("../real.json")), spools, a_file)
case("drop a file", spool_with(lambda path: path.mkdir()), spools, a_file)


def blocked(folder: Path) -> None:
    (folder / "out").write_text("")
    (folder / "to").write_text("out")


def imports(folder: Path) -> None:
    target = folder / (folder / "to").read_text()
    manifest_writer.write(target / "m", [Group(name="a.yaml", documents=(HEAD,))])


def starts(folder: Path) -> None:
    write_starter(folder / (folder / "to").read_text() / "here")


def another(folder: Path, _: str) -> None:
    (folder / "to").write_text("free")


case("choose a folder that you may write, as in --to DIR", blocked, imports, another)
case("choose a folder that you may write", blocked, starts, another)


@pytest.mark.parametrize(("remedy", "wrong", "attempt", "follow"), CASES, ids=[one[0][:40] for one in CASES])
def test_done_as_the_message_says(
    tmp_path: Path,
    remedy: str,
    wrong: Callable[[Path], object],
    attempt: Callable[[Path], object],
    follow: Callable[[Path, str], object],
) -> None:
    wrong(tmp_path)
    followed(remedy, lambda: attempt(tmp_path), lambda text: follow(tmp_path, text))


# --- messages to people -----------------------------------------------------------------------------------------------


def tells(urls: list[str]) -> None:
    for problem in notify.problems([Secret(url) for url in urls]) if urls else ():  # none are asked about without any
        raise problem


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # of what Apprise imports
def test_a_url_as_the_wiki_of_apprise_has_it() -> None:
    urls = ["nonsense"]
    followed(
        "compare with https://github.com/caronc/apprise/wiki",
        lambda: tells(urls),
        lambda _: urls.__setitem__(0, "json://localhost"),
    )


def test_no_apprise_and_no_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = "install trueup[notify], or empty [notify] urls"
    urls = ["json://localhost"]
    with monkeypatch.context() as without:
        without.setitem(__import__("sys").modules, "apprise", None)
        followed(remedy, lambda: tells(urls), lambda _: urls.clear())


FOLLOWED = {
    *(remedy for remedy, _, _, _ in CASES),
    *(remedy for remedy, _, _ in SETTINGS),
    *(remedy for remedy, _, _, _ in ORDERS),
    "stop it or point [store] url elsewhere",
    "end it",
    "`trueup journal rebuild` makes its tables anew",
    "name one in PEM, as PVE's pve-root-ca.pem is",
    "name at least one, e.g. https://pve1.example.org:8006",
    "use {}",
    "write an IANA name such as Europe/Berlin, and install tzdata",
    "choose another address in [http] listen, or end what listens there",
    "choose another path in [http] socket",
    "install trueup[notify], or empty [notify] urls",
    "compare with https://github.com/caronc/apprise/wiki",
}
