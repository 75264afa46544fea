"""JSON as it may be signed, at its edges: each byte more is one too many."""

import re

import pytest

from trueup.core.gate_json import Fields, read_object
from trueup.model import limits
from trueup.model.gate import Refusal
from trueup.model.gate_answers import GateRefused


def why(content: bytes) -> tuple[Refusal, str]:
    with pytest.raises(GateRefused) as no:
        read_object(content, "it")
    return no.value.refusal, no.value.what


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_what_is_read() -> None:
    content = b'{"a": {"b": [1, "x", true]}, "n": 999999999999999999, "zero": 0}'
    assert read_object(content, "it") == {"a": {"b": [1, "x", True]}, "n": 10**18 - 1, "zero": 0}
    assert read_object(nested(limits.REQUEST_DEPTH_MAX), "it")
    assert read_object(b'{"a": "' + b"[{" * 99 + rb"\"[[" + b'"}', "it")
    beside = b'{"a": [' + b"[{}]," * limits.REQUEST_DEPTH_MAX + b"1]}"  # what is closed again is not deep
    assert len(read_object(beside, "it")["a"]) == limits.REQUEST_DEPTH_MAX + 1  # type: ignore[arg-type]
    assert read_object(b'{"a": "\\ud83d\\ude00"}', "it") == {"a": "😀"}
    assert read_object(b'{"a": 1}'.ljust(limits.REQUEST_MAX_BYTES), "it") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (nested(limits.REQUEST_DEPTH_MAX + 1), "nested deeper"),
        (b'{"a": "x\\\\", "b": ' + nested(limits.REQUEST_DEPTH_MAX) + b"}", "nested deeper"),
        (b'{"a": [[[]]], "b": ' + b"[" * limits.REQUEST_DEPTH_MAX, "nested deeper"),
        (b'{"b": ' + b"{" * limits.REQUEST_DEPTH_MAX, "nested deeper"),
        (b'{"a": 1, "a": 1}', "a key twice"),
        (b'{"x": {"a": 1, "a": 2}}', "a key twice"),
        (b'{"a": 1.0}', "fraction"),
        (b'{"a": 1e3}', "fraction"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "NaN"),
        (b'{"a": -1}', "negative or too large"),
        (b'{"a": 1000000000000000000}', "negative or too large"),
        (b'{"a": ["\\ud800"]}', "half of a surrogate"),
        (b'{"\\udc00": 1}', "half of a surrogate"),
        (b'{"a": {"b": "\\ud800"}}', "half of a surrogate"),
        (b"[]", "it is no object"),
        (b'"text"', "it is no object"),
        (b"{", "it is no JSON"),
        (b"", "it is no JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "it is no JSON"),
        (b'{"a": "\xff"}', "it is no JSON"),
    ],
)
def test_what_has_no_single_reading_is_malformed(content: bytes, text: str) -> None:
    refusal, said = why(content)
    assert refusal is Refusal.MALFORMED
    assert text in said.replace("it is malformed: ", "")


def test_one_byte_too_many_is_too_large() -> None:
    assert why(b'{"a": 1}'.ljust(limits.REQUEST_MAX_BYTES + 1)) == (
        Refusal.TOO_LARGE,
        f"it is larger than {limits.REQUEST_MAX_BYTES // 1024} KiB",
    )


# -- fields -----------------------------------------------------------------------------------------------------------

DIGITS = re.compile("[0-9]*")


def fields() -> Fields:
    return Fields({"n": 1, "t": "12", "b": True, "l": [], "o": {}, "e": ""}, "the thing")


@pytest.mark.parametrize(
    ("name", "kind", "complaint"),
    [
        ("n", str, "n must be a text"),
        ("b", int, "b must be a whole number"),
        ("n", bool, "n must be true or false"),
        ("t", list, "t must be a list"),
        ("l", dict, "l must be an object"),
        ("x", str, "x is missing"),
    ],
)
def test_a_field_is_of_exactly_its_type(name: str, kind: type, complaint: str) -> None:
    with pytest.raises(GateRefused) as no:
        fields().take(name, kind)
    assert (no.value.refusal, no.value.what) == (Refusal.MALFORMED, f"the thing: {complaint}")


def test_each_field_is_taken_once_and_none_may_be_left() -> None:
    some = fields()
    assert [some.take("n", int), some.take("b", bool), some.take("l", list), some.any_of("o")] == [1, True, [], {}]
    assert some.take("n", int, default=7) == 7
    assert some.any_of("o") is None
    with pytest.raises(GateRefused, match="it has 2 unknown fields"):
        some.done()
    some.take("t", str)
    with pytest.raises(GateRefused, match=r"it has 1 unknown field$"):
        some.done()
    some.take("e", str)
    some.done()


def test_a_text_has_its_form_and_its_length() -> None:
    assert fields().text("t", DIGITS, longest=2) == "12"
    assert fields().text("x", DIGITS, longest=2, default="no") == "no"
    assert fields().text("e", re.compile("x"), longest=2, default="") == ""
    with pytest.raises(GateRefused, match="t is longer than 1 characters"):
        fields().text("t", DIGITS, longest=1)
    with pytest.raises(GateRefused, match=r"must have \(letters\)$"):
        fields().text("t", re.compile("[a-z]"), longest=2, hint="letters")
    with pytest.raises(GateRefused, match=r"must have$"):
        fields().text("t", re.compile("1"), longest=2)
