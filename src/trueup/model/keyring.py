"""Who may sign: people, their roles and their keys. People are counted, never keys.

Key ids are computed from a key's bytes when the keyring is read (`adapters.keyring_file`), so that no file and no
envelope can give one key two names.
"""

from collections.abc import Mapping

import msgspec


class PublicKey(msgspec.Struct, frozen=True, kw_only=True):
    """A public key.

    `public` is its text: PEM, or the line of an SSH key or a security key without comment. `aliases` are other ids that
    signers give to the same bytes (securesystemslib hashes the scheme along, and RSA has several). `algorithm`
    is for people: ed25519, rsa-3072, ecdsa-p256, sk-ed25519, webauthn-ecdsa-p256.
    """

    key_id: str
    algorithm: str
    public: str
    aliases: tuple[str, ...] = ()
    comment: str = ""


class RelyingParty(msgspec.Struct, frozen=True, kw_only=True):
    """The pages on which people sign in a browser with a security key, as WebAuthn names them.

    `rp_id` is the domain that their keys are enrolled for, `origins` are the pages' addresses as browsers write them
    (scheme, host, and the port unless it is the scheme's own). Empty = signatures made in a browser count nowhere.
    """

    rp_id: str = ""
    origins: tuple[str, ...] = ()


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may sign. `revoked` maps key ids to the instant (epoch ms) from which they count no more."""

    name: str
    roles: frozenset[str] = frozenset()
    keys: tuple[PublicKey, ...] = ()
    revoked: Mapping[str, int] = {}

    def key(self, key_id: str) -> PublicKey | None:
        """One of the person's keys."""
        return next((key for key in self.keys if key.key_id == key_id), None)


class Keyring(msgspec.Struct, frozen=True, kw_only=True):
    """All people. `digest` is the SHA-256 of the file, in hex; `warnings` are lines for whoever keeps it.

    `one_hand` maps people who share a key, directly or by others, to one name for all of them: nobody can tell who of
    them signed, so together they count as one.
    """

    people: tuple[Person, ...]
    digest: str = ""
    one_hand: Mapping[str, str] = {}
    warnings: tuple[str, ...] = ()

    def person(self, name: str) -> Person | None:
        """Somebody by name."""
        return next((person for person in self.people if person.name == name), None)

    def owner(self, key_id: str) -> Person | None:
        """Whose key it is; the first of those who share it."""
        return next((person for person in self.people if person.key(key_id) is not None), None)

    def hand(self, name: str) -> str:
        """The name under which somebody is counted."""
        return self.one_hand.get(name, name)


def shared_hands(people: tuple[Person, ...]) -> dict[str, str]:
    """Who shares a key with whom: each such person's name to the first name of their group."""
    hand = {person.name: person.name for person in people}
    first: dict[str, str] = {}
    for person in people:
        for key in person.keys:
            other = first.setdefault(key.key_id, person.name)
            old, new = hand[person.name], hand[other]
            if old != new:
                hand = {name: (new if group == old else group) for name, group in hand.items()}
    sizes: dict[str, int] = {}
    for group in hand.values():
        sizes[group] = sizes.get(group, 0) + 1
    return {name: group for name, group in hand.items() if sizes[group] > 1}
