"""HTTP, spool, socket and standard input: one gate behind all of them, and one execution however often it is asked."""

import json
import os
import threading
from pathlib import Path

from tests.cli.stage import QUIET, TRUEUP
from tests.gate_edges.house import VM, House, opened, until
from tests.processes import warm
from tests.web.client import Client


def _drop(house: House, content: bytes, name: str) -> Path:
    """As people should: another name, then a rename."""
    spool = house.folder / "spool"
    spool.mkdir(exist_ok=True)
    beside = spool / f".{name}.part"
    beside.write_bytes(content)
    return beside.rename(spool / f"{name}.json")


def _answered(house: House, name: str) -> dict:
    answer = house.folder / "spool" / f"{name}.answer.json"
    until(answer.exists)
    return opened(answer)


def test_the_same_bytes_by_every_way_at_once_are_done_once(house: House) -> None:
    house.without(VM)
    content = house.signed("alice", "bob").read_bytes()
    with house.agent() as agent:
        client = Client.of(agent)
        http: list[int] = []
        stdin: list[dict] = []

        def post() -> None:
            http.append(client.ask("POST", "/v1/requests", body=content).status)

        def pipe() -> None:
            command = [*TRUEUP, "submit", "-", "--json"]
            done = warm.run(command, cwd=house.folder, env=QUIET, input=content, capture_output=True, check=True)
            stdin.append(json.loads(done.stdout))

        threads = [threading.Thread(target=post) for _ in range(4)] + [threading.Thread(target=pipe) for _ in range(2)]
        _drop(house, content, "one")
        _drop(house, content, "two")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spooled = [_answered(house, "one"), _answered(house, "two")]
        assert set(http) <= {200, 202}
        ops = {one["op"] for one in [*stdin, *spooled]}
        assert len(ops) == 1
        op = ops.pop()
        until(lambda: house.state(op) == "succeeded")
        again = client.ask("POST", "/v1/requests", body=content)
        assert (again.status, again.json["state"], again.json["op"]) == (200, "succeeded", op)
        until(lambda: house.run("plan").returncode == 0)
    assert len(house.deletes()) == 1
    assert len(house.json("requests")["requests"]) == 1
    assert sorted(path.name for path in (house.folder / "spool" / "done").iterdir()) == ["one.json", "two.json"]
    assert http.count(202) <= 1


def test_http_answers_with_codes(house: House) -> None:
    house.without(VM)
    one = house.signed("alice").read_bytes()
    with house.agent() as agent:
        client = Client.of(agent)
        pending = client.ask("POST", "/v1/requests", body=one)
        assert (pending.status, pending.json["state"]) == (202, "pending")
        request = pending.json["request"]
        assert client.ask("POST", "/v1/requests", body=one).status == 200
        house.ok("sign", "request.json", "--key", "carol.key")
        more = client.ask(
            "POST", f"/v1/requests/{request}/approvals", body=(house.folder / "request.json").read_bytes()
        )
        assert (more.status, more.json["state"]) == (202, "pending")  # an owner is no operator
        other = house.signed("bob", name="other.json").read_bytes()
        wrong = client.ask("POST", f"/v1/requests/{request}/approvals", body=other).problem()
        assert (wrong["status"], wrong["refusal"]) == (409, "replay")
        assert client.ask("POST", "/v1/requests/nobody/approvals", body=other).status == 404
        big = client.ask("POST", "/v1/requests", body=b"{" + b" " * 70_000 + b"}").problem()
        assert big["status"] == 413
        house.ok("veto", request, "--key", "bob.key", "--reason", "still in use", "-o", "veto.json")
        veto = (house.folder / "veto.json").read_bytes()
        route = f"/v1/requests/{request}/veto"
        assert client.ask("POST", route, body=other).problem()["status"] == 409
        assert client.ask("POST", route, body=veto[:-9]).problem()["refusal"] == "malformed"
        no = client.ask("POST", route, body=veto)
        assert (no.status, no.json["state"]) == (202, "vetoed")
        (house.folder / "policy.yaml").unlink()
        closed = client.ask("POST", "/v1/requests", body=other).problem()
        assert (closed["status"], closed["type"]) == (503, "urn:trueup:problem:gate-closed")
        assert "policy" in closed["detail"]
    assert house.deletes() == []
    assert house.there()


def test_the_spool_bears_whatever_is_dropped(house: House) -> None:
    spool = house.folder / "spool"
    spool.mkdir(exist_ok=True)
    (house.folder / "secret.json").write_text("{}")
    (spool / "giant.json").write_bytes(b"[" * 3_000_000)
    (spool / "link.json").symlink_to(house.folder / "secret.json")
    (spool / "folder.json").mkdir()
    os.mkfifo(spool / "pipe.json")
    (spool / "junk.json").write_bytes(b"\xff\x00")
    (spool / "empty.json").touch()
    (spool / "notes.txt").write_text("left alone")
    (spool / "half.json.part").write_text("{")
    names = ("giant", "link", "folder", "pipe", "junk", "empty")
    with house.agent() as agent:
        answers = {name: _answered(house, name) for name in names}
        until(lambda: not any((spool / f"{name}.json").is_symlink() for name in names))
        until(lambda: not [path for path in spool.glob("*.json") if not path.name.endswith(".answer.json")])
        assert agent.process.poll() is None
    assert {answer["state"] for answer in answers.values()} == {"refused"}
    assert answers["giant"]["refusal"] == "too_large"
    assert (spool / "refused" / "link.json").is_symlink()
    assert (house.folder / "secret.json").read_text() == "{}"
    assert sorted(path.name for path in spool.iterdir() if path.is_file() and ".answer." not in path.name) == [
        "half.json.part", "notes.txt",
    ]  # fmt: skip
    assert sorted(path.name for path in (spool / "refused").iterdir()) == sorted(f"{name}.json" for name in names)


def test_a_file_that_is_still_being_written_is_left_until_it_is_whole(house: House) -> None:
    house.without(VM)
    content = house.signed("alice").read_bytes()
    spool = house.folder / "spool"
    spool.mkdir(exist_ok=True)
    with house.agent(), (spool / "slow.json").open("wb", buffering=0) as written:
        for start in range(0, len(content), len(content) // 8):
            written.write(content[start : start + len(content) // 8])
            threading.Event().wait(0.3)
        assert _answered(house, "slow")["state"] == "pending"
    assert house.events("denied") == []


def test_who_dies_before_the_answer_is_written_gives_it_in_the_next_life(house: House) -> None:
    """The request was let in, and its file is still there: it is known by its nonce."""
    house.without(VM)
    content = house.signed("alice").read_bytes()
    request = house.submit()["request"]
    _drop(house, content, "again")
    assert house.run("apply", "--yes").returncode == 2
    answer = _answered(house, "again")
    assert (answer["request"], answer["state"]) == (request, "pending")
    assert (house.folder / "spool" / "done" / "again.json").read_bytes() == content
    assert len(house.json("requests")["requests"]) == 1
