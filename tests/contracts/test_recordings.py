"""What the real API answered, put to our client; and what it was asked, put to the simulator."""

import json
import re
from collections import Counter
from functools import cache

import pytest

from tests.contracts.differences import PAGE, PVESIM, page
from tests.contracts.recorded import RECORDINGS, SCENES, Difference, Replay, exchanges, lines
from tests.pve.fakes import client, script
from tests.pve.servers import run
from trueup.adapters.pve_wire import HttpAnswer
from trueup.core.answers import target_of
from trueup.model.errors import NotSent, PveError, ReadFailed, Refused, Unknown
from trueup.model.ids import Upid
from trueup.model.pve import Call, Done, TaskStarted

ENOUGH = 2900
"""So many requests are put to the simulator; fewer would mean that the comparison lost its eyes."""
SET_BY_HAND = 250
"""So many times at most a guest is set to what the recording takes for given."""


def test_the_recordings_are_small_and_say_nothing_of_where_they_were_made() -> None:
    files = list(RECORDINGS.iterdir())
    assert len(files) == 60
    assert sum(file.stat().st_size for file in files) < 1_000_000


# --- The simulator ---------------------------------------------------------------------------------------------------


@cache
def replayed(scene: str) -> tuple[Replay, list[Difference]]:
    replay = Replay(scene)
    return replay, list(replay.differences())


@pytest.mark.parametrize("scene", SCENES)
def test_the_simulator_answers_as_the_real_server_but_for_what_is_listed(scene: str) -> None:
    _, found = replayed(scene)
    unlisted = [
        one for one in found if not any(known.covers(one.call, one.recorded, one.simulated) for known in PVESIM)
    ]
    assert unlisted == []


def test_every_listed_difference_is_there() -> None:
    found = {one for scene in SCENES for one in replayed(scene)[1]}
    gone = [known for known in PVESIM if not any(known.covers(one.call, one.recorded, one.simulated) for one in found)]
    assert gone == []


def test_enough_is_compared_and_little_is_helped() -> None:
    replays = [replayed(scene)[0] for scene in SCENES]
    assert sum(replay.compared for replay in replays) >= ENOUGH
    assert sum(replay.prepared for replay in replays) <= SET_BY_HAND


def test_the_page_shows_the_list() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.contracts.differences"


# --- The client ------------------------------------------------------------------------------------------------------


def answered(line: dict) -> HttpAnswer:
    told = {"message": f"{line['reason']}\n"} if "told" in line else {}
    body = json.dumps(line["body"] | told) if isinstance(line.get("body"), dict) else line.get("body_text", "")
    return HttpAnswer(status=line["status"], reason=line.get("reason", ""), date_s=1, body=body.encode())


def expected(line: dict) -> type:
    """What an answer must mean: a plain restatement, which leans to the side of not knowing."""
    status, reason = line["status"], line.get("reason", "")
    config = line["path"].rpartition("/")[2] == "config" and "/nodes/" in line["path"]
    if status == 200:
        data = (line.get("body") or {}).get("data")
        return TaskStarted if isinstance(data, str) and data.startswith("UPID:") else Done
    if status in (401, 403, 501, 595):
        return NotSent
    if status == 400:
        return Unknown if config else NotSent
    if reason.startswith(("RPCEnvironment init request failed", "hostname lookup")) or line["path"].endswith("/ping"):
        return NotSent if "ping" not in line["path"] else Unknown  # before the call itself; not a call of ours
    return Refused if plain(reason) in REFUSALS else Unknown


def plain(reason: str) -> str:
    """A text without the numbers of guests and processes."""
    return re.sub(r"\d+", "N", reason)


REFUSALS = {
    plain(row["reason"])
    for row in json.loads((RECORDINGS.parents[1] / "pve/recordings/mutations.json").read_text(encoding="utf-8"))
    if row["effect"] == "refused"
}
"""Texts that were judged one by one, with what the real server had done by then."""
MUTATIONS = [(scene, line) for scene in SCENES for line in exchanges(scene) if line["method"] != "GET"]


@pytest.mark.parametrize("scene", sorted({scene for scene, _ in MUTATIONS}))
def test_answers_to_mutations_are_sorted_by_what_they_tell_of_the_effect(scene: str) -> None:
    for line in exchanges(scene):
        if line["method"] == "GET" or line["status"] == 506 or "request_options" in line:
            continue
        call = Call(method=line["method"], path=line["path"], params={})
        try:
            got: type = type(run(client(script(answered(line))).send(call)))
        except PveError as error:
            got = type(error)
        assert got is expected(line), (line, got, target_of(call.method, call.path))


LATE = [line for scene in SCENES for line in lines(scene) if "late" in line]


def test_no_answer_to_a_late_request_is_taken_for_no_effect_where_it_had_one() -> None:
    counted: Counter[str] = Counter()
    for line in LATE:
        method, _, path = line["late"].partition(" ")
        status, _, reason = line["answer"].partition(" ")
        if reason.endswith(" UPID"):
            continue
        answer = HttpAnswer(status=int(status), reason=reason, date_s=1, body=b'{"data":null}')
        try:
            run(client(script(answer)).send(Call(method=method, path=path, params={})))
            claim = "done"
        except (NotSent, Refused):
            claim = "no effect"
        except Unknown:
            claim = "unknown"
        counted[claim] += 1
        if claim != "unknown":
            assert line["effect"] == (claim == "done"), line
    assert counted["no effect"] >= 5
    assert counted["done"] >= 2


def test_recorded_reads_are_read_or_refused_as_a_whole() -> None:
    """Every recorded answer to a read the agent makes: values or a reason, never another exception, never a guess."""
    counted: Counter[str] = Counter()
    for scene in SCENES:
        for line in exchanges(scene):
            if line["method"] != "GET" or "request_options" in line or line.get("params"):
                continue
            pve = client(script(*[answered(line)] * 3))
            match line["path"].split("/")[1:]:
                case ["nodes", _, "tasks", upid, "status"] if len(upid) > 60 and upid.endswith("%3A"):
                    read = pve.task(Upid.parse(upid.replace("%3A", ":").replace("%40", "@").replace("%21", "!")))
                case ["version"]:
                    read = pve.version()
                case ["cluster", "resources"]:
                    read = pve.resources()
                case _:
                    continue
            try:
                run(read)
                assert line["status"] == 200 or "no such task" in str(line["body"]), line
                counted["read"] += 1
            except ReadFailed as error:
                assert error.status == line["status"], line  # noqa: PT017 - most of them are read, and raise nothing
                counted["refused"] += 1
    assert counted["read"] > 450
    assert counted["refused"] > 10
