"""The data of the API viewer is what the simulator checks requests by."""

import json
from typing import Any

from pvesim.api import ROUTES
from pvesim.apidoc import script, tree


def walk(nodes: Any) -> Any:
    for node in nodes:
        yield node
        yield from walk(node.get("children", []))


def test_every_call_is_in_it():
    found = {(method, node["path"]) for node in walk(tree()) for method in node.get("info", {})}
    assert found == {(route.method, route.path) for route in ROUTES}


def test_the_script_is_a_constant():
    text = script()
    prefix = "const apiSchema = "
    assert text.startswith(prefix)
    parsed, end = json.JSONDecoder().raw_decode(text, len(prefix))
    assert parsed == json.loads(json.dumps(tree()))
    assert text[end:].lstrip().startswith(";")


def test_parameters_have_types_limits_and_sentences():
    nodes = {node["path"]: node["info"] for node in walk(tree()) if "info" in node}
    config = nodes["/nodes/{node}/qemu/{vmid}/config"]["PUT"]["parameters"]["properties"]
    assert config["cores"]["type"] == "integer"
    assert config["cores"]["minimum"] == 1
    assert "optional" not in config["vmid"]
    assert config["net[n]"]["format"]["bridge"]["optional"] == 1
    assert "l26" in config["ostype"]["enum"]
    assert nodes["/nodes/{node}/qemu/{vmid}/resize"]["PUT"]["parameters"]["properties"]["size"]["pattern"]
    assert nodes["/nodes/{node}/lxc"]["POST"]["parameters"]["properties"]["mp[n]"]
    for info in nodes.values():
        for call in info.values():
            assert call["parameters"]["additionalProperties"] == 0
            assert all(param["description"] for param in call["parameters"]["properties"].values())
