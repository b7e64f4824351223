import os

import pytest

from wnlib.collection import files


def test_a_file_is_replaced_whole_and_its_folder_made(tmp_path):
    path = tmp_path / "new" / "file.txt"
    files.write(path, "one")
    files.write(path, "zwölf")
    assert path.read_text(encoding="utf-8") == "zwölf"
    assert os.listdir(path.parent) == ["file.txt"]


def test_on_an_error_the_old_file_stays_and_no_part_is_left(tmp_path):
    path = tmp_path / "file.txt"
    files.write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write(path, "half of it, then \ud800")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_no_link_is_followed_and_no_file_taken_for_a_part(tmp_path, monkeypatch):
    monkeypatch.setattr(files.secrets, "token_hex", lambda size: "foreseen")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".file.txt.foreseen.part").symlink_to(victim)
    with pytest.raises(FileExistsError):
        files.write(tmp_path / "file.txt", "new")
    assert victim.read_text() == "precious"
