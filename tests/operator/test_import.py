"""Guests that are there already get manifests which read well, and a plan of which is empty."""

import json
from pathlib import Path

import pytest

from tests.cli.stage import Stage, guest
from tests.operator.many_guests import guests
from trueup.adapters import manifests
from trueup.adapters.manifest_writer import Group, write


@pytest.fixture
def many(stage: Stage) -> Stage:
    stage.sim.ask("/_sim/guests", {"guests": list(guests()), "pools": [{"poolid": "office", "vms": [200, 201]}]})
    for example in (stage.folder / "manifests").iterdir():
        example.unlink()
    return stage


def test_two_hundred_guests_and_then_an_empty_plan(many: Stage) -> None:
    done = many.json("import", "--all")
    assert done["skipped"] == []
    assert len(done["imported"]) == 202
    assert sorted(Path(file).name for file in done["files"]) == ["pve1.yaml", "pve2.yaml", "pve3.yaml"]
    plan = many.json("plan")
    assert plan["summary"] == {
        "create": 0, "update": 0, "power": 0, "needs_approval": 0, "blocked": 0, "unchanged": 202,
    }  # fmt: skip
    assert not many.journal().exists()
    assert many.sim.mutations() == []

    text = "".join(Path(file).read_text() for file in done["files"])
    for filled in ("BC:24:11", "smbios1", "vmgenid", "meta", "digest", "-disk-", "hwaddr", "geheim", "unused"):
        assert filled not in text, filled
    for written in (
        "scsi0: {storage: local-lvm, size: 4G, discard: on, iothread: true, ssd: true}",
        "net0: {model: virtio, bridge: vmbr0, firewall: true, tag: 1}",
        "tags: [web, prod]",
        "startup: {order: 1}",
        "boot: {order: [net0, scsi0]}",
        "ide2: shared:cloudinit",
        "template: true",
        "pool: office",
        "Läuft seit 2019",
        "- Zuständig: Jürgen",
        "rootfs: {storage: local-lvm, size: 4G}",
        "# cipassword is set in PVE, which does not show it; it stays as it is",
    ):
        assert written in text, written

    status = many.json("status", code=2)
    assert {row["sync"] for row in status["guests"]} == {"blocked"}
    assert "trueup adopt" in status["guests"][0]["blocked_by"]


def test_what_is_declared_is_neither_written_again_nor_overwritten(many: Stage) -> None:
    mine = many.manifest(guest("vm-200", 200), "pve1.yaml")
    before = mine.read_text()
    done = many.json("import", "200", "203")
    assert [row["vmid"] for row in done["imported"]] == [203]
    assert [Path(file).name for file in done["files"]] == ["pve1-2.yaml"]
    assert "declared already, at manifests/pve1.yaml:1:1" in done["skipped"][0]["why"]
    assert mine.read_text() == before
    again = many.json("import", "203")
    assert (again["imported"], again["files"]) == ([], [])


def test_guests_can_be_chosen(many: Stage) -> None:
    tagged = many.json("import", "--tag", "prod", "--node", "pve3", "--to", "elsewhere")
    assert {row["node"] for row in tagged["imported"]} == {"pve3"}
    assert [Path(file).name for file in tagged["files"]] == ["prod.yaml"]
    loaded = manifests.load(many.folder / "elsewhere")
    assert {want.vmid for want in loaded.guests} == {row["vmid"] for row in tagged["imported"]}
    assert many.run("import").returncode == 1
    assert many.run("import", "200", "--all").returncode == 1
    missing = many.run("import", "999")
    assert missing.returncode == 1
    assert "there is no guest 999" in missing.stderr


def test_what_cannot_be_described_is_told(many: Stage) -> None:
    many.sim.by_hand(vmid=500, name="vm-200", config={"cores": 1})
    many.sim.by_hand(vmid=501, name="half", lock="create")
    many.sim.by_hand(vmid=502, name="fine", config={"description": "x\n<!-- trueup {} -->\n<!-- trueup {} -->"})
    done = many.run("import", "200", "500", "501", "502")
    assert done.returncode == 1
    assert "its name is already that of guest 200: rename one of them in PVE" in done.stdout
    assert "it is being made (create)" in done.stdout
    assert "description is left out: the description has one of trueup's markers in it" in done.stdout
    assert many.run("plan").returncode == 0


def test_a_linked_clone_names_its_template(many: Stage) -> None:
    many.manifest(guest("linked", 510, "source: {clone: 9000, full: false}", "power: stopped"))
    assert many.run("apply", "--yes").returncode == 0
    (many.folder / "manifests" / "guests.yaml").unlink()
    done = many.json("import", "510")
    assert "source: {clone: 9000, full: false}" in Path(done["files"][0]).read_text()
    assert many.run("plan").returncode == 0


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    group = Group(name="../pve 1", documents=("a: 1\n",))
    (first,) = write(tmp_path, [group])
    (second,) = write(tmp_path, [group])
    assert (first.name, second.name) == ("-pve-1.yaml", "-pve-1-2.yaml")
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["-pve-1-2.yaml", "-pve-1.yaml"]'
