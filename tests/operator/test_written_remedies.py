"""What people write, wrongly, and then as the message says: the second is taken."""

import re
from pathlib import Path

import pytest

from trueup.app import parts
from trueup.model.errors import BadInput

HEAD = "kind: VirtualMachine\nname: db-1\nvmid: 102\nnode: pve1\n"
CT = HEAD.replace("VirtualMachine", "Container")
TWO = HEAD + "---\n" + HEAD

Case = tuple[str, str, str]
"""A remedy as the source has it, what is wrong, and what is written when it is followed."""


def config(bad: str, good: str, remedy: str) -> Case:
    return remedy, f"{HEAD}config: {{{bad}}}\n", f"{HEAD}config: {{{good}}}\n"


def more(bad: str, good: str, remedy: str, head: str = HEAD) -> Case:
    return remedy, head + bad + "\n", head + good + "\n"


SCHEDULES = ("hourly", "daily 02:00", "Mon-Fri 06:00,18:00", "Sat 03:00 Europe/Berlin")
SCHEDULE = 'write "hourly", "daily 02:00", "Mon-Fri 06:00,18:00" or "Sat 03:00 Europe/Berlin"; without a zone it is UTC'
WINDOW = 'write it like "Sat 02:00-04:00 Europe/Berlin"; days may be "Mon-Fri", "Sat,Sun", or left out for daily'
MANIFESTS: list[Case] = [
    ("add `{}`", HEAD.replace("node: pve1\n", ""), HEAD),
    ("write kind, name, vmid and node, each as `key: value`", "- a\n- b\n", HEAD),
    ("save it as UTF-8", HEAD + "# \udce4\n", HEAD + "# ä\n"),
    ("indent with spaces; YAML allows no tabs there", HEAD + "config:\n\tcores: 2\n", HEAD + "config:\n  cores: 2\n"),
    (
        "leave it out; a manifest has no types of its own",
        HEAD + "config: !x {cores: 2}\n",
        HEAD + "config: {cores: 2}\n",
    ),
    ("the first is in line {}", HEAD + "name: db-1\n", HEAD),
    ("write &{} before it, in the same document", HEAD + "config: *c\n", HEAD + "config: &c {cores: 1}\n"),
    (
        "give each guest a vmid of its own",
        TWO.replace("db-1", "db-2", 1),
        TWO.replace("102", "103", 1).replace("db-1", "db-2", 1),
    ),
    (
        "give each guest a name of its own",
        TWO.replace("102", "103", 1),
        TWO.replace("102", "103", 1).replace("db-1", "db-2", 1),
    ),
    ("write the names of other guests, as in their manifests", HEAD + "after: [web]\n", HEAD + "after: []\n"),
    ("take one of them out", HEAD + "after: [db-1]\n", HEAD + "after: []\n"),
    (
        "PVE takes letters, digits and hyphens, in parts of at most 63 characters between dots",
        HEAD.replace("db-1", "db_1"),
        HEAD,
    ),
    ("see `pvecm nodes`, or the tree in PVE's web page", HEAD.replace("pve1", "pve_1"), HEAD),
    config("Cores: 2", "cores: 2", "did you mean {}?"),
    config("'a b': 2", "cores: 2", "PVE's keys are lower-case letters and digits"),
    config("tags: ['ä']", "tags: [a]", "PVE takes letters, digits and _ - + . in a tag"),
    config("protection: false", "cores: 1", "a signed destroy lifts it; leave the key out"),
    config(
        "cipassword: geheim",
        "cores: 1",
        "write {}: {file: PATH}, relative to this manifest, and keep that file out of version control",
    ),
    config("tags: ['a b']", "tags: [a, b]", "write each one as an item of its own"),
    config("net0: {model: {a: b}}", "net0: {model: virtio}", "PVE's properties have one level"),
    config("description: '<!-- trueup x -->'", "description: x", "take the `<!-- trueup … -->` out"),
    config('args: "a\\nb"', "args: 'a b'", "write the value in one line"),
    more(
        "source: {clone: 9000, empty: true}",
        "source: {clone: 9000}",
        "write exactly one of clone, empty, archive, template",
    ),
    more("source: {template: 'local:vztmpl/x.tar.zst'}", "source: {clone: 9000}", "write clone, archive or empty"),
    more(
        "source: {empty: true}",
        "source: {template: 'local:vztmpl/x.tar.zst'}",
        'write {template: "local:vztmpl/…"}, {clone: VMID} or {archive: …}',
        CT,
    ),
    more(
        "source: {archive: x}",
        "source: {archive: 'local:vztmpl/debian-12.tar.zst'}",
        'write storage:volume, like "local:vztmpl/debian-12.tar.zst"',
    ),
    more("template: true\npower: running", "template: true", "leave `power` out"),
    more(
        "disruption: {restart: {window: 'Sat 02:00'}}",
        "disruption: {restart: {window: 'Sat 02:00-04:00 Europe/Berlin'}}",
        WINDOW,
    ),
    more(
        "disruption: {restart: {window: '02:00-02:00 UTC'}}",
        "disruption: {restart: {window: '00:00-24:00 UTC'}}",
        'for all of the day, write "00:00-24:00 {}"',
    ),
    more(
        "disruption: {restart: {window: 'Sat 02:00-04:00 Europe/Barlin'}}",
        "disruption: {restart: {window: 'Sat 02:00-04:00 Europe/Berlin'}}",
        'write a name like "Europe/Berlin"; if it is right, install tzdata',
    ),
    *(
        more("snapshots: {schedule: often, keep: 1}", f"snapshots: {{schedule: '{good}', keep: 1}}", SCHEDULE)
        for good in SCHEDULES
    ),
    more(
        "snapshots: {schedule: hourly, keep: 1, prefix: 'a b'}",
        "snapshots: {schedule: hourly, keep: 1, prefix: auto}",
        "write a short word, like auto",
    ),
    more("ignore: ['a b']", "ignore: [cores, 'net*']", 'write keys of config, like "cores" or "net*"'),
    more(
        "backups: {schedule: hourly, keep: 1, storage: '-'}",
        "backups: {schedule: hourly, keep: 1, storage: backup}",
        "see `pvesm status`",
    ),
    more("pool: 'a b'", "pool: a-b", "PVE takes letters, digits and - _ . and /"),
]

CLUSTER = (
    '[cluster]\nname = "lab"\nendpoints = ["https://pve1:8006"]\ntoken_id = "trueup@pve!agent"\nca_file = "ca.pem"\n'
)
ORIGIN = "write https://trueup.example, with :PORT if it is not 443; to try it here, http://localhost:8640"
KEPT = CLUSTER.replace('token_id = "trueup@pve!agent"\n', "")


def cluster(bad: tuple[str, str], remedy: str) -> Case:
    """`bad` is what is right, and what is wrong in its place."""
    assert bad[0] in CLUSTER
    return remedy, CLUSTER.replace(*bad), CLUSTER


def section(bad: str, good: str, remedy: str) -> Case:
    return remedy, CLUSTER + bad + "\n", CLUSTER + good + "\n"


SETTINGS: list[Case] = [
    cluster(("https://pve1:8006", "http://pve1:8006"), "write https://host:8006"),
    cluster(("trueup@pve!agent", "trueup"), "write user@realm!name, like trueup@pve!agent"),
    cluster(('"lab"', '"a b"'), "write letters, digits and - . _, at most 63"),
    cluster(('name = "lab"', "name = lab"), 'texts stand in quotes: key = "value"'),
    cluster(
        ('ca_file = "ca.pem"', 'fingerprint = "AA"'), "write the 32 pairs that PVE shows under System > Certificates"
    ),
    cluster(
        ('ca_file = "ca.pem"', 'ca_file = "ca.pem"\ninsecure = true'),
        'write exactly one of ca_file = "…", fingerprint = "…", insecure = true',
    ),
    cluster(('token_id = "trueup@pve!agent"\n', ""), 'write token_id = "trueup@pve!agent", or a keeper'),
    cluster(('https://pve1:8006"', 'https://pve1:8006", "https://pve1:8006"'), "take one out"),
    ("save it as UTF-8", CLUSTER + "# \udce4\n", CLUSTER + "# ä\n"),
    section(
        "[reconcile]\ninterval = 'x'",
        "[reconcile]\ninterval = '30s'",
        'write a number and its unit, like "30s", "5m" or "1h"',
    ),
    section(
        "[reconcile]\ninterval = 30", "[reconcile]\ninterval = '30s'", 'write it in quotes, like "30s", "5m" or "1h"'
    ),
    section("[reconcile]\ninterval = '0s'", "[reconcile]\ninterval = '30s'", "choose a value inside"),
    section(
        "[store]\nurl = 'mysql:x'",
        "[store]\nurl = 'sqlite:state/journal.db'",
        'write url = "sqlite:state/journal.db", or "postgresql://user@host/database"',
    ),
    section(
        "[store]\nurl = 'postgresql:'",
        "[store]\nurl = 'postgresql://user@host:5432/database'",
        'write url = "postgresql://user@host:5432/database"',
    ),
    section("[http]\nlisten = 'x'", "[http]\nlisten = '[::1]:8640'", 'write "127.0.0.1:8640" or "[::1]:8640"'),
    section(
        "[http]\nlisten = '0.0.0.0:8640'",
        "[http]\nlisten = '127.0.0.1:8640'",
        "write tls_cert and tls_key, or listen on 127.0.0.1",
    ),
    *(
        section(f"[http]\norigins = ['{bad}']", f"[http]\norigins = ['{good}']", ORIGIN)
        for bad, good in (
            ("trueup.example", "https://trueup.example"),
            ("http://trueup.example", "https://trueup.example:8443"),
            ("http://trueup.example:8640", "http://localhost:8640"),
        )
    ),
    section(
        "[http]\norigins = ['http://127.0.0.1:8640']",
        "[http]\norigins = ['http://localhost:8640']",
        "write the name by which people open the page, like http://localhost:8640",
    ),
    section(
        "[http]\nrp_id = 'trueup.example'",
        "[http]\nrp_id = 'trueup.example'\norigins = ['https://trueup.example']",
        "write origins too, or take rp_id out",
    ),
    section("[http]\nrp_id = 'trueup.example'", "", "write origins too, or take rp_id out"),
    section(
        "[http]\norigins = ['https://a.trueup.example']\nrp_id = 'https://x'",
        "[http]\norigins = ['https://a.trueup.example']\nrp_id = 'trueup.example'",
        "write the domain that all origins are in",
    ),
    section(
        "[http]\norigins = ['https://a.trueup.example', 'https://b.trueup.example']",
        "[http]\norigins = ['https://a.trueup.example', 'https://b.trueup.example']\nrp_id = 'trueup.example'",
        "write rp_id, the domain that all origins are in",
    ),
    section("[http]\ntls_cert = 'a'", "[http]\ntls_cert = 'a'\ntls_key = 'b'", "write both or none"),
    section(
        "[manifests]\npath = ''", "[manifests]\npath = 'manifests'", "write a path, relative to this file or absolute"
    ),
    (
        'write a letter first, like "agent-a-"',
        KEPT + 'keeper = {token_id = "keep@pve!keeper", user = "t@pve", prefix = "1-"}\n',
        KEPT + 'keeper = {token_id = "keep@pve!keeper", user = "t@pve", prefix = "agent-a-"}\n',
    ),
    (
        "write user@realm, like trueup@pve",
        KEPT + 'keeper = {token_id = "keep@pve!keeper", user = "t", prefix = "a-"}\n',
        KEPT + 'keeper = {token_id = "keep@pve!keeper", user = "trueup@pve", prefix = "a-"}\n',
    ),
    (
        "give the keeper a user and a token of its own",
        CLUSTER + 'keeper = {token_id = "trueup@pve!agent", user = "t@pve", prefix = "a-"}\n',
        KEPT + 'keeper = {token_id = "keep@pve!keeper", user = "t@pve", prefix = "a-"}\n',
    ),
]
FOLLOWED = {remedy for remedy, _, _ in (*MANIFESTS, *SETTINGS)}


def says(template: str, text: str) -> bool:
    return re.search(".*".join(re.escape(part) for part in template.split("{}")), text) is not None


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


@pytest.mark.parametrize(("remedy", "bad", "good"), MANIFESTS)
def test_a_manifest_as_the_message_says(tmp_path: Path, remedy: str, bad: str, good: str) -> None:
    load = parts().manifests(tmp_path)
    written(tmp_path / "a.yaml", bad)
    with pytest.raises(BadInput) as caught:
        load()
    assert says(remedy, str(caught.value)), caught.value
    written(tmp_path / "a.yaml", good)
    assert load().guests


@pytest.mark.parametrize(("remedy", "bad", "good"), SETTINGS)
def test_settings_as_the_message_says(tmp_path: Path, remedy: str, bad: str, good: str) -> None:
    file = tmp_path / "trueup.toml"
    with pytest.raises(BadInput) as caught:
        parts().settings(written(file, bad))
    assert says(remedy, str(caught.value)), caught.value
    parts().settings(written(file, good))
