"""The same `trueup apply` against fakepve; what it carries out stands in docs/fakepve.md, and is found out here."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakepve.front import COMMAND, SECRET, TOKEN, FakePve
from tests.real_death.stage import Stage, ct, marked, vm

DOCS = Path(__file__).parents[2] / "docs" / "fakepve.md"
OFF = ("power: stopped", "disruption: {restart: allowed}")
ON = ("power: running",)

pytestmark = pytest.mark.skipif(not COMMAND.exists(), reason="fakepve is not installed")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path / "agent", "https://127.0.0.1:1", tmp_path / "none.pem", TOKEN, SECRET) as made:
        yield made


@pytest.fixture
def fake(tmp_path: Path, stage: Stage) -> Iterator[FakePve]:
    installation = stage.found()
    net = "bridge=vmbr0"
    guests = [
        {
            "vmid": 9000, "name": "debian-12", "node": "pve1", "template": True,
            "config": {"cores": 1, "memory": 1024, "scsi0": "local-lvm:base-9000-disk-0,size=8G"},
        },
        {
            "type": "lxc", "vmid": 9001, "name": "debian-12-ct", "node": "pve1", "template": True,
            "config": {"memory": 512, "rootfs": "local-lvm:base-9001-disk-0,size=4G", "net0": f"name=eth0,{net}"},
        },
        {
            "vmid": 131, "name": "vm-131", "node": "pve1", "status": "running", "acpi": False,
            "config": {"memory": 512, "description": marked(installation, 131)},
        },
        {
            "type": "lxc", "vmid": 231, "name": "ct-231", "node": "pve1", "status": "running", "shutdown_secs": 100_000,
            "config": {
                "memory": 512, "rootfs": "local-lvm:vm-231-disk-0,size=4G", "description": marked(installation, 231),
            },
        },
    ]  # fmt: skip
    with FakePve(tmp_path, guests) as made:
        stage.change("https://127.0.0.1:1", made.url)
        stage.change(str(tmp_path / "none.pem"), str(made.ca_file))
        yield made


def test_what_fakepve_carries_out_stands_in_the_docs(fake: FakePve, stage: Stage) -> None:
    def config(kind: str, vmid: int) -> dict[str, object]:
        return fake.get(f"/nodes/pve1/{kind}/{vmid}/config") or {}

    def status(kind: str, vmid: int) -> str:
        return (fake.get(f"/nodes/pve1/{kind}/{vmid}/status/current") or {}).get("status", "absent")

    def tried(kind: str) -> dict[str, bool]:
        return {op.intent.type.value: True for op in stage.journal().ops if op.intent.kind.value == kind}

    def declare(power: tuple[str, ...], size: int = 8, root: int = 4) -> None:
        stage.manifest(
            "guests",
            vm(101, "source: {empty: true}", "config: {memory: 512, scsi0: {storage: local-lvm, size: 8G}}", *power),
            vm(102, "source: {clone: 9000}", f"config: {{cores: 4, scsi0: {{size: {size}G}}}}", *ON),
            vm(131, "source: {empty: true}", *power),
            ct(201) + "\n".join((*power, "")),
            ct(202, "source: {clone: 9001}", f"config: {{memory: 1024, rootfs: {{size: {root}G}}}}", *ON),
            ct(231, "source: {clone: 9001}", *power),
        )

    works: dict[tuple[str, str], bool] = {}
    declare(ON)
    done = stage.run("apply", "--yes")
    assert done.code == 0, done
    for kind, created, cloned in (("qemu", 101, 102), ("lxc", 201, 202)):
        works[kind, "create"] = bool(config(kind, created))
        works[kind, "clone"] = "size=" in str(config(kind, cloned))
        works[kind, "start"] = {status(kind, vmid) for vmid in (created, cloned)} == {"running"}
    works["qemu", "configure"] = str(config("qemu", 102)["cores"]) == "4"
    works["lxc", "configure"] = str(config("lxc", 202)["memory"]) == "1024"
    assert stage.run("plan").code == 0

    declare(OFF)
    done = stage.run("apply", "--yes")
    assert done.code == 0, done
    for kind, heard, deaf in (("qemu", 101, 131), ("lxc", 201, 231)):
        works[kind, "shutdown"] = status(kind, heard) == "stopped"
        works[kind, "stop"] = status(kind, deaf) == "stopped"

    declare(OFF, size=16, root=8)
    done = stage.run("apply", "--yes", "--once")
    works["qemu", "grow"] = "size=16G" in str(config("qemu", 102)["scsi0"])
    works["lxc", "grow"] = "size=8G" in str(config("lxc", 202)["rootfs"])
    assert done.code == (0 if works["qemu", "grow"] and works["lxc", "grow"] else 2), done
    assert works["qemu", "grow"] or "grow of 102 vm-102 ended well, and the difference remains" in done.err

    for kind in ("create", "clone", "configure", "grow", "start", "shutdown", "stop"):
        assert tried(kind) == {"qemu": True, "lxc": True}, kind
    journal = stage.journal()
    assert journal.verification.ok
    assert not journal.open
    assert ("GET", "/cluster/tasks") not in fake.seen  # it is canned there
    assert works == documented()


def documented() -> dict[tuple[str, str], bool]:
    rows = re.findall(r"^\| (\w+) \| (yes|no) \| (yes|no) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        (kind, operation): said == "yes"
        for operation, *cells in rows
        for kind, said in zip(("qemu", "lxc"), cells, strict=True)
    }


def test_a_vmid_that_somebody_else_has_is_left_alone(fake: FakePve, stage: Stage) -> None:
    stage.manifest("guests", vm(9000, "source: {empty: true}", "config: {memory: 4096}"))
    done = stage.run("apply", "--yes", "--json")
    assert done.code == 2
    assert "does not carry our marker" in done.json()["plan"]["changes"][0]["blocked_by"]
    assert not [call for call in fake.seen if call[0] != "GET"]


def test_import_and_doctor_work_too(fake: FakePve, stage: Stage) -> None:
    """Guests that are there become manifests of which a plan is empty; the check-up reads all that it needs."""
    done = stage.run("import", "--all", "--json")
    assert done.code == 0, done
    assert stage.run("plan").code == 0
    found = {finding["check"]: finding for finding in stage.run("doctor", "--json").json()["findings"]}
    assert {finding["mark"] for finding in found.values()} == {"ok"}, found
    assert {"endpoint", "clock", "rights", "quorum", "node", "token", "store", "manifests"} <= found.keys()
    assert "PVE 9" in found["endpoint"]["what"]
    assert not [call for call in fake.seen if call[0] != "GET"]
