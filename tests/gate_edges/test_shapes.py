"""docs/json.md shows what the commands of the gate print, with the same keys in the same order."""

import pytest

from tests.cli.test_json import examples, shape
from tests.gate_edges.house import VM, House


def _example(start: str, at: int = 0) -> object:
    (found,) = [blocks for heading, blocks in examples().items() if heading.startswith(start)]
    return found[at]


@pytest.fixture
def asked(house: House) -> House:
    house.signed("alice", vmid=VM)
    return house


def test_shapes(asked: House) -> None:
    real = {
        "`trueup submit": asked.submit(),
        "`trueup requests": asked.json("requests"),
        "`trueup keys list": asked.json("keys", "list"),
        "`trueup policy test": asked.json("policy", "test", "request.json"),
    }
    for heading, found in real.items():
        assert shape(found) == shape(_example(heading)), heading
    status = asked.json("status")
    assert shape(status["pending"][0]) == shape(_example("`trueup status", 1))
    (asked.folder / "policy.yaml").write_text("rules: [{kinds: [destroy], people: 3, roles: [operator]}]")
    checked = asked.json("keys", "check", code=1)
    assert list(checked) == list(_example("`trueup keys check"))  # pyright: ignore[reportArgumentType]
    assert "3 with role operator, and 2 could agree" in checked["findings"][0]
    assert any("3 with role operator" in one for one in asked.run("doctor").stdout.splitlines())
    refused = asked.json("policy", "test", "request.json")
    assert "bob" in refused["missing"]
