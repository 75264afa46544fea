"""What `trueup init` writes is valid as it stands, and nothing of the user's is ever replaced."""

import re

import pytest

from trueup.adapters import manifests
from trueup.edges import settings
from trueup.edges.starter import STARTER_FILES, write_starter
from trueup.model.errors import BadInput


def test_the_starter_is_valid_and_declares_nothing(tmp_path):
    written = write_starter(tmp_path / "new" / "lab")
    assert sorted(path.relative_to(tmp_path / "new" / "lab").as_posix() for path in written) == sorted(STARTER_FILES)
    read = settings.load(tmp_path / "new" / "lab" / "trueup.toml")
    assert read.cluster.name == "lab"
    assert manifests.load(read.manifests.path).guests == ()


def test_the_example_is_valid_once_its_hashes_are_gone(tmp_path):
    write_starter(tmp_path)
    file = tmp_path / "manifests" / "example.yaml"
    _, _, example = file.read_text().partition("#\n")
    file.write_text(re.sub(r"(?m)^# ?", "", example))
    assert [guest.name for guest in manifests.load(tmp_path / "manifests").guests] == ["web-1", "db-1"]


def test_the_settings_show_the_defaults(tmp_path):
    write_starter(tmp_path)
    file = tmp_path / "trueup.toml"
    shown = settings.load(file)
    text = file.read_text()
    file.write_text(text[: text.index("[store]")])
    assert settings.load(file) == shown


@pytest.mark.parametrize("name", sorted(STARTER_FILES))
def test_nothing_is_replaced(tmp_path, name):
    target = tmp_path / name
    target.parent.mkdir(exist_ok=True)
    target.write_text("mine")
    with pytest.raises(BadInput, match="is there already; nothing was written"):
        write_starter(tmp_path)
    assert target.read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [target]


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write"):
        write_starter(tmp_path / "file" / "below")
