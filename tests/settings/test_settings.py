"""The settings file: every key has its default and its check, and whatever is wrong is told with its line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from trueup.edges.settings import key_lines, load, read_secret
from trueup.model.errors import BadInput, ManyProblems
from trueup.model.ids import TokenId
from trueup.model.settings import (
    CaFile,
    Fingerprint,
    HttpSettings,
    Insecure,
    KeeperSettings,
    LimitSettings,
    LogFormat,
    LogLevel,
    Mode,
    Secret,
    SecretSource,
)

LEAST = (
    '[cluster]\nname = "lab"\nendpoints = ["https://pve1.example"]\ntoken_id = "trueup@pve!agent"\nca_file = "ca.pem"\n'
)

WHOLE = """\
[cluster]
name = "lab"
endpoints = ["https://pve1.example:8006", "https://[::1]:443/"]
keeper = {token_id = "trueup-keeper@pve!keeper", token_secret_file = "k.secret", user = "trueup@pve", prefix = "a-"}
fingerprint = "FINGERPRINT"
[store]
url = "sqlite:/var/lib/trueup/journal.db"
lease = "2m"
[manifests]
path = "guests"
[reconcile]
interval = "1m30s"
mode = "observe"
[gate]
keyring = "k.yaml"
policy = "p.yaml"
spool = "in"
[http]
listen = "0.0.0.0:8640"
token_file = "t"
tls_cert = "c.pem"
tls_key = "k.pem"
[limits]
slots_per_node = 5
send_by = "10s"
settle_time = "7s"
settle_time_token = "20s"
settle_time_without_token = "20m"
[log]
level = "debug"
format = "json"
[notify]
urls = ["mailto://user:hunter2@example.com"]
""".replace("FINGERPRINT", ":".join(["AB"] * 32))


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "trueup.toml"


def problems(file, text):
    file.write_text(text)
    with pytest.raises(BadInput) as caught:
        load(file)
    error = caught.value
    return [str(problem) for problem in (error.problems if isinstance(error, ManyProblems) else (error,))]


def test_only_the_cluster_is_required(file):
    file.write_text(LEAST)
    read = load(Path("trueup.toml"))
    here = file.parent
    assert read.file == file
    assert read.cluster.name == "lab"
    assert read.cluster.endpoints == ("https://pve1.example:8006",)
    assert read.cluster.token_id == "trueup@pve!agent"
    assert read.cluster.trust == CaFile(path=here / "ca.pem")
    assert read.cluster.token_secret == SecretSource(file=None, variable="TRUEUP_TOKEN_SECRET")
    assert read.cluster.keeper is None
    assert read.store.path == here / "state/journal.db"
    assert read.manifests.path == here / "manifests"
    assert (read.reconcile.interval_s, read.reconcile.mode) == (30.0, Mode.ENFORCE)
    assert read.gate.keyring == here / "keyring.yaml"
    assert read.http == HttpSettings(token_file=here / "http.token")
    assert read.limits == LimitSettings()
    assert read.warnings == ()


def test_every_key(file):
    file.write_text(WHOLE)
    read = load(file)
    here = file.parent
    assert read.cluster.endpoints == ("https://pve1.example:8006", "https://[::1]:443")
    assert read.cluster.token_id is None
    assert read.cluster.trust == Fingerprint(sha256=b"\xab" * 32)
    assert read.cluster.keeper == KeeperSettings(
        token_id=TokenId("trueup-keeper@pve!keeper"),
        secret=SecretSource(file=here / "k.secret", variable="TRUEUP_KEEPER_SECRET"),
        user="trueup@pve",
        prefix="a-",
    )
    assert (read.store.path, read.store.lease_s) == (Path("/var/lib/trueup/journal.db"), 120.0)
    assert read.manifests.path == here / "guests"
    assert (read.reconcile.interval_s, read.reconcile.mode) == (90.0, Mode.OBSERVE)
    assert read.gate.spool == here / "in"
    assert (read.http.host, read.http.port, read.http.tls_key) == ("0.0.0.0", 8640, here / "k.pem")
    assert read.limits == LimitSettings(
        slots_per_node=5, send_by_s=10.0, settle_goal_s=7.0, settle_token_s=20.0, settle_time_s=1200.0
    )
    assert (read.log.level, read.log.format) == (LogLevel.DEBUG, LogFormat.JSON)
    assert read.notify.urls == (Secret("mailto://user:hunter2@example.com"),)
    assert "hunter2" not in repr(read)


def test_paths_are_relative_to_the_file_and_not_to_the_working_folder(file, tmp_path, monkeypatch):
    file.write_text(LEAST)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load(Path("../trueup.toml")).manifests.path == tmp_path / "manifests"


def test_insecure_is_said_on_every_run(file):
    file.write_text(LEAST.replace('ca_file = "ca.pem"', "insecure = true"))
    read = load(file)
    assert read.cluster.trust == Insecure()
    assert "certificate is not checked" in read.warnings[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "trueup.toml:1: 'cluster' is missing"),
        (f"{LEAST}colour = 1\n", "trueup.toml:6: unknown key 'colour'"),
        (f"{LEAST}token = 1\n", "trueup.toml:6: unknown key 'token' (did you mean 'token_id'?)"),
        (f"{LEAST}[stroe]\n", "trueup.toml:6: unknown key 'stroe' (did you mean 'store'?)"),
        (f"{LEAST}[store]\nurl='postgresql://u:hunter2@h'\n", "trueup.toml:7: the journal's address names no database"),
        (f"{LEAST}[store]\nurl='mysql://u:hunter2@h/d'\n", "trueup.toml:7: 'mysql://u@h/d' is no place"),
        (f"{LEAST}[store]\nurl='sqlite:///rel.db'\n", "is no place for the journal"),
        (f"{LEAST}[store]\nlease='1s'\n", "trueup.toml:7: 1s is outside of 4s to 3600s"),
        (f"{LEAST}[reconcile]\ninterval=30\n", "trueup.toml:7: a duration needs its unit"),
        (f"{LEAST}[reconcile]\ninterval='30'\n", "'30' is no duration"),
        (f"{LEAST}[reconcile]\nmode='enforced'\n", "did you mean 'enforce'?"),
        (f"{LEAST}[limits]\nslots_per_node=0\n", "trueup.toml:7: 'slots_per_node' is 0; it must be at least 1"),
        (f"{LEAST}[limits]\nslots_per_node='3'\n", "'slots_per_node' must be a whole number"),
        (f"{LEAST}[limits]\nsettle_time='10ms'\n", "0.01s is outside of 1s"),
        (f"{LEAST}[http]\nlisten='0.0.0.0:80'\n", "trueup.toml:7: '0.0.0.0:80' can be reached from other machines"),
        (f"{LEAST}[http]\nlisten='8640'\n", "is no address to listen on"),
        (f"{LEAST}[http]\nlisten='[::1]:70000'\n", "is no address to listen on"),
        (f"{LEAST}[http]\ntls_cert='a'\n", "tls_cert and tls_key go together"),
        (f"{LEAST}[log]\nlevel='loud'\n", "'level' is 'loud'"),
        (f"{LEAST}[manifests]\npath=''\n", "a path is empty"),
        (f"{LEAST}fingerprint='{'ab' * 32}'\n", "ca_file and fingerprint exclude each other"),
        (LEAST.replace('ca_file = "ca.pem"', ""), "trueup.toml:1: nothing says which certificate to trust"),
        (LEAST.replace('ca_file = "ca.pem"', 'fingerprint = "AA:BB"'), "trueup.toml:5: the fingerprint is no SHA-256"),
        (LEAST.replace('token_id = "trueup@pve!agent"', ""), "'token_id' is missing"),
        (LEAST.replace("trueup@pve!agent", "trueup@pve"), "trueup.toml:4: 'trueup@pve' is no token id"),
        (LEAST.replace('"lab"', '"my lab"'), "trueup.toml:2: 'my lab' is no name for a cluster"),
        (LEAST.replace('["https://pve1.example"]', "[]"), "trueup.toml:3: 'endpoints'"),
        (LEAST.replace('["https://pve1.example"]', '["https://a", "https://a:8006"]'), "an endpoint is named twice"),
        (LEAST.replace("https://pve1", "http://pve1"), "trueup.toml:3: endpoint 'http://pve1.example' is not https"),
        (LEAST.replace("https://pve1", "https://u:p@pve1"), "without user, path or query"),
        (LEAST.replace("pve1.example", "pve1.example/api2"), "without user, path or query"),
        (LEAST.replace("pve1.example", "pve1:99999"), "is no URL"),
        (LEAST.replace("pve1.example", "[::1"), "is no URL"),
        (LEAST.replace("pve1.example", "a b"), "no valid host"),
        (f'{LEAST}keeper = {{token_id="trueup@pve!agent", user="a@b1", prefix="a-"}}\n', "trueup.toml:6: the keeper's"),
        (f'{LEAST}keeper = {{token_id = "k@pve!ke", usr = "a@pve", prefix = "1"}}\n', "toml:6: unknown key 'usr'"),
        ("a = \n", "trueup.toml:1:5: not TOML: "),
        ("a = 1\na = 2\n", "trueup.toml:2:6: not TOML: "),
        ("[cluster\n", "trueup.toml:1:9: not TOML: "),
        ('a = "', "trueup.toml:1: not TOML: "),
        (f"a = {'[' * 5000}", "trueup.toml:1: not TOML: nested too deeply"),
        ("cluster = 3\n", "trueup.toml:1: 'cluster' must be a map"),
    ],
)  # fmt: skip
def test_refused_with_its_line_and_a_remedy(file, text, said):
    told = "\n".join(problems(file, text))
    assert said in told
    assert "hunter2" not in told
    assert all(line.startswith("trueup.toml:") for line in told.split("\n"))


def test_all_problems_are_told_at_once_in_the_order_of_the_file(file):
    told = problems(file, f"{LEAST}x = 1\n[http]\nlisten = 'x'\n[limits]\nslots_per_node = 0\n")
    assert [line.split(" ")[0] for line in told] == ["trueup.toml:6:", "trueup.toml:8:", "trueup.toml:10:"]


def test_a_missing_an_unreadable_and_a_strange_file(file, tmp_path):
    with pytest.raises(BadInput, match=r"trueup.toml: there is no settings file \(run `trueup init`"):
        load(file)
    with pytest.raises(BadInput, match="cannot read the settings: Is a directory"):
        load(tmp_path)
    file.write_bytes(b"a = 1\n# \xff\n")
    with pytest.raises(BadInput, match=r"trueup.toml:2: the file is not in UTF-8"):
        load(file)
    file.write_bytes(b"#" * 300_000)
    with pytest.raises(BadInput, match="larger than 256 KiB"):
        load(file)


def test_windows_line_ends_and_a_bom_are_fine(file):
    file.write_bytes(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode())
    assert load(file).cluster.name == "lab"


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: (LEAST + text).encode(errors="replace")))
def test_any_content_gives_settings_or_bad_input(tmp_path, content):
    file = tmp_path / "trueup.toml"
    file.write_bytes(content)
    try:
        load(file)
    except BadInput as error:
        for problem in error.problems if isinstance(error, ManyProblems) else (error,):
            assert problem.where.startswith(f"{file}:")


def test_lines_of_keys():
    text = '[a]\n b.c = 1\n"d" = {e = 2}\n\n[ x . y ]\nz=1\n[[t]]\nk = 1\n[t.u]\nv = 1\n[[t]]\n[t.u]\nv = 1\n'
    assert key_lines(text) == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "b", "c"): 2,
        ("a", "d"): 3,
        ("x", "y"): 5,
        ("x", "y", "z"): 6,
        ("t",): 7,
        ("t", 0): 7,
        ("t", 0, "k"): 8,
        ("t", 0, "u"): 9,
        ("t", 0, "u", "v"): 10,
        ("t", 1): 11,
        ("t", 1, "u"): 12,
        ("t", 1, "u", "v"): 13,
    }


# --- secrets -------------------------------------------------------------------------------------------------------


def test_the_environment_goes_before_the_file(tmp_path):
    file = tmp_path / "token.secret"
    file.write_text("from-file\n")
    file.chmod(0o600)
    source = SecretSource(file=file, variable="X")
    assert read_secret(source, {"X": "from-env"}).secret.reveal() == "from-env"
    assert read_secret(source, {"X": ""}).secret.reveal() == "from-file"
    assert read_secret(source, {}).warnings == ()


def test_a_secret_that_everybody_can_read_is_warned_of(tmp_path):
    file = tmp_path / "token.secret"
    file.write_text("s3cret")
    file.chmod(0o644)
    read = read_secret(SecretSource(file=file), {})
    assert "chmod 600" in read.warnings[0]
    assert "s3cret" not in repr(read)
    file.chmod(0o640)
    assert read_secret(SecretSource(file=file), {}).warnings == ()


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"two\nlines", b"\xff\xfe", b"x" * 5000])
def test_what_is_no_secret_is_refused_without_showing_it(tmp_path, content):
    file = tmp_path / "token.secret"
    file.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_secret(SecretSource(file=file), {})
    assert "two" not in str(caught.value).replace(str(file), "")


def test_no_secret_at_all(tmp_path):
    with pytest.raises(BadInput, match="there is no token secret"):
        read_secret(SecretSource(variable="TRUEUP_TOKEN_SECRET"), {})
    with pytest.raises(BadInput, match="cannot read the keeper's secret: No such file"):
        read_secret(SecretSource(file=tmp_path / "gone", variable="K"), {}, what="keeper's secret")


def test_importing_costs_no_pydantic():
    code = "import sys, trueup.edges.settings, trueup.edges.starter; print({'pydantic', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == "set()"
