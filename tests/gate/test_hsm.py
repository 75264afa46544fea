"""A key that never leaves its PKCS#11 token signs, and the gate counts it: with SoftHSM2, where that is installed."""

import importlib.util
import json
import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.stage import QUIET, TRUEUP, Simulator
from tests.gate_edges.house import House
from trueup.adapters.signing_keys import load_signer, new_private, public_line
from trueup.model.errors import BadInput

PIN, LABEL, KEY = "47114711", "carols token", "hsm:2?label=carols+token"
LIBRARY = next(
    (
        path
        for path in map(Path, ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"))
        if path.is_file()
    ),
    None,
)
NO_PACKAGE = importlib.util.find_spec("pkcs11") is None
pytestmark = [
    pytest.mark.skipif(NO_PACKAGE, reason="python-pkcs11 is not here: the extra trueup[hsm] brings it"),
    pytest.mark.xdist_group("hsm"),
]
with_a_token = pytest.mark.skipif(
    LIBRARY is None or shutil.which("softhsm2-util") is None,
    reason="there is no SoftHSM here: `make token` installs Debian's softhsm2",
)

MAKES_A_KEY = """
import sys, pkcs11
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters
library, label, pin = sys.argv[1:]
with pkcs11.lib(library).get_token(token_label=label).open(rw=True, user_pin=pin) as session:
    curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
    form = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
    public, _ = form.generate_keypair(store=True, id=bytes([2]), label="signs")
    key = load_der_public_key(encode_ec_public_key(public))
    print(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())
"""


@dataclass
class Token:
    environment: dict[str, str]
    public: str
    """An SSH line."""


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Token:
    """A token with one P-256 key that was made in it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
    environment = {**QUIET, "SOFTHSM2_CONF": str(folder / "softhsm2.conf"), "PYKCS11LIB": str(LIBRARY)}
    begins = ["softhsm2-util", "--init-token", "--free", "--label", LABEL, "--so-pin", "99999999", "--pin", PIN]
    subprocess.run(begins, env=environment, check=True, capture_output=True, timeout=60)
    makes = [sys.executable, "-c", MAKES_A_KEY, str(LIBRARY), LABEL, PIN]
    made = subprocess.run(makes, env=environment, check=True, capture_output=True, text=True, timeout=60)
    return Token(environment, made.stdout.strip())


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    simulator = Simulator()
    try:
        yield House(folder=tmp_path, sim=simulator)
    finally:
        simulator.stop()


def joins(house: House, person: str, public: str) -> None:
    """An operator more in the keyring."""
    file = house.folder / "keyring.yaml"
    file.write_text(f"{file.read_text().rstrip()}\n  {person}:\n    roles: [operator]\n    keys:\n      - {public}\n")
    assert person in house.ok("keys", "list")


def sign_on_a_terminal(house: House, token: Token, *arguments: str, pin: str) -> tuple[int, str]:
    """`trueup sign`; the PIN is typed when it is asked for."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [*TRUEUP, "sign", "request.json", "--key", KEY, *arguments],
        cwd=house.folder,
        env=token.environment,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    os.close(theirs)
    assert process.stdout is not None
    said = b""
    try:
        while byte := process.stdout.read(1):
            said += byte
            if said.endswith(b"(pin): "):
                time.sleep(0.2)  # what was typed before the terminal goes silent is thrown away
                os.write(mine, f"{pin}\n".encode())
    finally:
        os.close(mine)
        process.stdout.close()
    return process.wait(60), said.decode()


def signatures(house: House) -> int:
    """In the request's file; one that nobody signed yet has no place for them."""
    return len(json.loads((house.folder / "request.json").read_bytes()).get("signatures", []))


@with_a_token
def test_a_key_on_a_token_signs_and_the_gate_counts_it(house: House, token: Token) -> None:
    joins(house, "carla", token.public)
    house.asked("stop", 101, "--as", "carla")
    code, said = sign_on_a_terminal(house, token, "--as", "carla", pin=PIN)
    assert code == 0, said
    assert said.count("(pin): ") == 1
    assert PIN not in said
    assert "nobody of the keyring" not in said
    assert signatures(house) == 1
    taken = house.submit()
    assert taken["state"] == "accepted"
    assert PIN not in json.dumps(taken) + house.run("journal", "export").stdout


@with_a_token
def test_a_wrong_pin_signs_nothing(house: House, token: Token) -> None:
    joins(house, "carla", token.public)
    house.asked("stop", 101, "--as", "carla")
    code, said = sign_on_a_terminal(house, token, "--as", "carla", pin="12341234")
    assert (code, "the signer did not sign: PinIncorrect" in said) == (1, True), said
    assert "12341234" not in said
    assert signatures(house) == 0


@with_a_token
def test_without_a_terminal_the_token_is_not_tried(house: House, token: Token) -> None:
    joins(house, "carla", token.public)
    house.asked("stop", 101, "--as", "carla")
    command = [*TRUEUP, "sign", "request.json", "--key", KEY, "--as", "carla"]
    done = subprocess.run(
        command,
        cwd=house.folder,
        env=token.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "the key has a pin (sign on a terminal" in done.stderr
    assert signatures(house) == 0


@with_a_token
def test_a_signature_under_another_ones_public_half_does_not_count(house: House, token: Token) -> None:
    """The token signs with its own key, whatever it is told; the verifier sees that it is not the one that is named."""
    other = new_p256_line()
    joins(house, "carla", token.public)
    joins(house, "olga", other)
    (house.folder / "olga.pub").write_text(f"{other}\n")
    house.asked("stop", 101, "--as", "olga")
    code, said = sign_on_a_terminal(house, token, "--public", "olga.pub", pin=PIN)
    assert code == 0, said
    refused = house.run("submit", "request.json")
    assert refused.returncode == 1
    assert "not a signature of this key" in refused.stdout + refused.stderr


def new_p256_line() -> str:
    from cryptography.hazmat.primitives.asymmetric import ec

    from trueup.adapters.signing_keys import public_of

    return public_line(public_of(ec.generate_private_key(ec.SECP256R1()).public_key()))


def test_the_library_of_the_token_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is asked of a token before it signs, so that any file will do here."""
    public = new_p256_line()
    monkeypatch.delenv("PYKCS11LIB", raising=False)
    with pytest.raises(BadInput, match="no PKCS#11 library is named"):
        load_signer("hsm:2", lambda _: PIN, public)
    for wrong in ("", str(tmp_path / "nowhere.so")):
        monkeypatch.setenv("PYKCS11LIB", wrong)
        with pytest.raises(BadInput, match="set PYKCS11LIB to the file"):
            load_signer("hsm:2", lambda _: PIN, public)
    named = tmp_path / "library.so"
    named.touch()
    monkeypatch.setenv("PYKCS11LIB", str(named))
    assert load_signer("hsm:2", lambda _: PIN, public).public_key.scheme == "ecdsa-sha2-nistp256"


def test_a_key_of_another_kind_is_none_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="the signer hsm: does not work: ValueError"):
        load_signer("hsm:2", lambda _: PIN, public_line(new_private()[1]))
