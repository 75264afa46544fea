"""The table of every remedy in the source, each with the test that does what it says.

A new remedy fails here until it stands in one of the lists: followed by a scenario, or told.
"""

import ast
import re
from pathlib import Path

import click

from tests.operator import (
    test_agent_by_hand,
    test_commands_by_hand,
    test_database_by_hand,
    test_files_by_hand,
    test_followed_by_hand,
    test_gate_by_hand,
    test_http_by_hand,
    test_journal_by_hand,
    test_refused_by_hand,
    test_rights_by_hand,
    test_to_do,
    test_written_gate,
    test_written_more,
    test_written_remedies,
)
from tests.operator.remedies import parsed, remedies
from trueup.edges.cli import root

HERE = Path(__file__).parent

CASES = "test_remedies.py::test_following_the_remedy_helps"
SEVERAL = "../settings/test_several.py::test_which_cluster_is_meant_has_to_be_said"
FOLLOWED_THERE = {
    "choose one with --cluster: {}": SEVERAL,
    "run `trueup init`, or name the file with --config": CASES,
    "`trueup apply` or `trueup agent` makes it": CASES,
    "look at `trueup plan`, then give --yes": CASES,
    "the records are sound: `trueup journal rebuild` makes the tables anew from them": CASES,
    "bring back the last good copy, or save what can be read with `trueup journal quarantine`": CASES,
    "compare guests with manifests, then `trueup journal acknowledge`": CASES,
    "see `trueup ops list`": CASES,
    "give a name or a vmid; see `trueup status`": CASES,
    "`trueup journal quarantine`": CASES,
    "`trueup journal rebuild`": "test_journal_upkeep.py::",
    "set PYKCS11LIB to the file of the token's PKCS#11 library, like /usr/lib/softhsm/libsofthsm2.so":
        "../gate/test_hsm.py::test_the_library_of_the_token_is_named",
    "as root on a node: {}; then run it again, it goes on from there":
        "test_keeper_setup.py::test_each_line_that_the_setup_shows_does_the_same_on_a_node",
    'write token_id = "{}!looking" into [cluster], then `trueup doctor --setup --keeper`':
        "test_keeper_setup.py::test_the_keeper_is_never_given_the_agents_rights",
    "`chronyc tracking` on {} and here says which one is wrong": "test_host_remedies.py::test_clocks",
    "bring nodes back; `pvecm status` on a node": "test_host_remedies.py::test_quorum",
    "compare it with `openssl x509 -noout -fingerprint -sha256 -in /etc/pve/local/pve-ssl.pem` on the node (or "
    "pveproxy-ssl.pem, if that is there) before you change it": "test_host_remedies.py::test_another_certificate",
    "chmod 600 {}": "test_host_remedies.py::test_a_journal_that_others_may_read",
}  # fmt: skip
"""Followed literally in another test."""

TOLD = {
    "it is planned anew": "what trueup itself does next",
    "it is asked for anew": "what trueup itself does next",
    "another agent took over; this one must stop": "it stops by itself",
    "this one must stop, and may stand by": "it stops by itself",
    "the node does not answer": "says more of what is wrong",
    "the node does not answer in time": "says more of what is wrong",
    "this PVE does not have the call, or there is no PVE behind the address": "says more of what is wrong",
    "send it again": "no sender is ever told so: a request that was taken is judged",
    "it was never written to": "says more of what is wrong",
    "Nothing.": "asks nothing",
    "The next pass plans the guest anew, later each time it fails.": "what trueup itself does next",
    "It is watched for a day, and if it shows up after all, an alarm says so.": "what trueup itself does next",
    "Do not give this vmid to another guest until this is settled.": "says what not to do",
    "see securesystemslib's documentation of this signer, and install what it needs": "hardware or a cloud's account",
}
"""Ask nothing of the reader, or what no test can do: each with its reason."""

LISTS = [
    module.FOLLOWED
    for module in (
        test_written_remedies,
        test_written_gate,
        test_written_more,
        test_followed_by_hand,
        test_gate_by_hand,
        test_files_by_hand,
        test_rights_by_hand,
        test_database_by_hand,
        test_agent_by_hand,
        test_to_do,
        test_journal_by_hand,
        test_commands_by_hand,
        test_http_by_hand,
        test_refused_by_hand,
    )
]
"""Followed in tables of other modules; what two of them have in common is followed in two ways."""


def test_each_remedy_stands_in_one_list() -> None:
    found = remedies()
    followed: set[str] = set().union(*LISTS)
    lists = [followed, set(FOLLOWED_THERE), set(TOLD)]
    listed = set().union(*lists)
    new = {remedy: modules for remedy, modules in found.items() if remedy not in listed}
    assert not new, "follow these in a test (see the lists here)"
    assert not sorted(listed - found.keys()), "these are no longer in the source"
    assert not {remedy for remedy in listed if sum(remedy in one for one in lists) > 1}


def named_commands() -> set[str]:
    """Every command of ours between backticks in the source, with the places of values left as they are."""
    found: set[str] = set()
    for tree in parsed().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"`trueup ([a-z][^`\n]*)`", node.value))
    return found


def test_every_command_that_a_text_names_is_there_with_its_options() -> None:
    named = named_commands()
    assert {"plan", "ops list", "journal quarantine", "request … --as PERSON"} <= named
    for line in sorted(named):
        command: click.Command = root.root
        options: set[str] = set()
        words = line.split()
        while words and isinstance(command, click.Group) and (below := _below(command, words[0])):
            command = below
            words.pop(0)
            options |= {name for one in command.params for name in one.opts}
        assert command is not root.root, line
        assert not (isinstance(command, click.Group) and words), line
        assert {word for word in words if re.fullmatch(r"-{1,2}[a-z][a-z-]*", word)} <= options | {"--help"}, line


def _below(group: click.Group, name: str) -> click.Command | None:
    return group.get_command(click.Context(group), name)


def test_the_tests_that_are_named_are_there() -> None:
    for place in FOLLOWED_THERE.values():
        file, _, name = place.partition("::")
        assert f"def {name or 'test_'}" in (HERE / file).read_text(encoding="utf-8"), place
