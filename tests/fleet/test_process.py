"""One process for two clusters, each behind its own simulator: commands, pages, signals, and one that goes down."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.stage import Simulator, Stage, guest
from tests.cli.test_crashes import until
from tests.operator.living import Agent, living
from tests.web.client import Client

_GOODBYE = "ignore:Exception ignored in.*(_SelectorTransport|socket.socket):pytest.PytestUnraisableExceptionWarning"
pytestmark = pytest.mark.filterwarnings(_GOODBYE)

NAMES = ("lab", "shop")


class Both(Stage):
    """A folder with two clusters: `lab` is behind `sim`, `shop` behind `other`."""

    def __init__(self, folder: Path, sims: dict[str, Simulator]) -> None:
        self.folder, self.sim, self.sims = folder, sims["lab"], sims
        text = ""
        for name, sim in sims.items():
            (folder / name / "manifests").mkdir(parents=True)
            (folder / name / "token.secret").write_text(sim.token_secret)
            (folder / name / "token.secret").chmod(0o600)
            text += f'[[cluster]]\nname = "{name}"\nendpoints = ["{sim.url}"]\ntoken_id = "{sim.token_id}"\n'
            text += f'token_secret_file = "token.secret"\nca_file = "{sim.ca_file}"\n'
            self.declare(name, guest(f"{name}-db", 102))
        text += '[reconcile]\ninterval = "1s"\n[http]\nlisten = "127.0.0.1:0"\n[limits]\nsettle_time = "1s"\n'
        (folder / "trueup.toml").write_text(text)

    def declare(self, name: str, text: str) -> None:
        (self.folder / name / "manifests" / "guests.yaml").write_text(text)


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    sims = {name: Simulator() for name in NAMES}
    yield Both(tmp_path, sims)
    for sim in sims.values():
        if sim.process.poll() is None:
            sim.stop()


def rows(client: Client) -> dict[str, dict]:
    return {row["name"]: row for row in client.get("/v1/clusters").json["clusters"]}


def in_sync(client: Client, name: str, count: int) -> bool:
    row = rows(client)[name]
    return row["guests"] is not None and row["guests"]["in_sync"] == count and row["in_flight"] == 0


def test_two_clusters(both: Both) -> None:
    refused = both.run("status")
    assert refused.returncode == 1
    assert (
        "trueup.toml: these settings are for several clusters (choose one with --cluster: lab, shop)" in refused.stderr
    )
    assert both.run("plan", "--cluster", "shep").returncode == 1

    planned = both.json("plan", "--cluster", "shop", code=2)
    assert [change["name"] for change in planned["changes"]] == ["shop-db"]

    with living(Agent(both)) as agent:
        client = Client.of(agent)
        until(lambda: all(in_sync(client, name, 1) for name in NAMES), 60)
        assert client.get("/readyz").json == {"ready": True, "clusters": {"leading": 2}}

        # Commands reach the agent of the cluster that they name, through the socket beside its journal.
        assert both.json("pause", "--cluster", "lab")["paused"] == ["*"]
        assert both.json("status", "--cluster", "lab")["paused"] == ["*"]
        assert both.json("status", "--cluster", "shop")["paused"] == []
        assert client.get("/c/lab/v1/status").json["paused"] == ["*"]
        assert both.run("resume", "--cluster", "lab").returncode == 0

        the_pages_are_below_a_prefix(client)

        # One goes down; the other one works on, and SIGHUP is for both.
        both.sims["lab"].stop()
        both.declare("shop", "---\n".join((guest("shop-db", 102), guest("shop-web", 103))))
        until(lambda: in_sync(client, "shop", 2), 60)
        until(lambda: rows(client)["lab"]["problem"], 60)
        assert list(rows(client)) == ["lab", "shop"]
        file = both.folder / "trueup.toml"
        file.write_text(file.read_text().replace("[reconcile]", '[reconcile]\nmode = "observe"'))
        agent.hang_up()
        until(lambda: {line["cluster"] for line in agent.events("observing")} == set(NAMES), 60)
        file.write_text("[cluster")
        agent.hang_up()
        until(lambda: agent.said("settings", "not taken over, the agents go on as before"), 60)
        assert sum("not taken over" in line.get("text", "") for line in agent.events("settings")) == 1

        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(30) == 0
        assert agent.stop() == 0
    assert [line.get("cluster") for line in agent.events("stopped")] in (["lab", "shop", None], ["shop", "lab", None])
    assert {call["path"] for call in both.sims["shop"].mutations()} >= {"/nodes/pve1/qemu"}


def the_pages_are_below_a_prefix(client: Client) -> None:
    start = client.page("/").text
    assert 'href="/c/lab/"' in start
    assert "2 of 2 clusters ready" in start
    page = client.page("/c/lab/").text
    assert 'href="/c/lab/guests/102"' in page
    assert 'href="/c/lab/ops"' in page
    assert 'sse-connect="/c/lab/events"' in page
    assert "shop" not in page
    for path in ("/c/lab/ops", "/c/lab/journal", "/c/lab/requests", "/c/lab/guests/102"):
        assert client.page(path).status == 200, path
    assert client.get("/c/lab").headers["location"].endswith("/c/lab/")
    assert client.get("/c/lab/openapi.json").json["servers"] == [{"url": "/c/lab"}]
    assert client.get("/c/lab/readyz").json == {"ready": True, "phase": "leading", "epoch": 1}
    assert client.get("/c/nobody/v1/status").problem()["detail"].startswith("there is no cluster of this name")
    assert client.get("/v1/status").status == 404

    # Nobody gets in without the token, and no name is told.
    stranger = client.browser()
    assert stranger.get("/v1/clusters").status == stranger.get("/c/lab/v1/status").status == 401
    assert stranger.get("/c/nobody/v1/status").status == 401
    assert stranger.get("/c/nobody/readyz").status == 503
    for path in ("/healthz", "/readyz"):
        assert not set(NAMES) & set(stranger.get(path).text.split('"'))
    assert stranger.page("/c/lab/ops").headers["location"] == "/login?after=/c/lab/ops"

    # One login is good for all.
    assert stranger.log_in(client.token, "/c/shop/").headers["location"] == "/c/shop/"
    assert stranger.page("/c/lab/").status == stranger.page("/c/shop/").status == stranger.page("/").status == 200
    assert stranger.ask("POST", "/c/lab/v1/requests", body=b"x").status == 403  # without the page's token
