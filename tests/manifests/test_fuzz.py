"""Whatever stands in a manifest file: guests, or problems that each have a place. Never anything else."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trueup.adapters.manifests import load
from trueup.model.errors import BadInput, ManyProblems

PLACE = re.compile(r"[^\n]*a\.yaml:[1-9][0-9]*:[1-9][0-9]*")
quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

WORDS = st.sampled_from(
    ["kind", "name", "vmid", "node", "power", "source", "config", "labels", "disruption", "restart", "window",
     "Defaults", "vmids", "snapshots", "backups", "schedule", "keep", "ignore", "pool", "cipassword", "file", "sshkeys",
     "after", "VirtualMachine", "Container", "clone", "template", "101", "0101", "no", "~", "true", "tags", "net0",
     "description", "<<", "&a", "*a", "!!str", "!x", "[", "]", "{", "}", ":", ",", "-", "\n", "  ", "\t", "'", '"', "|",
     "---\n", "#", ": ", "- ", "? ", "\ufeff", "\x85", "\u2028", "é", "1:2", "%YAML 1.2\n",
     "\\ud800", "\r\n", "\0"]
)  # fmt: skip


def check(folder, content):
    (folder / "a.yaml").write_bytes(content)
    try:
        load(folder)
    except BadInput as error:
        for problem in error.problems if isinstance(error, ManyProblems) else (error,):
            assert PLACE.fullmatch(problem.where), problem
            assert "\n" not in str(problem)


@quick
@given(st.binary(max_size=300))
def test_any_bytes(tmp_path, content):
    check(tmp_path, content)


@quick
@given(st.text(max_size=300))
def test_any_text(tmp_path, content):
    check(tmp_path, content.encode(errors="surrogatepass"))


@quick
@given(st.lists(WORDS, max_size=60))
def test_yaml_alike(tmp_path, words):
    check(tmp_path, "".join(words).encode())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10) | WORDS, inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["kind", "name", "vmid", "node", "power", "source", "config", "labels", "disruption", "after", "template", "pool",
     "snapshots", "backups", "ignore", "vmids"]
)  # fmt: skip


@quick
@given(st.dictionaries(KEYS, VALUES, max_size=10))
def test_well_formed_nonsense(tmp_path, document):
    yaml = pytest.importorskip("yaml")
    base = {"kind": "VirtualMachine", "name": "a", "vmid": 101, "node": "p"}
    check(tmp_path, yaml.safe_dump({**base, **document}, allow_unicode=True).encode(errors="surrogatepass"))


@quick
@given(st.dictionaries(KEYS, VALUES, max_size=10), st.dictionaries(KEYS, VALUES, max_size=6))
def test_well_formed_nonsense_under_nonsensical_defaults(tmp_path, document, defaults):
    yaml = pytest.importorskip("yaml")
    base = {"kind": "VirtualMachine", "name": "a", "vmid": 101, "node": "p"}
    both = [{**defaults, "kind": "Defaults"}, {**base, **document}]
    check(tmp_path, yaml.safe_dump_all(both, allow_unicode=True).encode(errors="surrogatepass"))
