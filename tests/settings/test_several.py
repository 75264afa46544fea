"""Several `[[cluster]]` tables in one file: what each gets, and what two of them may not share."""

from pathlib import Path

import pytest

from trueup.app import parts
from trueup.edges.settings import load, load_all
from trueup.model.errors import BadInput, ManyProblems
from trueup.model.settings import CaFile, Mode, Secret


def table(name: str, more: str = "", host: str = "") -> str:
    node = host or f"{name}.example"
    lines = (f'name = "{name}"', f'endpoints = ["https://{node}"]', 'token_id = "ag@pve!tok"', 'ca_file = "ca.pem"')
    return "\n".join(("[[cluster]]", *lines, more))


TWO = table("lab") + table("shop")


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "trueup.toml"


def read(file, text):
    file.write_text(text)
    return load_all(file)


def problems(file, text):
    with pytest.raises(BadInput) as caught:
        read(file, text)
    error = caught.value
    return [str(problem) for problem in (error.problems if isinstance(error, ManyProblems) else (error,))]


def test_each_has_a_folder_of_its_own(file, tmp_path):
    lab, shop = read(
        file, TWO.replace('"ca.pem"', '"ca.pem"\ntoken_secret_file = "token.secret"') + '[http]\nsocket="s"\n'
    )
    for settings, name in ((lab, "lab"), (shop, "shop")):
        here = tmp_path / name
        assert settings.cluster.name == name
        assert isinstance(settings.cluster.trust, CaFile)
        assert settings.cluster.trust.path == here / "ca.pem"
        assert settings.cluster.token_secret.file == here / "token.secret"
        assert settings.store.path == here / "state/journal.db"
        assert settings.manifests.path == here / "manifests"
        assert settings.gate.keyring == here / "keyring.yaml"
        assert settings.gate.spool == here / "spool"
        assert (settings.http.token_file, settings.http.socket) == (tmp_path / "http.token", tmp_path / "s")
        assert settings.file == file


def test_a_table_says_where_its_folder_is(file, tmp_path):
    lab, shop = read(file, table("lab", 'folder = "."\n') + table("shop", 'folder = "/srv/shop"\n'))
    assert lab.store.path == tmp_path / "state/journal.db"
    assert str(shop.store.path) == "/srv/shop/state/journal.db"


def test_sections_of_a_table_go_before_those_of_the_file_key_by_key(file, tmp_path):
    own = """\
[cluster.store]
lease = "2m"
[cluster.manifests]
path = "/srv/guests"
[cluster.reconcile]
mode = "observe"
[cluster.gate]
keyring = "../keyring.yaml"
[cluster.limits]
slots_per_node = 7
[cluster.notify]
urls = ["mailto://a:b@c"]
"""
    shared = """\
[store]
url = "sqlite:j.db"
[reconcile]
interval = "1m"
[gate]
policy = "/etc/policy.yaml"
[limits]
send_by = "10s"
[log]
level = "debug"
"""
    lab, shop = read(file, table("lab", own) + table("shop") + shared)
    assert (lab.store.path, lab.store.lease_s) == (tmp_path / "lab/j.db", 120.0)
    assert str(lab.manifests.path) == "/srv/guests"
    assert (lab.reconcile.interval_s, lab.reconcile.mode) == (60.0, Mode.OBSERVE)
    assert (lab.gate.keyring, str(lab.gate.policy)) == (tmp_path / "lab/../keyring.yaml", "/etc/policy.yaml")
    assert (lab.limits.slots_per_node, lab.limits.send_by_s) == (7, 10.0)
    assert lab.notify.urls == (Secret("mailto://a:b@c"),)
    assert (shop.store.path, shop.store.lease_s) == (tmp_path / "shop/j.db", 60.0)
    assert (shop.reconcile.interval_s, shop.reconcile.mode) == (60.0, Mode.ENFORCE)
    assert (shop.limits.slots_per_node, shop.limits.send_by_s, shop.notify.urls) == (3, 10.0, ())
    assert shop.manifests.path == tmp_path / "shop/manifests"
    assert lab.log == shop.log


def test_a_secret_in_the_environment_is_for_one_cluster(file):
    keeper = 'keeper = {token_id = "keep@pve!key", user = "a@pve", prefix = "a-"}\n'
    lab, shop = read(file, table("lab-1", keeper) + table("shop"))
    assert lab.cluster.token_secret.variable == "TRUEUP_TOKEN_SECRET_LAB_1"
    assert lab.cluster.keeper is not None
    assert lab.cluster.keeper.secret.variable == "TRUEUP_KEEPER_SECRET_LAB_1"
    assert shop.cluster.token_secret.variable == "TRUEUP_TOKEN_SECRET_SHOP"


def test_in_one_database_each_has_a_journal_of_its_own(file):
    lab, shop = read(file, f'{TWO}[store]\nurl = "postgresql://h/d"\n')
    assert lab.store.postgres is not None
    assert shop.store.postgres is not None
    assert (lab.store.postgres.journal, shop.store.postgres.journal) == ("lab", "shop")
    assert lab.store.path != shop.store.path


def test_keyrings_and_policies_may_be_shared(file):
    lab, shop = read(file, f'{TWO}[gate]\nkeyring = "/etc/k.yaml"\npolicy = "/etc/p.yaml"\n')
    assert (lab.gate.keyring, lab.gate.policy) == (shop.gate.keyring, shop.gate.policy)


def test_the_warning_of_an_unchecked_certificate_names_the_cluster(file):
    lab, shop = read(file, table("lab") + table("shop").replace('ca_file = "ca.pem"', "insecure = true"))
    assert lab.warnings == ()
    assert shop.warnings[0].startswith("cluster shop: insecure = true")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cluster = []\n", "trueup.toml:1: 'cluster'"),
        ("cluster = [1]\n", "trueup.toml:1: item 1 of 'cluster' must be a map"),
        (TWO + table("lab", host="x"), "trueup.toml:12: there is a cluster 'lab' already"),
        (table("lab-1") + table("LAB.1"), "trueup.toml:7: 'LAB.1' is too much like 'lab-1'"),
        (table("lab", host="pve1") + table("shop", host="PVE1:8006"), "toml:8: https://pve1:8006 is a node of 'lab'"),
        (f"{TWO}[store]\nurl='sqlite:/var/j.db'\n", "trueup.toml:6: 'shop' would have the journal of 'lab', /var/j.db"),
        (f"{TWO}[cluster.store]\nurl='sqlite:../lab/state/journal.db'\n", "toml:12: 'shop' would have the journal"),
        (f"{TWO}[manifests]\npath='/srv/m'\n", "trueup.toml:6: [manifests] path of 'shop' is in that of 'lab', /srv/m"),
        (f"{TWO}[cluster.manifests]\npath='../lab/manifests/shop'\n", "toml:12: [manifests] path of 'shop' is"),
        (f"{TWO}[cluster.manifests]\npath='..'\n", "trueup.toml:1: [manifests] path of 'lab' is in that of 'shop'"),
        (f"{TWO}[gate]\nspool='/srv/s'\n", "trueup.toml:6: [gate] spool of 'shop' is in that of 'lab', /srv/s"),
        (f"{TWO}folder = 'lab'\n", "trueup.toml:6: 'shop' would have the journal of 'lab'"),
        (f"{TWO}[cluster.http]\nlisten = '127.0.0.1:1'\n", "trueup.toml:11: unknown key 'http'"),
        (f"{TWO}[cluster.store]\nurll = 'x'\n", "trueup.toml:12: unknown key 'urll' (did you mean 'url'?)"),
        (f"{TWO}[cluster.store]\nurl = 'x'\n[store]\nlease = '1s'\n", "toml:12: 'x' is no place for the journal"),
        (f"{TWO}nam = 1\n", "trueup.toml:11: unknown key 'nam' (did you mean 'name'?)"),
        (TWO.replace('name = "shop"\n', ""), "trueup.toml:6: 'name' is missing"),
        (TWO.replace('"shop"', '"a shop"'), "trueup.toml:7: 'a shop' is no name for a cluster"),
        (f"{table('lab')}[cluster.manifests]\npath=''\n", "trueup.toml:7: a path is empty"),
    ],
)  # fmt: skip
def test_refused_with_its_line_and_a_remedy(file, text, said):
    assert said in "\n".join(problems(file, text))


def test_a_link_to_anothers_folder_is_found(file, tmp_path):
    (tmp_path / "lab").mkdir()
    (tmp_path / "shop").symlink_to(tmp_path / "lab")
    told = problems(file, TWO)
    assert [line.split(": ")[1][:6] for line in told] == ["'shop'", "[manif", "[gate]"]


def test_which_cluster_is_meant_has_to_be_said(file):
    read(file, TWO)
    assert load(file, "shop").cluster.name == "shop"
    with pytest.raises(
        BadInput, match=r"trueup.toml: these settings are for several clusters \(choose one with --cluster: lab, shop\)"
    ):
        load(file)
    with pytest.raises(BadInput, match=r"there is no cluster 'shep' in these settings \(known: lab, shop\)"):
        load(file, "shep")
    read(file, table("lab"))
    assert load(file).cluster.name == "lab"


def test_the_page_about_several_clusters_has_settings_that_are_read(file):
    page = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text(encoding="utf-8")
    lab, shop = read(file, page.split("```toml\n", 1)[1].split("```", 1)[0])
    assert (lab.reconcile.mode, shop.reconcile.mode) == (Mode.ENFORCE, Mode.OBSERVE)
    assert {lab.reconcile.interval_s, shop.reconcile.interval_s} == {60.0}
    assert shop.gate.keyring == file.parent / "shop/../keyring.yaml"


def test_parts_of_one_cluster_read_its_settings_only(file):
    read(file, TWO)
    narrowed = parts().of_cluster("shop")
    assert narrowed.settings(file).cluster.name == "shop"
    assert [settings.cluster.name for settings in narrowed.clusters(file)] == ["shop"]
    assert [settings.cluster.name for settings in parts().clusters(file)] == ["lab", "shop"]
