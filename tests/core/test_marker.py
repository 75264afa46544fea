"""The marker survives PVE's handling of descriptions, and claims a guest on clear evidence only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from trueup.core.marker import clean, is_copy, render, split
from trueup.model.guests import Marker
from trueup.model.ids import OpId, Vmid

MARK = Marker(uid="0192-uid", installation="lab-1", vmid=Vmid(101), op_id=OpId("0192-op"), counter=3)
LINE = '<!-- trueup {"uid":"0192-uid","installation":"lab-1","vmid":101,"op":"0192-op","n":3} -->'

markers = st.builds(
    Marker,
    uid=st.text(min_size=1),
    installation=st.text(min_size=1),
    vmid=st.integers(100, 999_999_999).map(Vmid),
    op_id=st.text().map(OpId),
    counter=st.integers(0, 2**53),
)
texts = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from([LINE, "<!--", "trueup", " ", "-->", "\n", "\r\n", "text", "<!-- trueup ", "{", "%20"])
    ).map("".join),
)


def test_it_is_one_comment_on_a_last_line_of_its_own():
    assert render("Notes of the team", MARK) == f"Notes of the team\n{LINE}"
    assert render("", MARK) == LINE


@given(texts, markers)
def test_what_is_rendered_is_read_back(text, marker):
    assert split(render(text, marker)) == (clean(text), marker)


@given(texts, markers)
def test_it_survives_what_pve_does_to_the_ends_of_descriptions(text, marker):
    sent = render(text, marker)
    for back in (sent.rstrip("\n "), sent + "\n", sent + " \n", sent + "\n\n"):
        assert split(back) == (clean(text), marker)


@given(markers)
def test_no_value_can_end_the_comment_early(marker):
    inner = render("", marker)[len("<!-- ") : -len(" -->")]
    assert "--" not in inner
    assert ">" not in inner
    assert "\n" not in inner


@given(texts)
def test_splitting_anything_never_fails_and_keeps_the_text_of_what_claims_nothing(text):
    own, marker = split(text)
    if marker is None:
        assert own == text.rstrip()


@given(texts)
def test_cleaning_is_idempotent_and_leaves_nothing_that_looks_like_a_marker(text):
    assert clean(clean(text)) == clean(text)
    assert split(clean(text)) == (clean(text), None)


@pytest.mark.parametrize(
    "text",
    [
        LINE[:-5],
        LINE.replace("101", '"101"'),
        LINE.replace("101", "99"),
        LINE.replace("101", "1000000000"),
        LINE.replace('"uid":"0192-uid"', '"uid":""'),
        LINE.replace('"installation":"lab-1"', '"installation":""'),
        LINE.replace("<!-- ", "<!--\t"),
        LINE.replace(" -->", "\t-->"),
        LINE.replace('"n":3', '"n":-1'),
        LINE.replace('"n":3', '"m":3'),
        LINE.replace("{", "", 1),
        f"{LINE}\n{LINE}",
        f"destroy {LINE}",
        f"{LINE} and more",
        "<!-- trueup v1 uid=3f2a op=0192abcd -->",
        "<!-- trueup " + "[" * 3000 + " -->",
    ],
)
def test_a_damaged_double_or_foreign_marker_claims_nothing_and_stays_in_the_text(text):
    assert split(f"before\n{text}\nafter") == (f"before\n{text}\nafter", None)


def test_a_marker_that_people_wrote_below_still_claims():
    assert split(f"above\n{LINE}\nbelow\n") == ("above\nbelow", MARK)


def test_blanks_on_the_markers_line_go_with_it():
    assert split(f"above\n  {LINE} \nbelow") == ("above\nbelow", MARK)


def test_the_highest_vmid_is_one():
    assert split(LINE.replace("101", "999999999"))[1] == replace(MARK, vmid=Vmid(999_999_999))


def test_half_a_character_in_a_marker_is_read_as_a_question_mark():
    assert split(LINE.replace("0192-uid", "\ud800"))[1] == replace(MARK, uid="?")


def test_a_later_version_may_add_fields():
    assert split(LINE.replace('"n":3', '"n":3,"more":[1]')) == ("", MARK)


def test_a_marker_for_another_vmid_is_a_copy():
    assert is_copy(MARK, Vmid(102))
    assert not is_copy(MARK, Vmid(101))
