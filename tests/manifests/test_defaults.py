"""One document of defaults for a folder: nearest wins, maps are merged, and every problem is at its own place."""

import pytest

from tests.manifests.folders import VM, problems, write
from trueup.adapters.manifests import ManifestCache, load
from trueup.model.guests import Power, SnapshotPolicy
from trueup.model.ids import Vmid

TOP = """\
kind: Defaults
power: stopped
config: {onboot: true, net0: {model: virtio, bridge: vmbr0}, memory: 512}
labels: {site: a, tier: none}
disruption: {restart: allowed}
snapshots: {schedule: hourly, keep: 24}
pool: dev
ignore: [balloon]
"""
WEB = """\
kind: Defaults
config:
  memory: 2048
labels: {tier: web}
snapshots: {keep: 6}
vmids: "100-199,300"
"""


def guest(folder, text, name):
    write(folder, text, name)
    return next(guest for guest in load(folder).guests if guest.name == "web-1")


def test_nearest_wins_and_maps_are_merged(folder):
    write(folder, TOP, "defaults.yaml")
    write(folder, WEB, "web/defaults.yaml")
    web = guest(folder, f"{VM}config: {{net0: {{bridge: vmbr1}}}}\nlabels: {{site: b}}\n", "web/deep/a.yaml")
    assert web.config == {"onboot": "1", "net0": {"bridge": "vmbr1"}, "memory": "2048"}
    assert web.labels == {"site": "b", "tier": "web"}
    assert web.snapshots == SnapshotPolicy(schedule="hourly", keep=6)
    assert (web.power, web.restart, web.pool, web.ignore) == (Power.STOPPED, "allowed", "dev", ("balloon",))


def test_a_folder_beside_inherits_nothing(folder):
    write(folder, TOP, "db/defaults.yaml")
    assert guest(folder, VM, "web/a.yaml").pool == ""


def test_defaults_may_stand_in_a_file_with_guests(folder):
    assert guest(folder, f"{VM}---\n{TOP}", "a.yaml").pool == "dev"


def test_a_guest_can_do_without(folder):
    write(folder, TOP, "defaults.yaml")
    web = guest(folder, f"{VM}snapshots: null\nconfig: {{memory: null}}\npower: running\nignore: []\n", "a.yaml")
    assert (web.snapshots, web.config["memory"], web.power, web.ignore) == (None, "", Power.RUNNING, ())


def test_a_template_inherits_no_run_state_and_no_snapshots(folder):
    write(folder, TOP.replace("stopped", "running"), "defaults.yaml")
    golden = guest(folder, f"{VM}template: true\n", "a.yaml")
    assert (golden.template, golden.power, golden.snapshots) == (True, Power.STOPPED, None)


def test_a_description_and_a_secret_are_inherited_and_replaced(folder):
    write(folder, "kind: Defaults\nconfig: {description: all, cipassword: {file: pw}}\n", "defaults.yaml")
    write(folder, "hunter2", "pw")
    web = guest(folder, VM, "web/a.yaml")
    assert (web.description, web.config) == ("all", {"cipassword": "hunter2"})
    own = guest(folder, f"{VM}config: {{description: mine, cipassword: $6$a$b}}\n", "web/a.yaml")
    assert (own.description, own.config) == ("mine", {"cipassword": "$6$a$b"})


def test_places_lead_to_where_a_key_really_stands(folder):
    write(folder, TOP, "defaults.yaml")
    write(folder, WEB, "web/defaults.yaml")
    write(folder, f"{VM}config: {{cores: 2}}\n", "web/a.yaml")
    manifests = load(folder)
    assert manifests.where(Vmid(101), "config.cores") == "manifests/web/a.yaml:5:10"
    assert manifests.where(Vmid(101), "config.memory") == "manifests/web/defaults.yaml:3:3"
    assert manifests.where(Vmid(101), "onboot") == "manifests/defaults.yaml:3:10"
    assert manifests.where(Vmid(101), "pool") == "manifests/defaults.yaml:7:1"
    assert manifests.where(Vmid(101), "nothing") == "manifests/web/a.yaml:1:1"


def test_vmids_outside_of_the_folders_range_are_refused(folder):
    write(folder, 'kind: Defaults\nvmids: "100-199,300"\n', "web/defaults.yaml")
    for vmid in (100, 199, 300):
        assert guest(folder, VM.replace("101", str(vmid)), "web/a.yaml").vmid == vmid
    (told,) = problems(folder, VM.replace("101", "200"), "web/a.yaml")
    assert told.startswith("manifests/web/a.yaml:3:7: vmid 200 is outside of this folder's 100-199, 300, set at ")
    assert "manifests/web/defaults.yaml:2:1" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\n", "defaults.yaml:2:1: unknown key 'name' (it tells one guest from another"),
        ("vmid: 101\n", "unknown key 'vmid' (it tells one guest from another: write it in each manifest)"),
        ("node: pve1\n", "unknown key 'node'"),
        ("source: {empty: true}\n", "unknown key 'source'"),
        ("after: [a]\n", "unknown key 'after'"),
        ("cores: 2\n", "unknown key 'cores' (PVE's own keys stand under config"),
        ("config: {Cores: 2}\n", "defaults.yaml:2:10: 'Cores' is no config key"),
        ("config: 2\n", "'config' must be a map"),
        ("snapshots: {keep: 2}\n", "defaults.yaml:2:12: 'schedule' is missing"),
        ("labels: {a: no}\n", "label 'a' must be a text"),
        ('vmids: "1-5"\n', "defaults.yaml:2:8: 'vmids' must be ranges of vmids (write \"200-299\""),
        ("vmids: 300-200\n", "must be ranges of vmids"),
        ("vmids: [a]\n", "must be ranges of vmids"),
        ("vmids: 5\n", "'vmids'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_once_at_its_place(folder, text, said):
    for number in range(3):
        write(folder, VM.replace("101", str(101 + number)).replace("web-1", f"w{number}"), f"{number}.yaml")
    told = problems(folder, f"kind: Defaults\n{text}", "defaults.yaml")
    assert len(told) == 1, told
    assert said in told[0]


def test_one_document_for_a_folder(folder):
    write(folder, "kind: Defaults\npool: a\n", "a.yaml")
    (told,) = problems(folder, "kind: Defaults\npool: b\n", "b.yaml")
    assert told.startswith("manifests/b.yaml:1:1: this folder has its defaults at manifests/a.yaml:1:1 already")


def test_the_cache_follows_changed_defaults_and_keeps_what_they_do_not_touch(folder):
    cache = ManifestCache()
    write(folder, "kind: Defaults\npool: a\n", "web/defaults.yaml")
    write(folder, VM, "web/a.yaml")
    write(folder, VM.replace("101", "102").replace("web-1", "db-1"), "db/a.yaml")
    before = {guest.name: guest for guest in load(folder, cache=cache).guests}
    write(folder, "kind: Defaults\npool: b\n", "web/defaults.yaml")
    after = {guest.name: guest for guest in load(folder, cache=cache).guests}
    assert (before["web-1"].pool, after["web-1"].pool) == ("a", "b")
    assert after["db-1"] is before["db-1"]
    (folder / "web/defaults.yaml").unlink()
    assert [guest.pool for guest in load(folder, cache=cache).guests] == ["", ""]
