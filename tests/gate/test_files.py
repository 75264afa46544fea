"""Keyring and policy: read strictly, kept when broken, and edited without touching what people wrote."""

from pathlib import Path

import pytest

from tests.gate.world import KEYS, POLICY, key_id, keyring_text, ssh_line
from trueup.adapters.gate_files import GateFiles
from trueup.adapters.keyring_edit import with_key, write_key
from trueup.adapters.keyring_file import parse_keyring
from trueup.adapters.policy_file import parse_policy
from trueup.adapters.signing_keys import public_of
from trueup.model.errors import BadInput, ManyProblems
from trueup.model.policy import Selector

HERE = Path()
NEW = public_of(KEYS["mallory"].public_key())


def test_a_keyring_as_the_documentation_shows_it(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "bob.pub").write_text(ssh_line("bob") + "\n")
    text = (
        "people:\n"
        f'  alice: {{roles: [operator], keys: ["{ssh_line("alice")}"]}}\n'
        '  bob:   {roles: [operator, owner], keys: ["keys/bob.pub"], '
        f'revoked: {{"{key_id("bob")}": 2026-12-01T00:00:00Z}}}}\n'
    )
    keyring = parse_keyring(text, "keyring.yaml", tmp_path)
    alice, bob = keyring.people
    assert (alice.name, alice.roles, alice.keys[0].key_id) == ("alice", {"operator"}, key_id("alice"))
    assert bob.roles == {"operator", "owner"}
    assert bob.revoked == {key_id("bob"): 1_796_083_200_000}
    assert keyring.one_hand == {}
    assert keyring.warnings == ()


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("people: [alice]", "k:1:9", "people must be a map"),
        ("person: {}", "k:1:1", "unknown key 'person'"),
        ("people:\n  alice: {rolls: [a]}", "k:2:11", "unknown key 'rolls'"),
        ("people:\n  alice: {roles: a}", "k:2:18", "roles must be a list"),
        ("people:\n  alice: {keys: [keys/none.pem]}", "k:2:18", "cannot read the key's file"),
        ('people:\n  alice: {keys: ["ssh-rsa AAAA x"]}', "k:2:18", "the public key is damaged"),
        ('people:\n  alice: {revoked: {"abc": 2026-12-01T00:00:00Z}}', "k:2:28", "no key of 'alice' has the id"),
        (f'people:\n  a: {{keys: ["{ssh_line("alice")}"], revoked: {{"x": soon}}}}', "", "is not of its form"),
        ("people:\n  alice: {}\n  alice: {}", "k:3:3", "duplicate key 'alice'"),
        ('people:\n  "a b": {}', "k:2:10", "no name for a person"),
        ("people: {a: *b}", "k:1:13", "no anchor"),
        ("a: b: c", "k:1:5", "not YAML"),
    ],
)
def test_what_is_wrong_in_a_keyring_has_its_place(text, where, what):
    with pytest.raises(BadInput) as caught:
        parse_keyring(text, "k", HERE)
    assert what in str(caught.value)
    assert where in str(caught.value)


def test_a_policy_as_the_documentation_shows_it():
    policy = parse_policy(POLICY, "policy.yaml")
    first = policy.rules[0]
    assert (first.kinds, first.people, first.roles, first.longest_s) == (
        {"destroy", "restore"},
        2,
        {"operator"},
        86_400,
    )
    assert first.guests == Selector(labels={"tier": "web"})
    assert policy.rules[1].windows[0].days == {5}
    assert policy.rules[4].requester_may_approve is False
    assert policy.rules[5].guests.vmids == ((200, 299),)
    assert policy.rules[6].grace_s == 3600
    assert policy.budgets[0].most == 1
    assert policy.never == Selector(vmids=((9000, 9000),), tags=frozenset({"keep"}))
    assert parse_policy("", "policy.yaml").rules == ()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("rules: [{kinds: [destroy], roles: [a], peeple: 2}]", "unknown key 'peeple'"),
        ("rules: [{kinds: [destroy], people: 2}]", "a rule without roles"),
        ("rules: [{roles: [a]}]", "no kinds are named"),
        ("rules: [{kinds: [detroy], roles: [a]}]", "'detroy' is none of the kinds"),
        ("rules: [{kinds: [create], roles: [a]}]", "'create' is none of the kinds"),
        ("rules: [{kinds: [destroy], roles: [a], people: 0}]", "people must be a whole number from 1"),
        ('rules: [{kinds: [destroy], roles: [a], people: "2"}]', "people must be a whole number"),
        ("rules: [{kinds: [destroy], roles: [a], longest: 24}]", "no duration"),
        ("rules: [{kinds: [destroy], roles: [a], longest: 90d}]", "longer than 30 days"),
        ("rules: [{kinds: [destroy], roles: [a], requester_may_approve: maybe}]", "must be true or false"),
        ("rules: [{kinds: [destroy], roles: [a], windows: [Sat 2-4]}]", "is no window"),
        ('rules: [{kinds: [destroy], roles: [a], windows: ["02:00-04:00 Mars/Base"]}]', "time zone"),
        ("rules: [{kinds: [destroy], roles: [a], guests: {vmids: []}}]", "vmids is empty"),
        ("rules: [{kinds: [destroy], roles: [a], guests: {}}]", "guests selects nothing"),
        ("rules: [{kinds: [destroy], roles: [a], guests: {vmids: [299-200]}}]", "not a vmid"),
        ("budgets: [{kinds: [destroy]}]", "a budget without 'most'"),
        ("never_destroy: {vmid: 9000}", "unknown key 'vmid'"),
        ("rules: {}", "rules must be a list"),
        ("- a", "the file must be a map"),
        ("a: 1\n---\nb: 2", "a second document"),
    ],
)
def test_what_is_wrong_in_a_policy_is_told(text, what):
    with pytest.raises(BadInput) as caught:
        parse_policy(text, "policy.yaml")
    assert what in str(caught.value)
    assert "policy.yaml:" in str(caught.value)


def test_several_problems_are_told_at_once():
    with pytest.raises(ManyProblems) as caught:
        parse_policy("rules: [{kinds: [x]}]\nbudget: []", "policy.yaml")
    assert len(caught.value.problems) == 3


def test_a_broken_file_keeps_the_last_good_one_loudly(tmp_path):
    keyring, policy = tmp_path / "keyring.yaml", tmp_path / "policy.yaml"
    files = GateFiles(keyring, policy)
    assert files.current() is None
    assert "there is no keyring" in files.closed()
    keyring.write_text(keyring_text())
    policy.write_text(POLICY)
    good = files.current()
    assert good is not None
    assert (files.closed(), files.problems()) == ("", ())
    policy.write_text("rules: [oops")
    kept = files.current()
    assert kept == good
    assert any("last good version still holds" in line for line in files.problems())
    policy.write_text(POLICY + "\n")
    better = files.current()
    assert better is not None
    assert better.policy.digest != good.policy.digest
    assert files.problems() == ()
    keyring.write_text(keyring_text(bob="2026-12-01T00:00:00Z"))
    revoked = files.current()
    assert revoked is not None
    assert revoked.keyring.people[1].revoked
    keyring.unlink()
    assert files.current() is None


def test_a_key_exchanged_in_its_own_file_is_noticed(tmp_path):
    keyring, policy = tmp_path / "keyring.yaml", tmp_path / "policy.yaml"
    keyring.write_text("people: {bob: {roles: [a], keys: [bob.pub]}}")
    policy.write_text("")
    (tmp_path / "bob.pub").write_text(ssh_line("bob"))
    files = GateFiles(keyring, policy)
    first = files.current()
    (tmp_path / "bob.pub").write_text(ssh_line("carol"))
    second = files.current()
    assert first is not None
    assert second is not None
    assert first.keyring.owner(key_id("bob"))
    assert second.keyring.owner(key_id("carol"))


COMMENTED = f"""\
# Who may sign here. Ask Carol before you change anything.
people:
  # the boss
  alice: {{roles: [operator], keys: ["{ssh_line("alice")}"]}}   # since 2019

  bob:
    roles: [operator]   # night shift
    keys:
      # his laptop
      - "{ssh_line("bob")}"
# the end
"""


@pytest.mark.parametrize("person", ["alice", "bob", "eve"])
def test_a_new_key_leaves_every_other_line_as_it_is(person):
    new = with_key(COMMENTED, "k", person, NEW, () if person != "eve" else ("operator",))
    keyring = parse_keyring(new, "k", HERE)
    found = keyring.person(person)
    assert found is not None
    assert NEW.key_id in {key.key_id for key in found.keys}
    before, after = COMMENTED.splitlines(), new.splitlines()
    changed = [line for line in before if line not in after]
    assert len(changed) == (1 if person == "alice" else 0)
    assert all(line in after for line in before if "#" in line and "since 2019" not in line)
    assert "# since 2019" in new
    if person == "eve":
        assert found.roles == {"operator"}
        assert after[-1] == "# the end"


@pytest.mark.parametrize(
    "start", ["", "people:\n", "people: {}\n", "people: {}  # nobody yet\n", "# empty\n", "people:"]
)
def test_the_first_key_of_a_keyring(start):
    keyring = parse_keyring(with_key(start, "k", "eve", NEW, ("operator",)), "k", HERE)
    assert [(one.name, one.roles, one.keys[0].key_id) for one in keyring.people] == [("eve", {"operator"}, NEW.key_id)]
    assert all(line in with_key(start, "k", "eve", NEW) for line in start.splitlines() if "#" in line[:2])


def test_a_key_is_written_once_and_never_into_a_file_that_would_break(tmp_path):
    file = tmp_path / "keyring.yaml"
    file.write_text(COMMENTED)
    file.chmod(0o640)
    write_key(file, "eve", NEW, ("operator",))
    assert file.stat().st_mode & 0o777 == 0o640
    text = file.read_text()
    with pytest.raises(BadInput, match="in the keyring already, as eve's"):
        write_key(file, "bob", NEW)
    with pytest.raises(BadInput, match="other roles"):
        write_key(file, "bob", public_of(KEYS["dave"].public_key()), ("owner",))
    with pytest.raises(BadInput, match="no name"):
        write_key(file, "e v e", public_of(KEYS["dave"].public_key()))
    assert file.read_text() == text
    assert not [one for one in tmp_path.iterdir() if one != file]
    flow = tmp_path / "flow.yaml"
    flow.write_text(f'people: {{bob: {{roles: [a], keys: ["{ssh_line("bob")}"]}}}}\n')
    with pytest.raises(BadInput, match="written in one line"):
        write_key(flow, "eve", NEW)
    write_key(flow, "bob", NEW)
    assert len(parse_keyring(flow.read_text(), "k", HERE).people[0].keys) == 2
