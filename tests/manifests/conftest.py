"""An empty folder for manifests, in the working folder."""

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "manifests"
    path.mkdir()
    return path
