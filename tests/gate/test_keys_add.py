"""`trueup keys add`: a public key that somebody sent goes into the keyring, and what it can do is told."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gate.security_key import ALICES, BOBS, SITE, b64url
from tests.gate.world import ssh_line
from trueup.adapters.keyring_file import parse_keyring
from trueup.adapters.signing_keys import read_public
from trueup.app import parts
from trueup.edges.cli import run

Trueup = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trueup(tmp_path: Path) -> Trueup:
    def called(*arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(tmp_path), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(parts, arguments)
        return code, out.getvalue(), err.getvalue()

    assert called("init", ".")[0] == 0
    return called


def test_a_line_is_added_with_its_role_and_its_id_is_told(trueup: Trueup, tmp_path: Path) -> None:
    for name, line in (("bob", BOBS.line), ("alice", f"{ALICES.line} alice's key"), ("carol", ssh_line("carol"))):
        code, out, err = trueup("keys", "add", name, *line.split(), "--role", "operator")
        assert (code, f"{name} has the key {read_public(line).key_id}" in out) == (0, True), err
        assert f"Ask {name} whether" in err
    text = (tmp_path / "keyring.yaml").read_text()
    alice = parse_keyring(text, "keyring.yaml", tmp_path).person("alice")
    assert alice is not None
    assert [(one.public, one.comment) for one in alice.keys] == [(ALICES.line, "alice's key")]
    code, out, _ = trueup("keys", "list")
    assert [line.split()[2] for line in out.splitlines()] == ["webauthn-ed25519", "webauthn-ecdsa-p256", "ed25519"]


def test_a_line_is_one_word_since_its_parts_may_look_like_options(trueup: Trueup, tmp_path: Path) -> None:
    line = ALICES.line.replace(b64url(ALICES.credential), "-c" + b64url(ALICES.credential)[2:])
    assert trueup("keys", "add", "alice", line, "--role", "operator")[0] == 0
    assert line in (tmp_path / "keyring.yaml").read_text()


def test_a_key_that_can_sign_on_no_page_is_told(trueup: Trueup, tmp_path: Path) -> None:
    assert "browsers sign on no page" in trueup("keys", "add", "bob", *BOBS.line.split(), "--role", "operator")[2]
    assert "browsers sign on no page" in trueup("keys", "check")[1]
    settings = tmp_path / "trueup.toml"
    token_file = 'token_file = "http.token"'
    assert token_file in settings.read_text()
    settings.write_text(settings.read_text().replace(token_file, f'{token_file}\norigins = ["https://{SITE}:8640"]'))
    assert "security key" not in trueup("keys", "check")[1]
    assert "sign on" not in trueup("keys", "add", "alice", *ALICES.line.split(), "--role", "operator")[2]


def test_what_is_no_key_or_known_already_changes_nothing(trueup: Trueup, tmp_path: Path) -> None:
    assert trueup("keys", "add", "bob", *BOBS.line.split(), "--role", "operator")[0] == 0
    before = (tmp_path / "keyring.yaml").read_text()
    for name, line in (
        ("bob", BOBS.line),
        ("eve", BOBS.line),
        ("eve", BOBS.line[:-4]),
        ("eve", "webauthn"),
        ("e e", ALICES.line),
    ):
        assert trueup("keys", "add", name, *line.split())[0] == 1, (name, line)
    assert (tmp_path / "keyring.yaml").read_text() == before
