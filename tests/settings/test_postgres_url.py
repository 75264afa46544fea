"""`[store] url = "postgresql://…"`: what may stand there, and that its password is shown nowhere."""

import pytest

from trueup.adapters.postgres.address import parse, redacted
from trueup.edges import settings
from trueup.model.errors import BadInput

FILE = """\
[cluster]
name = "lab"
endpoints = ["https://pve1.example"]
token_id = "trueup@pve!agent"
ca_file = "ca.pem"
[store]
url = "{url}"
lease = "20s"
"""


def test_a_database_is_a_place_for_the_journal(tmp_path):
    file = tmp_path / "trueup.toml"
    file.write_text(FILE.format(url="postgresql://u:hunter2@db1,db2/trueup?sslmode=verify-full"))
    read = settings.load(file)
    assert read.store.postgres is not None
    assert read.store.postgres.journal == "lab"
    assert read.store.postgres.url.reveal() == "postgresql://u:hunter2@db1,db2/trueup?sslmode=verify-full"
    assert read.store.shown == "postgresql://u@db1,db2/trueup?sslmode=verify-full"
    assert read.store.path == tmp_path / "state/postgresql"
    assert read.store.lease_s == 20
    assert "hunter2" not in repr(read)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@h/d",
        "postgres://u:hunter2@h:5432/d",
        "postgresql://u:hunter2@h/d?password=hunter2&sslmode=require",
        "postgresql:///d?user=u&password=hunter2&host=/run/postgresql",
        "postgresql://u:hun@ter2:hunter2@h/d",
        "postgresql://u:hunter2@h1:1,h2:2/d",
    ],
)
def test_no_password_is_shown(url):
    assert "hunter2" not in parse(url, "lab").shown
    assert "hunter2" not in repr(parse(url, "lab"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@h",
        "postgresql://u:hunter2@h/",
        "mysql://u:hunter2@h/d",
        "postgresql://u:hunter2@h/d?fsync=off",
        "postgresql://u:hunter2@h/d?statement_timeout=1",
        "postgresql://u:hunter2@[h/d",
        "postgresql://u:hunter2@h/d#x",
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(url, tmp_path):
    with pytest.raises(BadInput) as caught:
        parse(url, "lab")
    assert "hunter2" not in str(caught.value)
    file = tmp_path / "trueup.toml"
    file.write_text(FILE.format(url=url))
    with pytest.raises(BadInput) as caught:
        settings.load(file)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in redacted(url)
