"""What a guest may say besides its config: pool, template, copies, what is ignored; and cloud-init's keys."""

import re
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.manifests.folders import VM, one, problems, write
from trueup.adapters.manifests import ManifestCache, load
from trueup.core import properties
from trueup.model.guests import BackupPolicy, Power, SnapshotPolicy
from trueup.model.ids import GuestType

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0 me@here"
OTHER = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTI="


def test_what_is_not_said_is_not_wanted(folder):
    guest = one(folder, VM)
    assert (guest.template, guest.pool, guest.snapshots, guest.backups, guest.ignore) == (False, "", None, None, ())


def test_pool_and_ignore(folder):
    guest = one(folder, f"{VM}pool: dev/web\nignore: [net*, cores, net*]\n")
    assert (guest.pool, guest.ignore) == ("dev/web", ("net*", "cores"))


def test_a_template_is_stopped(folder):
    guest = one(folder, f"{VM}template: true\n")
    assert (guest.template, guest.power) == (True, Power.STOPPED)


def test_policies(folder):
    guest = one(
        folder,
        f"{VM}snapshots: {{schedule: hourly, keep: 24}}\n"
        "backups: {storage: pbs, schedule: Sat 03:00 Europe/Berlin, keep: 4, mode: stop}\n",
    )
    assert guest.snapshots == SnapshotPolicy(schedule="hourly", keep=24, prefix="auto")
    assert guest.backups == BackupPolicy(storage="pbs", schedule="Sat 03:00 Europe/Berlin", keep=4, mode="stop")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("template: yes please\n", "a.yaml:5:11: 'template' must be true or false"),
        ("template: true\npower: running\n", "a.yaml:6:8: a template never runs (leave `power` out)"),
        ("template: true\nsnapshots: {schedule: hourly, keep: 1}\n", "a.yaml:6:12: PVE takes no snapshots"),
        ("pool: a b\n", "a.yaml:5:7: 'a b' is no pool"),
        ("pool: a/b/c/d\n", "is no pool"),
        ("snapshots: {schedule: hourly}\n", "a.yaml:5:12: 'keep' is missing"),
        ("snapshots: {schedule: sometimes, keep: 1}\n", "a.yaml:5:23: 'sometimes' is no schedule (write \"hourly\","),
        ("snapshots: {schedule: daily 02:00 Mars/Base, keep: 1}\n", "time zone 'Mars/Base' is not known here"),
        ("snapshots: {schedule: hourly, keep: 0}\n", "a.yaml:5:37: 'keep' is 0; it must be at least 1"),
        ("snapshots: {schedule: hourly, keep: 1, prefix: 'a b'}\n", "'a b' is no prefix for names of snapshots"),
        (f"snapshots: {{schedule: hourly, keep: 1, prefix: {'p' * 27}}}\n", "is no prefix"),
        ("snapshots: {schedul: hourly, keep: 1}\n", "unknown key 'schedul' (did you mean 'schedule'?)"),
        ("snapshots: hourly\n", "a.yaml:5:12: 'snapshots' must be a map"),
        ("backups: {schedule: hourly, keep: 1}\n", "a.yaml:5:10: 'storage' is missing"),
        ("backups: {storage: pbs, schedule: hourly, keep: 1, mode: live}\n", "'mode' is 'live'; it must be 'snapshot'"),
        ("backups: {storage: 'a:b', schedule: hourly, keep: 1}\n", "'a:b' is no storage"),
        ("ignore: cores\n", "a.yaml:5:9: 'ignore' must be a list"),
        ("ignore: [Cores]\n", "a.yaml:5:10: 'Cores' is no config key"),
        ("config: {pool: dev}\n", "write `pool` beside `config`"),
        ("config: {template: 1}\n", "write `template` beside `config`"),
    ],
)  # fmt: skip
def test_refused_at_its_place(folder, text, said):
    assert said in "\n".join(problems(folder, VM + text))


def test_several_disks_and_interfaces_and_one_taken_away(folder):
    guest = one(
        folder,
        f"{VM}config:\n  scsi0: {{storage: a, size: 8G}}\n  scsi1: {{volume: 'a:vm-101-disk-3'}}\n  scsi2: null\n"
        "  net0: virtio,bridge=vmbr0\n  net1: {model: virtio, bridge: vmbr1, tag: 7}\n",
    )
    assert guest.config["scsi1"] == {"volume": "a:vm-101-disk-3"}
    assert guest.config["scsi2"] == ""
    assert len(guest.config) == 5


# --- cloud-init ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        f"sshkeys: {KEY}",
        f"sshkeys: [{KEY}, {OTHER}]",
        f"sshkeys: |\n    # people\n    {KEY}\n\n    {OTHER}\n",
        f"sshkeys: [{quote(KEY, safe='')}, {OTHER}]",
        f"sshkeys: {quote(f'{KEY}{chr(10)}{OTHER}', safe='')}",
    ],
)
def test_public_keys_are_written_plainly_and_sent_as_pve_keeps_them(folder, written):
    config = one(folder, f"{VM}config:\n  {written}\n").config
    keys = f"{KEY}\n{OTHER}" if OTHER[:5] in str(config["sshkeys"]) else KEY
    assert config["sshkeys"] == keys
    sent = properties.render_create(GuestType.QEMU, "sshkeys", config["sshkeys"])
    assert sent == quote(keys, safe="")
    assert properties.satisfied(GuestType.QEMU, "sshkeys", config["sshkeys"], sent)


def test_cloud_inits_other_keys_are_values_and_maps(folder):
    config = one(folder, f"{VM}config:\n  ciuser: me\n  ipconfig0: {{ip: 10.0.0.2/24, gw: 10.0.0.1}}\n").config
    assert config == {"ciuser": "me", "ipconfig0": {"ip": "10.0.0.2/24", "gw": "10.0.0.1"}}


def test_what_is_no_public_key_is_refused(folder):
    (told,) = problems(folder, f"{VM}config:\n  sshkeys: [not a key]\n")
    assert told.startswith("manifests/a.yaml:6:13: 'not a key' is no public SSH key")
    private = "-----BEGIN OPENSSH PRIVATE KEY-----"
    assert "is no public SSH key" in problems(folder, f"{VM}config:\n  sshkeys: '{private}'\n")[0]


def test_a_password_is_read_from_a_file_beside_the_manifest_at_every_load(folder):
    write(folder, f"{VM}config: {{cipassword: {{file: .secrets/web-1}}}}\n", "web/a.yaml")
    secret = write(folder, "hunter2\n", "web/.secrets/web-1")
    cache = ManifestCache()
    assert load(folder, cache=cache).guests[0].config == {"cipassword": "hunter2"}
    secret.write_text("hunter3")
    assert load(folder, cache=cache).guests[0].config == {"cipassword": "hunter3"}


def test_a_password_is_never_written_into_a_manifest(folder):
    (told,) = problems(folder, f"{VM}config:\n  cipassword: hunter2\n")
    assert told.startswith("manifests/a.yaml:6:15: 'cipassword' is no value that may stand in a manifest")
    assert "hunter2" not in told
    assert one(folder, f"{VM}config:\n  cipassword: $6$salt$hash\n").config == {"cipassword": "$6$salt$hash"}
    assert one(folder, f"{VM}config:\n  cipassword: null\n").config == {"cipassword": ""}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone", None, "secret file 'gone' cannot be read: No such file"),
        (".", None, "cannot be read: Is a directory"),
        ("empty", "\n", "does not hold one line with a secret"),
        ("two", "a\nb\n", "does not hold one line with a secret"),
        ("long", "a" * 5000, "does not hold one line with a secret"),
        ("../../token.secret", "x", "is outside of the manifest folder"),
        ("/etc/hostname", None, "is outside of the manifest folder"),
    ],
)
def test_secret_files_are_small_and_beside_the_manifest(folder, name, content, said):
    if content is not None:
        (folder / name).write_text(content) if "/" not in name else (folder.parent / "token.secret").write_text(content)
    (told,) = problems(folder, f"{VM}config: {{cipassword: {{file: {name}}}}}\n")
    assert told.startswith("manifests/a.yaml:5:29: secret file ")
    assert said in told


def test_no_link_leads_a_manifest_to_the_agents_own_files(folder):
    (folder.parent / "token.secret").write_text("x")
    (folder / "mine").symlink_to(folder.parent / "token.secret")
    assert "outside of the manifest folder" in problems(folder, f"{VM}config: {{cipassword: {{file: mine}}}}\n")[0]


def test_the_examples_in_the_page_are_manifests(folder):
    page = (Path(__file__).parents[2] / "docs" / "manifests.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (copies,) = (block for block in blocks if block.startswith("snapshots:"))
    (defaults,) = (block for block in blocks if block.startswith("kind: Defaults"))
    write(folder, f"{defaults}---\n{VM.replace('101', '201')}{copies}")
    (guest,) = load(folder).guests
    assert (guest.labels, guest.config["tags"]) == ({"site": "north"}, "lab")
    assert guest.snapshots == SnapshotPolicy(schedule="daily 02:00", keep=7)
    assert guest.backups == BackupPolicy(storage="pbs", schedule="Sat 03:00 Europe/Berlin", keep=4)
