"""The examples of docs/json.md have the keys that the commands print, in the same order."""

import json
import re
from pathlib import Path

import pytest

from tests.cli.stage import Stage, guest, several

DOCS = Path(__file__).parents[2] / "docs" / "json.md"


def examples() -> dict[str, list[object]]:
    """The JSON blocks under each heading."""
    found: dict[str, list[object]] = {}
    heading = ""
    for match in re.finditer(
        r"^#+ (?P<heading>[^\n]+)$|^```json\n(?P<block>.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL
    ):
        if match["heading"]:
            heading = match["heading"]
        else:
            found.setdefault(heading, []).append(json.loads(match["block"]))
    return found


FREE = {"params", "goal", "event"}
"""Maps whose keys depend on the case."""


def shape(value: object) -> object:
    """Only the keys of what is there; a list has the shape of its first element."""
    if isinstance(value, dict):
        return {key: None if key in FREE else shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None


def _example(start: str, at: int = 0) -> object:
    (found,) = [blocks for heading, blocks in examples().items() if heading.startswith(start)]
    return found[at]


@pytest.fixture
def made(stage: Stage) -> Stage:
    stage.manifest(several(guest("web-1", 101, "config: {cores: 1}"), guest("gone-1", 102)))
    assert stage.run("apply", "--yes").returncode == 0
    stage.manifest(guest("web-1", 101, "config: {cores: 2}"))
    return stage


def test_shapes(made: Stage) -> None:
    op_id = made.json("ops", "list")["ops"][0]["op_id"]
    plan = made.json("plan", code=2)
    (approval,) = [item for change in plan["changes"] for item in change["needs_approval"]]
    assert shape(approval) == shape(_example("`trueup plan", 1))
    plan["changes"] = [change for change in plan["changes"] if change["bucket"] == "update"]
    real = {
        "`trueup ops list": made.json("ops", "list"),
        "`trueup ops show": made.json("ops", "show", op_id),
        "`trueup plan": plan,
        "`trueup status": made.json("status", code=2),
        "`journal verify": made.json("journal", "verify"),
        "`journal stats": made.json("journal", "stats"),
        "`journal tail": made.json("journal", "tail"),
    }
    for heading, document in real.items():
        assert shape(document) == shape(_example(heading)), heading
        assert list(document) == list(_example(heading)), heading  # type: ignore[call-overload]


def test_shapes_of_what_changes_something(stage: Stage) -> None:
    stage.manifest(guest("web-1", 101))
    applied = stage.json("apply", "--yes")
    assert shape(applied) == shape(_example("`trueup apply"))
    recovered = stage.json("recover")
    example = _example("`trueup recover")
    assert isinstance(example, dict)
    assert list(recovered) == list(example)


def test_counts_of_the_example_add_up() -> None:
    example = _example("`trueup recover")
    assert isinstance(example, dict)
    parts = ("resumed", "failed", "rolled_back", "still_running", "unresolved")
    assert example["examined"] == sum(example[part] for part in parts) == len(example["ops"])


def test_the_simulator_prints_one_line(stage: Stage) -> None:
    said = {"url": stage.sim.url, "ca_file": "", "token_id": "", "token_secret": ""}
    assert list(said) == list(_example("`trueup sim"))  # type: ignore[call-overload]
