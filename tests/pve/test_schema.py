"""PVE's own schema of options, from the data of its API viewer: what it plainly refuses is refused at its place."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pve.servers import run
from trueup.adapters import pve_schema
from trueup.adapters.manifests import load
from trueup.core.option_schema import fault_of
from trueup.model.errors import ReadFailed
from trueup.model.ids import GuestType

QEMU, LXC = GuestType.QEMU, GuestType.LXC
SCRIPT = (Path(__file__).parent / "data" / "apidoc.js").read_bytes()
SCHEMA = pve_schema.decode(SCRIPT, "9.2.11")


class Cluster:
    """A cluster that serves the script; `reads` counts how often."""

    def __init__(self, script: bytes | None = SCRIPT, version: str = "9.2.11"):
        self.script = script
        self.said = version
        self.reads = 0

    async def version(self):
        if not self.said:
            raise ReadFailed(what="nobody there")
        return self.said

    async def api_viewer(self):
        self.reads += 1
        if self.script is None:
            raise ReadFailed(what="PVE answered 404")
        return self.script


def fault(key, value, guest=QEMU):
    found = fault_of(SCHEMA, guest, key, value)
    return "" if found is None else f"{found.what} ({found.remedy})" if found.remedy else found.what


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cores", "4"), ("acpi", "1"), ("acpi", "no"), ("bios", "ovmf"), ("cpulimit", "1.5"), ("cpulimit", "128"),
        ("memory", "2048"), ("memory", "current=2048"), ("startdate", "2026-1-1"), ("boot", "order=scsi0;net0"),
        ("net0", "virtio,bridge=vmbr0"), ("net31", "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=7,firewall=1"),
        ("net0", {"model": "virtio", "bridge": "vmbr0", "trunks": "1-5;7"}), ("net0", {"hwaddr": "BC:24:11:00:00:01"}),
        ("net0", {"virtio": "BC:24:11:00:00:01"}), ("agent", "1"), ("agent", "enabled=1,guest-fsfreeze=0,type=isa"),
        ("scsi0", "local-lvm:32,iothread=1"), ("scsi7", {"storage": "local-lvm", "size": "32", "iothread": "1"}),
        ("scsi0", {"volume": "a:vm-1-disk-0", "discard": "1"}), ("scsi0", ""),
        ("scsi0", {"file": "a:1", "discard": "on"}),
        ("cipassword", "anything"), ("ipconfig0", {"ip": "dhcp"}), ("odd", "whatever"), ("queer", "x=1"),
        ("hookscript", "a:snippets/x"),
    ],
)  # fmt: skip
def test_what_pve_takes_passes(key, value):
    assert fault(key, value) == ""


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("cors", "4", "PVE 9.2.11 knows no option 'cors' of a VM (did you mean 'cores'? PVE: How many cores a socket"),
        ("nett0", "x", "knows no option 'nett0' of a VM (did you mean 'net0'? PVE: A network interface.)"),
        ("zzz", "x", "(see its API viewer, /pve-docs/api-viewer/)"),
        ("cores", "0", "'cores' is 0; it must be at least 1 (PVE: How many cores a socket has. And a second line.)"),
        ("cores", "two", "'cores' is 'two'; it must be an integer (PVE: How"),
        ("cores", "1.5", "it must be an integer"),
        ("cores", {"a": "1"}, "'cores' takes one value, not a map (PVE: How"),
        ("cpulimit", "129", "'cpulimit' is 129; it must be at most 128"),
        ("cpulimit", "much", "it must be a number"),
        ("acpi", "maybe", "'acpi' is 'maybe'; it must be true or false (PVE: Whether there is ACPI.)"),
        ("bios", "uefi", "'bios' is 'uefi'; it must be seabios or ovmf (PVE: Which firmware it boots.)"),
        ("startdate", "tomorrow", "'startdate' is 'tomorrow'; it must match (now|\\d{4}-\\d{1,2}-\\d{1,2}) (PVE: What"),
        ("memory", "8", "'memory.current' is 8; it must be at least 16 (PVE: Its memory.)"),
        ("net0", "virtoi,bridge=vmbr0", "'net0.model' is 'virtoi'; it must be e1000 or virtio (PVE: The card that"),
        ("net0", {"model": "virtio", "tag": "5000"}, "'net0.tag' is 5000; it must be at most 4094 (PVE: The VLAN.)"),
        ("net0", {"model": "virtio", "brigde": "vmbr0"}, "'net0' has no part 'brigde' in PVE (did you mean 'bridge'?)"),
        ("net0", {"model": "virtio", "trunks": "a"}, "'net0.trunks' is 'a'; it must match"),
        ("net0", "virtio,firewall=maybe", "it must be true or false (PVE: Whether it is behind the firewall.)"),
        ("scsi0", {"storage": "a", "size": "1G", "iothred": "1"}, "'scsi0' has no part 'iothred' in PVE (did you mean"),
        ("agent", "type=usb", "'agent.type' is 'usb'; it must be virtio or isa (PVE: How the agent inside is used.)"),
        ("hookscript", "x", "'hookscript' is shorter than 3 characters"),
        ("hookscript", "x" * 13, "'hookscript' is longer than 12 characters"),
    ],
)  # fmt: skip
def test_what_pve_refuses_is_refused_in_its_own_words(key, value, said):
    assert said in fault(key, value)


def test_each_type_of_guest_has_its_own_options():
    assert "knows no option 'bios' of a container" in fault("bios", "ovmf", LXC)
    assert fault("rootfs", {"storage": "a", "size": "8G"}, LXC) == ""
    assert "at most 8192" in fault("cores", "9000", LXC)


@given(st.text(max_size=30), st.text(max_size=60) | st.dictionaries(st.text(max_size=8), st.text(max_size=8)))
def test_whatever_stands_there_it_never_raises(key, value):
    for guest in GuestType:
        fault_of(SCHEMA, guest, key, value)
        for known in ("net0", "scsi0", "queer", "odd", "cores", "agent"):
            fault_of(SCHEMA, guest, known, value)


def test_manifests_are_checked_at_their_places_and_defaults_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "defaults.yaml").write_text("kind: Defaults\nconfig: {bios: uefi}\n")
    vm = "---\nkind: VirtualMachine\nname: w{0}\nvmid: {0}\nnode: p\nconfig:\n  cores: {1}\n  cipassword: null\n"
    (folder / "a.yaml").write_text(vm.format(101, 0) + vm.format(102, 2))
    told = [str(problem) for problem in pve_schema.check_against(SCHEMA, load(folder))]
    assert [line.partition(": ")[0] for line in told] == ["manifests/defaults.yaml:2:10", "manifests/a.yaml:7:3"]
    assert "(PVE: How many cores a socket has." in told[1]


def test_it_is_read_once_for_each_version_and_kept(tmp_path):
    state = tmp_path / "state"
    cluster = Cluster()
    assert run(pve_schema.look_up(cluster, state)).schema == SCHEMA
    assert run(pve_schema.look_up(cluster, state)).schema == SCHEMA
    assert cluster.reads == 1
    assert [path.name for path in state.iterdir()] == ["pve-options-9.2.11.json"]
    cluster.said = "9.3/../x"
    assert run(pve_schema.look_up(cluster, state)).schema is not None
    assert cluster.reads == 2
    assert len(list(state.iterdir())) == 2
    (state / "pve-options-9.2.11.json").write_text("{")
    cluster.said = "9.2.11"
    assert run(pve_schema.look_up(cluster, state)).schema == SCHEMA
    assert run(pve_schema.look_up(cluster, None)).schema == SCHEMA


@pytest.mark.parametrize(
    ("cluster", "note"),
    [
        (Cluster(version=""), "nobody there"),
        (Cluster(script=None), "PVE answered 404"),
        (Cluster(script=b"<html>"), "no constant with the API in it"),
        (Cluster(script=b"const x = ["), "is not understood"),
        (Cluster(script=b"const x = []"), "no options of guests"),
        (Cluster(script=b'const x = [5, {"path": "/nodes/{node}/qemu", "info": []}]'), "no options of guests"),
        (Cluster(script=b"const x = " + b"[" * 100_000), "is not understood"),
    ],
)
def test_where_it_cannot_be_had_nothing_is_checked_and_that_is_said(cluster, note, tmp_path):
    looked = run(pve_schema.look_up(cluster, tmp_path))
    assert looked.schema is None
    assert looked.note.startswith("options are not checked against PVE's schema: ")
    assert note in looked.note
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_no_matter(tmp_path):
    (tmp_path / "state").write_text("a file")
    assert run(pve_schema.look_up(Cluster(), tmp_path / "state")).schema == SCHEMA


def test_older_scripts_have_another_constant():
    text = SCRIPT.replace(b"const apiSchema = [", b"var pveapi = [")
    assert pve_schema.decode(text, "9.2.11") == SCHEMA
