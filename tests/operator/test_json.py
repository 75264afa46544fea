"""The examples of docs/json.md have the keys that the operator's commands print."""

from tests.cli.stage import Stage, guest, several
from tests.cli.test_json import _example, shape


def test_shapes(stage: Stage) -> None:
    stage.sim.by_hand(vmid=101, name="web-1", status="running", config={"cores": 1, "cipassword": "x"})
    stage.sim.by_hand(vmid=103, name="other")
    stage.manifest(several(guest("db-1", 102)))
    stage.json("apply", "--yes")
    real = {
        "`trueup import": stage.json("import", "101", "102"),
        "`trueup pause": stage.json("pause", "db-1"),
        "`journal backup": stage.json("journal", "backup", "copy.db"),
        "`journal prune": stage.json("journal", "prune", "--older-than", "90d"),
    }
    real["`trueup adopt"] = stage.json("adopt", "101", "103", "--yes", code=1)
    real["`trueup doctor"] = stage.json("doctor")
    for heading, document in real.items():
        assert shape(document) == shape(_example(heading)), heading
        assert list(document) == list(_example(heading)), heading  # type: ignore[call-overload]
