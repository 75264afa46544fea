"""No byte that nobody signed is ever taken for signed; `hunt` can be asked for more."""

import os

import pytest

from tests.gate.mutations import Bed, hunt
from trueup.adapters import signing
from trueup.core import gate_webauthn
from trueup.model.gate_answers import OPERATION_TYPE

COUNT = int(os.environ.get("TRUEUP_MUTATIONS", "5000"))


def test_mutated_envelopes_are_refused_or_still_what_was_signed():
    tally = hunt(COUNT, seed=1)
    # Most changes break something, and some (order, junk beside good ones) leave what was signed as it was.
    assert tally["refused"] > COUNT / 2
    assert tally["signed"] > COUNT / 50


def test_the_hunt_finds_a_verifier_that_looks_away(monkeypatch):
    """It can fail: with signatures over the type alone, a changed payload is taken."""
    monkeypatch.setattr(signing, "pae", lambda kind, _payload: kind.encode())
    with pytest.raises(AssertionError, match="was taken"):
        hunt(2000, seed=1)


def test_the_hunt_finds_a_verifier_that_asks_no_browser_for_what_it_signed(monkeypatch):
    """Nor which statement a security key was asked to sign."""
    monkeypatch.setattr(gate_webauthn, "why_not", lambda *_: "")
    with pytest.raises(AssertionError, match="was taken"):
        hunt(2000, seed=1)


def test_what_was_signed_is_taken():
    bed = Bed(seed=1)
    assert {bed.taken(content) for content in bed.contents} == bed.signed
    assert all(kind == OPERATION_TYPE for kind, _ in bed.signed)
