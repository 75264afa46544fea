"""A folder of manifests is read whole, or refused with every problem at its place."""

import gc
import os
import time

import pytest

from trueup.adapters import manifest_files, manifests, yaml_positions
from trueup.adapters.manifests import ManifestCache, load, manifest_schema, refuse_emptied
from trueup.model import limits
from trueup.model.errors import BadInput, ManyProblems
from trueup.model.guests import Archive, Clone, ContainerTemplate, Empty, Power
from trueup.model.ids import GuestType, Vmid

VM = "kind: VirtualMachine\nname: web-1\nvmid: 101\nnode: pve1\n"
CT = 'kind: Container\nname: db-1\nvmid: 102\nnode: pve1\nsource: {template: "local:vztmpl/d.tar.zst"}\n'

DOCUMENTED = """\
kind: VirtualMachine            # or Container
name: web-1
labels: {tier: web}
vmid: 101
node: pve1
power: running                  # running | stopped | ignore
source: {clone: 9000, full: true}
config:                         # PVE's own keys and spelling
  cores: 2
  memory: 2048
  net0: {model: virtio, bridge: vmbr0}
  scsi0: {storage: local-lvm, size: 32G}
  tags: [web, prod]
disruption: {restart: allowed}
after: [db-1]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "manifests"
    path.mkdir()
    return path


def write(folder, text, name="a.yaml"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def problems(folder, text=None):
    if text is not None:
        write(folder, text)
    with pytest.raises(BadInput) as caught:
        load(folder)
    error = caught.value
    return [str(problem) for problem in (error.problems if isinstance(error, ManyProblems) else (error,))]


def one(folder, text):
    write(folder, text)
    (guest,) = load(folder).guests
    return guest


# --- what is read --------------------------------------------------------------------------------------------------


def test_the_documented_example(folder):
    write(folder, DOCUMENTED)
    write(folder, CT, "b.yml")
    web, db = load(folder).guests
    assert (web.type, web.name, web.vmid, web.node) == (GuestType.QEMU, "web-1", 101, "pve1")
    assert web.source == Clone(source=Vmid(9000), full=True)
    assert web.power is Power.RUNNING
    assert web.labels == {"tier": "web"}
    assert web.restart == "allowed"
    assert web.after == ("db-1",)
    assert web.config == {
        "cores": "2",
        "memory": "2048",
        "net0": {"model": "virtio", "bridge": "vmbr0"},
        "scsi0": {"storage": "local-lvm", "size": "32G"},
        "tags": "web;prod",
    }
    assert web.description is None
    assert web.origin == "manifests/a.yaml:1"
    assert (db.type, db.source) == (GuestType.LXC, ContainerTemplate(volume="local:vztmpl/d.tar.zst"))


def test_defaults(folder):
    guest = one(folder, VM)
    assert (guest.source, guest.power, guest.restart) == (Empty(), Power.RUNNING, "never")
    assert (guest.config, guest.labels, guest.after) == ({}, {}, ())


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("{empty: true}", Empty()),
        ("{clone: 9000}", Clone(source=Vmid(9000), full=True)),
        ("{clone: 9000, full: false}", Clone(source=Vmid(9000), full=False)),
        ('{archive: "backup:backup/vzdump-qemu-9.vma.zst"}', Archive(volume="backup:backup/vzdump-qemu-9.vma.zst")),
    ],
)
def test_sources(folder, written, source):
    assert one(folder, f"{VM}source: {written}\n").source == source


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("a: true", "1"),
        ("a: yes", "1"),
        ("a: off", "0"),
        ("a: 'yes'", "yes"),
        ("a: null", ""),
        ("a:", ""),
        ("a: 1.50", "1.50"),
        ("a: 0x10", "0x10"),
        ("a: 007", "007"),
        ("a: 1:30", "1:30"),
        ("a: 1_000", "1_000"),
        ("a: 2026-01-01", "2026-01-01"),
        ("a: virtio,bridge=vmbr0", "virtio,bridge=vmbr0"),
        ("keyboard: no", "no"),
        ("a: {on: yes, mac: 52:54:00:12:34:56, n: 5}", {"on": "1", "mac": "52:54:00:12:34:56", "n": "5"}),
        ("a: {discard: on, ssd: on}", {"discard": "on", "ssd": "1"}),
        ("boot: {order: [scsi0, net0]}", {"order": "scsi0;net0"}),
        ("nameserver: [1.1.1.1, 8.8.8.8]", "1.1.1.1 8.8.8.8"),
        ("tags: []", ""),
        ("tags: a;b", "a;b"),
    ],
)
def test_config_values_are_passed_on_as_written(folder, written, value):
    ((_, read),) = one(folder, f"{VM}config:\n  {written}\n").config.items()
    assert read == value


def test_description_is_apart(folder):
    guest = one(folder, f"{VM}config:\n  description: |\n    two\n    lines\n")
    assert guest.description == "two\nlines\n"
    assert guest.config == {}
    assert one(folder, f"{VM}config: {{description: null}}\n").description == ""


def test_several_documents_anchors_and_merge_keys(folder):
    write(
        folder,
        "---\nkind: VirtualMachine\nname: a\nvmid: 101\nnode: p\nconfig: &c {cores: 2, memory: 512}\n"
        "labels: &l {t: web}\nsource: {clone: 9000}\n---\n---\n# nothing\n---\n"
        "kind: VirtualMachine\nname: b\nvmid: 102\nnode: p\nconfig: {<<: {cores: 1, sockets: 2}, cores: 4}\n",
    )
    a, b = load(folder).guests
    assert a.config == {"cores": "2", "memory": "512"}
    assert b.config == {"cores": "4", "sockets": "2"}


def test_a_merge_of_an_alias(folder):
    text = f"{VM}config:\n  net0: &n {{model: virtio, bridge: vmbr0}}\n  net1: {{<<: *n, bridge: vmbr1}}\n  net2: *n\n"
    config = one(folder, text).config
    assert config["net1"] == {"model": "virtio", "bridge": "vmbr1"}
    assert config["net2"] == {"model": "virtio", "bridge": "vmbr0"}


def test_empty_files_and_folders_mean_no_guests(folder):
    assert load(folder).guests == ()
    for number, text in enumerate(["", "# only a comment\n", "---\n---\n", "\ufeff", "~\n"]):
        write(folder, text, f"{number}.yaml")
    manifests = load(folder)
    assert manifests.guests == ()
    assert len(manifests.files) == 5


def test_files_are_found_below_in_order_and_others_are_passed_over(folder):
    for number, name in enumerate(["b/z.yaml", "a.yml", "B.YAML", "b/a.yaml"]):
        write(folder, f"kind: VirtualMachine\nname: g{number}\nvmid: {200 + number}\nnode: p\n", name)
    for name in ["x.txt", ".hidden.yaml", ".git/x.yaml", "x.yaml~", "x.json"]:
        write(folder, "not: [a manifest", name)
    assert [guest.name for guest in load(folder).guests] == ["g2", "g1", "g3", "g0"]


def test_links_are_followed(folder, tmp_path):
    write(tmp_path / "elsewhere", VM)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "b.yaml").symlink_to(write(tmp_path, CT, "real.yaml"))
    assert len(load(folder).guests) == 2


def test_places_of_keys(folder):
    write(folder, DOCUMENTED + "---\n" + CT)
    manifests = load(folder)
    assert manifests.where(Vmid(101), "power") == "manifests/a.yaml:6:1"
    assert manifests.where(Vmid(101), "net0") == manifests.where(Vmid(101), "config.net0") == "manifests/a.yaml:11:3"
    assert manifests.where(Vmid(101), "nothing") == manifests.where(Vmid(101)) == "manifests/a.yaml:1:1"
    assert manifests.where(Vmid(102), "vmid") == "manifests/a.yaml:19:1"
    assert manifests.where(Vmid(999)) == ""


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: [\n", ["manifests/a.yaml:2:1: not YAML: "]),
        ("a: 1\n\tb: 2\n", ["manifests/a.yaml:2:1: not YAML: ", "indent with spaces"]),
        (f"{VM}name: other\n", ["a.yaml:5:1: duplicate key 'name' (the first is in line 2)"]),
        (f"{VM}config: {{a: 1, b: {{c: 1, c: 2}}}}\n", ["a.yaml:5:26: duplicate key 'c'"]),
        (f"{VM}nmae: x\n", ["a.yaml:5:1: unknown key 'nmae' (did you mean 'name'?)"]),
        (f"{VM}cores: 2\n", ["a.yaml:5:1: unknown key 'cores'", "under config"]),
        (f"{VM}net0: x\n", ["a.yaml:5:1: unknown key 'net0'", "under config"]),
        (f"{VM}zzz: 2\n", ["unknown key 'zzz' (known here: kind, name, vmid"]),
        ("name: a\nvmid: 100\nnode: p\n", ["a.yaml:1:1: 'kind' is missing"]),
        (VM.replace("VirtualMachine", "VirtualMachin"), ["a.yaml:1:7: 'kind' is", "did you mean 'VirtualMachine'?"]),
        (VM.replace("101", "99"), ["a.yaml:3:7: 'vmid' is 99; it must be at least 100"]),
        (VM.replace("101", "1000000000"), ["at most 999999999"]),
        (VM.replace("101", "'101'"), ["a.yaml:3:7: 'vmid' must be a whole number", "without quotes"]),
        (VM.replace("101", "0101"), ["a.yaml:3:7: ", "octal", "write 101"]),
        (VM.replace("101", "1:41"), ["a.yaml:3:7: ", "base 60"]),
        (VM.replace("101", "1_01"), ["a.yaml:3:7: ", "decimal digits"]),
        (VM.replace("101", "101.0"), ["a.yaml:3:7: 'vmid' must be a whole number"]),
        (VM.replace("101", "9" * 5000), ["a.yaml:3:7: 'vmid' must be a whole number"]),
        (VM.replace("101", "true"), ["a.yaml:3:7: 'vmid' must be a whole number"]),
        (VM.replace("web-1", "no"), ["a.yaml:2:7: 'name' must be a text", 'put it in quotes, "no"']),
        (VM.replace("web-1", "42"), ["a.yaml:2:7: 'name' must be a text", 'put it in quotes, "42"']),
        (VM.replace("web-1", ""), ["'name' must be a text (nothing stands there"]),
        (VM.replace("web-1", "web_1"), ["a.yaml:2:7: 'web_1' is no name for a guest"]),
        (VM.replace("web-1", "-web"), ["is no name"]),
        (VM.replace("web-1", "w" * 64), ["is no name"]),
        (VM.replace("web-1", "ünicode"), ["is no name"]),
        (VM.replace("pve1", "pve.1"), ["a.yaml:4:7: 'pve.1' is no name of a node"]),
        (f"{VM}power: on\n", ["a.yaml:5:8: 'power' must be 'running', 'stopped' or 'ignore'"]),
        (f"{VM}power: runing\n", ["did you mean 'running'?"]),
        (f"{VM}source: {{clone: 9000, empty: true}}\n", ["a.yaml:5:9: source has clone and empty"]),
        (f"{VM}source: {{}}\n", ["a.yaml:5:9: source has none of"]),
        (f"{VM}source: {{empty: false}}\n", ["a.yaml:5:9: 'empty: false'"]),
        (f"{VM}source: {{empty: true, full: true}}\n", ["'full' belongs to a clone"]),
        (f"{VM}source: {{clon: 9000}}\n", ["a.yaml:5:10: unknown key 'clon' (did you mean 'clone'?)"]),
        (f"{VM}source: {{clone: 101}}\n", ["a.yaml:5:9: guest 101 cannot be a clone of itself"]),
        (f"{VM}source: {{template: 'a:b'}}\n", ["a.yaml:5:9: a VirtualMachine has no container template"]),
        (f"{VM}source: {{archive: /dump/x}}\n", ["a.yaml:5:19: '/dump/x' is no volume"]),
        (f"{VM}source: new\n", ["a.yaml:5:9: 'source' must be a map"]),
        (VM.replace("VirtualMachine", "Container") + "source: {empty: true}\n", ["a.yaml:5:9: a Container needs"]),
        (f"{VM}labels: {{a: no}}\n", ["label 'a' must be a text (put it in quotes)"]),
        (f"{VM}labels: {{'a b': x}}\n", ["label 'a b' has other characters"]),
        (f"{VM}labels: [a]\n", ["'labels' must be a map"]),
        (f"{VM}after: db-1\n", ["a.yaml:5:8: 'after' must be a list"]),
        (f"{VM}after: [1]\n", ["a.yaml:5:9: item 1 of 'after' must be a text"]),
        (f"{VM}after: [db-2]\n", ["a.yaml:5:9: 'after' names 'db-2', which no manifest declares"]),
        (f"{VM}after: [web-1]\n", ["a.yaml:5:9: 'after' goes in a circle: web-1 waits for web-1"]),
        (f"{VM}disruption: {{restart: maybe}}\n", ["a.yaml:5:23: 'restart' is 'maybe'"]),
        (f"{VM}disruption: {{restart: {{windw: x}}}}\n", ["unknown key 'windw' (did you mean 'window'?)"]),
        (f"{VM}disruption: {{restart: {{window: Sat 2-4}}}}\n", ["a.yaml:5:32: 'Sat 2-4' is no window"]),
        (f"{VM}disruption: {{restart: {{window: 02:00-04:00 Europe/Atlantis}}}}\n", ["zone 'Europe/Atlantis'"]),
        (f"{VM}config:\n  lock: backup\n", ["a.yaml:6:3: 'lock' cannot stand under config"]),
        (f"{VM}config:\n  hostname: x\n", ["`name` beside `config`"]),
        (f"{VM}config:\n  unused0: x\n", ["'unused0' cannot stand under config"]),
        (f"{VM}config:\n  Cores: 1\n", ["a.yaml:6:3: 'Cores' is no config key (did you mean 'cores'?)"]),
        (f"{VM}config:\n  protection: false\n", ["a.yaml:6:3: 'protection' cannot be lifted"]),
        (f"{VM}config:\n  net0: {{}}\n", ["a.yaml:6:9: 'net0' is an empty map"]),
        (f"{VM}config:\n  net0: {{a: {{b: c}}}}\n", ["a map inside a map"]),
        (f"{VM}config:\n  net0: {{model: 'virtio,bridge=vmbr1'}}\n", ["a.yaml:6:17: 'model' has a comma"]),
        (f"{VM}config:\n  net0: {{model: }}\n", ["'model' has no value"]),
        (f"{VM}config:\n  cores: [1]\n", ["a.yaml:6:10: 'cores' is no list"]),
        (f"{VM}config:\n  tags: [a b]\n", ["has a separator in it"]),
        (f"{VM}config:\n  tags: [ä]\n", ["is no tag"]),
        (f"{VM}config:\n  tags: [no]\n", ["YAML reads no as a truth value"]),
        (f'{VM}config:\n  a: "1\\nlock: x"\n', ["a.yaml:6:6: 'a' has a line break"]),
        (f"{VM}config:\n  description: [a]\n", ["'description' must be a text"]),
        (f"{VM}config:\n  description: 'x <!-- trueup {{}} -->'\n", ["has one of trueup's markers in it"]),
        (f"{VM}config: 5\n", ["a.yaml:5:9: 'config' must be a map"]),
        ("- kind: VirtualMachine\n", ["a.yaml:1:1: a manifest must be a map"]),
        ("just a text\n", ["a.yaml:1:1: a manifest must be a map"]),
        (f"{VM}? [a, b]\n: c\n", ["a.yaml:5:3: a key must be a text"]),
        (f"{VM}labels: *nothing\n", ["a.yaml:5:9: alias *nothing has no anchor"]),
        (f"{VM}after: &a [*a]\n", ["a.yaml:5:12: alias *a stands inside its own anchor"]),
        (f"{VM}labels: !!python/object:os.system {{}}\n", ["a.yaml:5:9: tag 'tag:yaml.org,2002:python/object:os"]),
        (f"{VM}config: {{<<: 5}}\n", ["`<<` takes a map"]),
        (f"{VM}config: {'{a: ' * 40}1{'}' * 40}\n", ["nested deeper than 32 levels"]),
        (f"{VM}# \x07\n", ["a.yaml:5:3: not YAML: control characters are not allowed"]),
    ],
)  # fmt: skip
def test_refused_at_its_place_with_a_remedy(folder, text, said):
    told = "\n".join(problems(folder, text))
    for part in said:
        assert part in told
    assert all(line.startswith("manifests/a.yaml:") for line in told.split("\n"))


def test_all_problems_of_all_files_are_told_at_once_in_order(folder):
    write(folder, f"{VM}nmae: x\npower: on\n", "a.yaml")
    write(folder, "kind: [\n", "b.yaml")
    write(folder, CT.replace("102", "5") + "---\n" + VM.replace("101", "7"), "c.yaml")
    told = problems(folder)
    assert [line.split(" ")[0] for line in told] == [
        "manifests/a.yaml:5:1:",
        "manifests/a.yaml:6:8:",
        "manifests/b.yaml:2:1:",
        "manifests/c.yaml:3:7:",
        "manifests/c.yaml:9:7:",
    ]


def test_repeated_vmids_and_names_point_at_both(folder):
    write(folder, VM, "a.yaml")
    write(folder, VM.replace("web-1", "WEB-1"), "b.yaml")
    assert [line.partition(" (give")[0] for line in problems(folder)] == [
        "manifests/b.yaml:3:1: vmid 101 is already that of 'web-1' at manifests/a.yaml:3:1",
        "manifests/b.yaml:2:1: name 'WEB-1' is already that of guest 101 at manifests/a.yaml:2:1",
    ]


def test_a_circle_is_told_as_one(folder):
    for name, vmid, after in (("a", 101, "c"), ("b", 102, "a"), ("c", 103, "b")):
        write(folder, f"kind: VirtualMachine\nname: {name}\nvmid: {vmid}\nnode: p\nafter: [{after}]\n", f"{name}.yaml")
    (told,) = problems(folder)
    assert told.count("waits for") == 3
    assert ".yaml:5:9: " in told


def test_an_alias_bomb_is_refused_in_no_time(folder):
    rows = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    start = time.perf_counter()
    told = problems(folder, f"a0: &a0 [x]\n{rows}")
    assert time.perf_counter() - start < 2
    assert any("values in one file, with its aliases followed" in line for line in told)


@pytest.mark.parametrize("piece", ["[", "{", "- ", "? ", "a: [", "- - ", "'", '"', "&a ", "*a ", "|\n ", "!a "])
def test_endless_nesting_ends(folder, piece):
    start = time.perf_counter()
    problems(folder, piece * (limits.MANIFEST_MAX_BYTES // len(piece) // 2))
    assert time.perf_counter() - start < 5


def test_a_giant_file_is_refused(folder):
    assert "larger than 1024 KiB" in problems(folder, "# " + "x" * limits.MANIFEST_MAX_BYTES)[0]


def test_other_encodings_are_refused_at_the_byte(folder):
    (folder / "a.yaml").write_bytes(VM.encode() + b"# gr\xfc\xdf\n")
    assert problems(folder) == ["manifests/a.yaml:5:5: the file is not in UTF-8 (save it as UTF-8)"]
    (folder / "a.yaml").write_bytes(VM.encode("utf-16"))
    assert "not in UTF-8" in problems(folder)[0]


def test_a_missing_folder_is_refused(folder):
    with pytest.raises(BadInput, match=r"nowhere: the manifest folder does not exist \(make it"):
        load(folder / "nowhere")
    with pytest.raises(BadInput, match="is not a folder"):
        load(write(folder, VM))


def test_links_in_a_circle_broken_links_and_other_things(folder):
    write(folder, VM)
    (folder / "again").symlink_to(folder)
    (folder / "b.yaml").symlink_to(folder / "gone")
    (folder / "c.yaml").symlink_to(folder / "c.yaml")
    os.mkfifo(folder / "d.yaml")
    told = problems(folder)
    assert len(told) == 4
    assert any("manifests/again:1:1: a link leads back" in line for line in told)
    assert any("manifests/b.yaml:1:1: cannot be read: No such file" in line for line in told)
    assert any("manifests/c.yaml:1:1: cannot be read: Too many levels" in line for line in told)
    assert any("manifests/d.yaml:1:1: not a regular file" in line for line in told)


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(folder, monkeypatch):
    write(folder, VM, "sub/a.yaml")
    scandir = os.scandir

    def refuse(path):  # the tests may run as root, who may read everything
        if path == folder / "sub":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert problems(folder)[0].startswith("manifests/sub:1:1: cannot be read: Permission denied")


def test_a_file_that_cannot_be_read_is_a_problem(folder, monkeypatch):
    write(folder, VM)

    def refuse(name, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(manifest_files, "open", refuse, raising=False)
    assert problems(folder) == [
        "manifests/a.yaml:1:1: cannot be read: Permission denied (give the user that runs trueup the right to read it)"
    ]


def test_names_of_files_are_shown_in_one_printable_line(folder):
    write(folder, "x: [", "a\nb\x1b.yaml")
    (told,) = problems(folder)
    assert "\n" not in told
    assert told.startswith("manifests/a\\nb\\x1b.yaml:2:1: ")


def test_no_more_problems_are_told_than_anybody_reads(folder):
    told = problems(folder, "---\nx: 1\n" * 200)
    assert len(told) == limits.PROBLEMS_MAX + 1
    assert told[-1] == "and 900 more problems"


# --- guard, cache, schema ------------------------------------------------------------------------------------------


def test_an_emptied_folder_is_refused_where_guests_are_managed(folder):
    refuse_emptied(load(folder), {})
    with pytest.raises(BadInput, match="manifest folder manifests is empty, but 2 guests are managed: refusing"):
        refuse_emptied(load(folder), {Vmid(101): "u", Vmid(102): "v"})
    write(folder, "# nothing left\n")
    with pytest.raises(BadInput, match="but 1 guest is managed"):
        refuse_emptied(load(folder), {Vmid(101): "u"})
    write(folder, VM)
    refuse_emptied(load(folder), {Vmid(101): "u", Vmid(102): "v"})


def test_the_cache_sees_every_change_of_content(folder):
    cache = ManifestCache()
    path = write(folder, VM)
    state = path.stat()
    first = load(folder, cache=cache)
    assert load(folder, cache=cache).guests[0] is first.guests[0]
    path.write_text(VM.replace("101", "102"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert load(folder, cache=cache).guests[0].vmid == 102
    path.write_text("x: [")
    for _ in range(2):
        with pytest.raises(BadInput, match="not YAML"):
            load(folder, cache=cache)
    path.unlink()
    assert load(folder, cache=cache).guests == ()


def test_a_thousand_manifests_load_in_about_a_second_and_again_at_once(folder):
    for number in range(1000):
        text = (
            DOCUMENTED.replace("after: [db-1]\n", "").replace("101", str(1000 + number)).replace("web-1", f"w{number}")
        )
        write(folder, text, f"{number}.yaml")
    cache = ManifestCache()
    start = time.perf_counter()
    assert len(load(folder, cache=cache).guests) == 1000
    between = time.perf_counter()
    load(folder, cache=cache)
    end = time.perf_counter()
    assert between - start < 5, "about half a second on a quiet machine"
    assert end - between < (between - start) / 2


def test_the_schema_says_what_the_loader_says():
    schema = manifest_schema()
    guest, defaults = schema["$defs"]["Guest"], schema["$defs"]["Defaults"]
    assert schema["required"] == ["kind"]
    assert guest["required"] == ["kind", "name", "vmid", "node"]
    assert defaults["required"] == ["kind"]
    assert guest["additionalProperties"] is False
    shared = {"kind", "power", "config", "labels", "disruption", "template", "pool", "snapshots", "backups", "ignore"}
    assert set(guest["properties"]) == shared | {"name", "vmid", "node", "source", "after"}
    assert set(defaults["properties"]) == shared | {"vmids"}
    assert guest["properties"]["vmid"]["minimum"] == 100
    assert guest["properties"]["snapshots"]["anyOf"][0] == {"$ref": "#/$defs/SnapshotsForm"}
    assert "SnapshotsForm" in schema["$defs"]


ESCAPED = '"\\x44efaults"'


@pytest.mark.parametrize(
    "kind", ["Defaults", "'Defaults'", "!!str Defaults", ESCAPED, '"De\\\n  faults"', "&k Defaults"]
)
def test_defaults_are_found_however_they_are_spelled_and_in_whichever_file(folder, kind):
    write(folder, VM, "a.yaml")
    write(folder, f"kind: {kind}\nlabels: {{tier: web}}\n", "z.yaml")
    (guest,) = load(folder).guests
    assert guest.labels == {"tier": "web"}


def test_a_file_that_changes_between_defaults_and_guests_is_a_problem(folder, monkeypatch):
    cache = ManifestCache()
    changing = write(folder, VM, "a.yaml")
    write(folder, "kind: Defaults\nlabels: {tier: web}\n", "z.yaml")
    load(folder, cache=cache)
    write(folder, "kind: Defaults\nlabels: {tier: db}\n", "z.yaml")
    read, reads = manifests.read_bytes, []

    def changed_by_then(file):
        if file.name == str(changing) and reads:
            write(folder, f"{VM}power: stopped\n", "a.yaml")
        reads.append(file.name)
        return read(file)

    monkeypatch.setattr(manifests, "read_bytes", changed_by_then)
    with pytest.raises(BadInput, match="changed while the folder was read"):
        load(folder, cache=cache)
    (guest,) = load(folder, cache=cache).guests
    assert (guest.labels, guest.power) == ({"tier": "db"}, Power.STOPPED)


def test_equal_parts_of_manifests_are_kept_once_and_no_document_is(folder):
    for number in range(101, 104):
        text = VM.replace("101", str(number)).replace("web-1", f"web-{number}")
        write(
            folder,
            f"{text}labels: {{a: b}}\nconfig: {{net0: {{model: virtio, mtu: {number == 103:d}}}}}\n",
            f"{number}.yaml",
        )
    cache = ManifestCache()
    loaded = load(folder, cache=cache)
    one, two, three = loaded.guests
    assert one.config is two.config
    assert one.labels is two.labels is three.labels
    assert three.config == {"net0": {"model": "virtio", "mtu": "1"}}
    assert loaded.where(Vmid(103), "net0") == "manifests/103.yaml:6:10"
    kept = _reached(cache)
    assert not [type(value) for value in kept if type(value).__module__ == yaml_positions.__name__]


def _reached(*roots):
    seen, left = {}, list(roots)
    while left:
        value = left.pop()
        if id(value) not in seen and not isinstance(value, type):
            seen[id(value)] = value
            left.extend(gc.get_referents(value))
    return seen.values()


def test_maps_that_differ_in_order_alone_are_not_shared(folder):
    for number, config in ((101, "{cores: 2, memory: 512}"), (102, "{memory: 512, cores: 2}")):
        text = VM.replace("101", str(number)).replace("web-1", f"web-{number}")
        write(folder, f"{text}config: {config}\n", f"{number}.yaml")
    one, two = load(folder).guests
    assert (list(one.config), list(two.config)) == (["cores", "memory"], ["memory", "cores"])
