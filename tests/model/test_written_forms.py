"""Durations, windows, secrets and errors as values."""

import contextlib
import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueup.model.durations import parse_duration
from trueup.model.errors import BadInput, ManyProblems
from trueup.model.settings import Secret
from trueup.model.windows import Window


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h", 3600),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("2d", 172_800),
        ("0s", 0),
        ("1.5h", 5400),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "30 s", "-5s", "1e3s", "5min", "1h-", "٣s", "9" * 30 + "s", "30s\n"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(BadInput, match="30s"):
        parse_duration(text)


@given(st.text(max_size=40))
def test_any_text_is_a_duration_or_bad_input(text):
    with contextlib.suppress(BadInput):
        assert parse_duration(text) >= 0


@pytest.mark.parametrize(
    ("text", "days", "start", "end"),
    [
        ("Sat 02:00-04:00 Europe/Berlin", {5}, 120, 240),
        ("Mon-Fri 22:00-02:00 UTC", {0, 1, 2, 3, 4}, 1320, 120),
        ("Sat,Sun 00:00-24:00 Etc/GMT+1", {5, 6}, 0, 1440),
        ("Fri-Mon 01:00-01:30 America/Argentina/Buenos_Aires", {4, 5, 6, 0}, 60, 90),
        ("02:00-04:00 UTC", {0, 1, 2, 3, 4, 5, 6}, 120, 240),
    ],
)
def test_windows(text, days, start, end):
    window = Window.parse(text)
    assert (set(window.days), window.start_min, window.end_min) == (days, start, end)
    assert text.endswith(window.zone)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sat",
        "Sat 2:00-4:00 UTC",
        "Sat 02:00-04:00",
        "Sat 25:00-26:00 UTC",
        "Sat 24:00-02:00 UTC",
        "sat 02:00-04:00 UTC",
        "Sat 02:00-02:00 UTC",
        "Sat  02:00-04:00 UTC",
        "Sat 02:00-04:00 ../etc/passwd",
        "Sat 02:00-04:60 UTC",
        "Sat, 02:00-04:00 UTC",
    ],
)
def test_what_is_no_window_is_refused(text):
    with pytest.raises(BadInput):
        Window.parse(text)


def test_a_secret_shows_itself_nowhere():
    secret = Secret("s3cret-value")
    assert secret.reveal() == "s3cret-value"
    assert "s3cret" not in f"{secret} {secret!r} {[secret]} %s" % (secret,)
    assert secret == Secret("s3cret-value") != Secret("other")
    assert hash(secret) == hash(Secret("s3cret-value"))
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)


def test_many_problems_are_a_line_each():
    problems = [BadInput(what="a", where="f:1:2"), BadInput(what="b", remedy="c")]
    error = ManyProblems(problems=problems)
    assert isinstance(error, BadInput)
    assert str(error) == "f:1:2: a\nb (c)"
    assert error.problems == tuple(problems)
