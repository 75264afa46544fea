"""What the commands of the gate tell people to do is done, on files, options and keys, and then they work."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.stage import Simulator
from tests.gate_edges.house import VM, House
from tests.operator.following import followed, quoted
from trueup.adapters.signing import sign
from trueup.adapters.signing_keys import load_private, load_signer, new_private, public_line
from trueup.core.gate_envelope import parse_envelope
from trueup.edges.cli.words import TO_DO_ACCEPTED
from trueup.model.errors import BadInput

pytestmark = pytest.mark.xdist_group("gate_by_hand")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    simulator = Simulator()
    try:
        yield House(folder=tmp_path_factory.mktemp("house"), sim=simulator)
    finally:
        simulator.stop()


@pytest.fixture(autouse=True)
def as_it_was(house: House) -> Iterator[None]:
    """Each test finds the folder as the first one did."""
    kept = {path: path.read_bytes() for path in house.folder.iterdir() if path.is_file()}
    yield
    for path in house.folder.iterdir():
        if path.is_file() and path not in kept:
            path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)


def run(house: House, command: str) -> str:
    """A command, whose remedy is raised; a code of 1 with something printed may be its answer."""
    done = house.run(*shlex.split(command))
    said = " ".join(done.stderr.split())
    if done.returncode:
        found = re.search(r"\(([^()]*(?:\([^()]*\)[^()]*)*)\)$", said)
        raise BadInput(what=said, remedy=found[1] if found else said)
    return done.stdout


def bash(house: House, command: str) -> None:
    subprocess.run(["bash", "-c", command], cwd=house.folder, check=True, capture_output=True, timeout=60)


Case = tuple[str, Callable[[House], object], str, Callable[[House, str], str | None]]
"""A remedy, what is prepared, a command, and how the remedy is followed: it may be another command that works then."""

CASES: list[Case] = []


def case(remedy: str, prepare: Callable[[House], object], command: str, follow: Callable[[House, str], object]) -> None:
    CASES.append((remedy, prepare, command, follow))  # type: ignore[arg-type]


def nothing(*_: object) -> None:
    pass


def gone(name: str) -> Callable[[House], object]:
    return lambda house: (house.folder / name).unlink()


def makes_a_key(house: House, text: str) -> None:
    (command,) = quoted(text)
    for word, meant in (("PERSON", "alice"), ("FILE", "new.key"), ("ROLE", "operator")):
        command = command.replace(word, meant)
    run(house, command.removeprefix("trueup "))


def copies_the_policy(house: House, text: str) -> None:
    run(house, quoted(text)[0].removeprefix("trueup ").replace("DIR", "begun"))
    shutil.copy(house.folder / "begun" / "policy.yaml", house.folder)
    shutil.rmtree(house.folder / "begun")
    policy = house.folder / "policy.yaml"  # it allows nothing yet; the rules that it proposes are taken in
    policy.write_text(policy.read_text().replace("rules: []", "rules:").replace("#  - {kinds: [", "  - {kinds: [", 2))
    assert (Path(__file__).parents[2] / "docs" / "gate.md").is_file()


MAKES = "`trueup keys new PERSON -o FILE --role ROLE` makes one"
COPIES = "`trueup init DIR` has one to copy; docs/gate.md explains it"
case(MAKES, gone("keyring.yaml"), "keys list", makes_a_key)


def both_gone(house: House) -> None:
    """Of people who may all sign alone, as the policy to copy has it."""
    house.asked()
    (house.folder / "policy.yaml").unlink()


case(COPIES, both_gone, "policy test request.json", copies_the_policy)
case(COPIES, gone("policy.yaml"), "keys check", copies_the_policy)
case(MAKES, lambda house: (house.asked(), gone("keyring.yaml")(house)), "policy test request.json", makes_a_key)
case("name a new one", nothing, "keys new dora -o alice.key", lambda *_: "keys new dora -o dora.key")
case("use letters, digits and . _ @ + -", nothing, "keys new 'a b' -o n.key", lambda *_: "keys new a.b -o n.key")
case(
    "write --param NAME=VALUE",
    nothing,
    f"request destroy {VM} --param purge",
    lambda _, text: f"request destroy {VM} {text.removeprefix('write ').replace('NAME=VALUE', 'purge=true')}",
)
case(
    "give it once",
    nothing,
    f"request destroy {VM} --param purge=true --param purge=true",
    lambda *_: f"request destroy {VM} --param purge=true",
)


def first_person(house: House, text: str) -> str:
    listed = run(house, quoted(text)[0].removeprefix("trueup "))
    return listed.split()[0]


case(
    "see `trueup keys list`",
    nothing,
    f"request destroy {VM} --as nobody",
    lambda house, text: f"request destroy {VM} --as {first_person(house, text)}",
)


def listed_vmid(house: House, text: str) -> str:
    status = house.run(*quoted(text)[0].split()[1:]).stdout
    found = re.search(r"\b(10\d)\b", status)
    assert found
    return f"request stop {found[1]}"


case("see `trueup status`", nothing, "request stop 999", listed_vmid)
SIGN = "sign request.json --key alice.key"
case(
    "check --key",
    House.asked,
    "sign request.json --key alise.key",
    lambda house, _: "sign request.json --key alice.key",
)
case(
    "check the name",
    House.asked,
    "sign reqest.json --key alice.key",
    lambda house, _: "sign request.json --key alice.key",
)
case("name another file", nothing, f"request stop {VM} -o none/r.json", lambda *_: f"request stop {VM} -o r.json")


def public_half(house: House) -> None:
    house.asked()
    key = load_signer(str(house.folder / "alice.key"), lambda _: None)
    (house.folder / "alice.pub").write_text(key.public_key.keyval["public"])


case(
    "name the private half; a FIDO key signs by `ssh-keygen -Y sign -n trueup`",
    public_half,
    "sign request.json --key alice.pub",
    lambda house, _: "sign request.json --key alice.key",
)
case("leave --as out", House.asked, f"{SIGN} --as bob", lambda *_: SIGN)


def strange_key(house: House) -> None:
    house.asked()
    (house.folder / "strange.key").write_bytes(new_private()[0])


case(
    "give --as PERSON, as the keyring names you",
    strange_key,
    "sign request.json --key strange.key",
    lambda house, text: (
        "sign request.json --key strange.key " + text.removeprefix("give ").partition(",")[0].replace("PERSON", "alice")
    ),
)


def ssh_signed(house: House, *, namespace: str = "trueup", of: str = "payload.json") -> None:
    house.ok("request", "destroy", str(VM), "--as", "alice", "--reason", "ticket 4711", "-o", "request.json")
    house.ok("sign", "request.json", "--payload-out", "payload.json")
    (house.folder / "other.json").write_text("{}")
    bash(house, f"chmod 600 alice.key; ssh-keygen -Y sign -n {namespace} -f alice.key {of}; mv {of}.sig p.sig")


def signs_by_ssh(house: House, text: str) -> None:
    bash(house, f"rm -f p.sig; {quoted(text)[0]} -f alice.key payload.json; mv payload.json.sig p.sig")


SSH = "sign request.json --ssh-signature p.sig"
case(
    "sign with `ssh-keygen -Y sign -n trueup`",
    lambda house: ssh_signed(house, namespace="git"),
    SSH,
    signs_by_ssh,
)
case(
    "sign the very same file",
    lambda house: ssh_signed(house, of="other.json"),
    SSH,
    lambda house, _: ssh_signed(house),
)
BOTH = "--key FILE or URI, or --ssh-signature FILE.sig made by `ssh-keygen -Y sign -n trueup`"
case(BOTH, ssh_signed, "sign request.json", lambda *_: SIGN)
case(BOTH, ssh_signed, "sign request.json", lambda *_: SSH)
case(BOTH, ssh_signed, f"{SSH} --key alice.key", lambda *_: SSH)


def prepares_anew(house: House, text: str) -> None:
    (command,) = quoted(text)
    assert "…" in command
    words = command.replace("…", f"destroy {VM} --reason 'ticket 4711' -o request.json").replace("PERSON", "alice")
    run(house, words.removeprefix("trueup "))


def signs_anew(house: House, text: str) -> None:
    prepares_anew(house, text)
    house.ok("sign", "request.json", "--payload-out", "payload.json")
    bash(house, "rm -f p.sig; ssh-keygen -Y sign -n trueup -f alice.key payload.json; mv payload.json.sig p.sig")


AS = "prepare it with `trueup request … --as PERSON`"
case(AS, House.asked, "sign request.json --payload-out payload.json", prepares_anew)
case(
    AS,
    lambda house: (ssh_signed(house), house.asked()),
    SSH,
    signs_anew,
)


def in_a_request(house: House) -> None:
    house.signed("alice")
    assert house.submit()["state"] == "pending"


def known_request(house: House, text: str) -> str:
    found = re.search(r"\b[0-9a-f]{8}[0-9a-f-]*", run(house, quoted(text)[0].removeprefix("trueup ")))
    assert found
    return f"veto {found[0]} --key bob.key"


def vetoed_in_a_file(house: House) -> None:
    in_a_request(house)
    house.ok("veto", known_request(house, "`trueup requests`").split()[1], "-o", "veto.json")


case("see `trueup requests`", in_a_request, "veto ffffffff --key bob.key", known_request)
case(
    "vetoes and resolutions are just handed in",
    vetoed_in_a_file,
    "policy test veto.json",
    lambda *_: "sign veto.json --key alice.key",
)


def explained(house: House, text: str) -> str:
    listed = run(house, quoted(text)[0].removeprefix("trueup "))
    found = re.search(r"^\s*([a-z]+-[a-z-]+)\s", listed, re.MULTILINE)
    assert found, listed
    return f"explain {found[1]}"


case("`trueup explain` lists them", nothing, "explain nonsense", explained)


FOLLOWED = {
    *(remedy for remedy, _, _, _ in CASES),
    "sign on a terminal, where it is asked for",
    "give the public half with --public FILE",
    "name the person whose key it is",
    "change the keyring or the policy, then `trueup keys check`",
    TO_DO_ACCEPTED,
}


@pytest.mark.parametrize(("remedy", "prepare", "command", "follow"), CASES, ids=[one[0][:40] for one in CASES])
def test_done_as_the_message_says(
    house: House,
    remedy: str,
    prepare: Callable[[House], object],
    command: str,
    follow: Callable[[House, str], str | None],
) -> None:
    prepare(house)
    held = [command]
    answers = []

    def attempt() -> None:
        answers.append(run(house, held[0]))

    def do(text: str) -> None:
        other = follow(house, text)
        held[0] = other if isinstance(other, str) else command

    followed(remedy, attempt, do)
    assert answers


def test_vetoed_by_hand_is_handed_in(house: House) -> None:
    """What `policy test` says of a veto: it is just handed in."""
    in_a_request(house)
    house.ok("veto", known_request(house, "`trueup requests`").split()[1], "-o", "veto.json", "--as", "alice")
    house.ok("sign", "veto.json", "--key", "alice.key")
    house.ok("submit", "veto.json")


def test_what_was_accepted_is_carried_out(house: House) -> None:
    house.signed("alice", kind="start", vmid=103)
    op = house.submit()["op"]
    assert TO_DO_ACCEPTED in house.run("ops", "show", op).stdout
    assert house.state(op) == "accepted"
    house.run(*quoted(TO_DO_ACCEPTED)[0].split()[1:], "--yes")
    assert house.state(op) == "succeeded"
    house.sim.by_hand(vmid=103, status="stopped")


def test_a_passphrase_is_asked_for_on_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "locked.key"
    file.write_bytes(new_private("geheim")[0])
    asked: list[Callable[[str], str | None]] = [lambda _: None]
    followed(
        "sign on a terminal, where it is asked for",
        lambda: load_private(file, asked[0]),
        lambda _: asked.__setitem__(0, lambda _: "geheim"),
    )


def test_a_key_that_a_uri_names(house: House) -> None:
    """The person is named, and then has two keys; then the public half is given. The signer itself is not there."""
    house.asked()
    bash(house, f"cp {shlex.quote('alice.key')} named.key")
    house.ok("keys", "new", "alice", "-o", "second.key")
    words = "sign request.json --key hsm:2"
    with pytest.raises(BadInput, match="name the person whose key it is"):
        run(house, words)
    with pytest.raises(BadInput, match="give the public half with --public FILE"):
        run(house, f"{words} --as alice")
    line = public_line(new_private()[1])
    (house.folder / "a.pub").write_text(f"{line} a")
    with pytest.raises(BadInput, match="the signer hsm: does not work"):  # it got as far as the hardware
        run(house, f"{words} --as alice --public a.pub")


def test_keyring_and_policy_that_do_not_fit(house: House) -> None:
    policy = house.folder / "policy.yaml"
    policy.write_text(policy.read_text().replace("[owner]", "[chief]"))
    found = json.loads(house.run("doctor", "--json").stdout)["findings"]
    (remedy,) = {one["remedy"] for one in found if one["remedy"] and "keys check" in one["remedy"]}
    assert remedy == "change the keyring or the policy, then `trueup keys check`"
    assert house.run("keys", "check").returncode == 1
    policy.write_text(policy.read_text().replace("[chief]", "[owner]"))
    assert run(house, quoted(remedy)[0].removeprefix("trueup ")).startswith("In order")
    after = json.loads(house.run("doctor", "--json").stdout)["findings"]
    assert not [one for one in after if one["remedy"] and "keys check" in one["remedy"]]


def test_a_signer_that_is_away(house: House) -> None:
    """`sign` of a key that fails, and of the same key when it is there again."""
    envelope = parse_envelope(house.envelope(house.document()).read_bytes())
    good = load_signer(str(house.folder / "alice.key"), lambda _: None)
    held = [Away()]
    followed(
        "check that its key or service is there",
        lambda: sign(envelope, held[0]),  # type: ignore[arg-type]
        lambda _: held.__setitem__(0, good),  # type: ignore[call-overload]
    )


class Away:
    def sign(self, _content: bytes) -> None:
        raise OSError("no token in the slot")


FOLLOWED |= {"check that its key or service is there"}
