"""Files are written whole or not at all."""

from pathlib import Path

import pytest

from fusion.files import atomic, csv_text, write_csv, write_text


def test_a_file_appears_whole_in_folders_that_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "table.csv"
    with atomic(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == path.parent and not path.exists()
        with temporary.open("a") as file:
            file.write(" and half")
    assert path.read_text() == "half and half" and list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = write_text(tmp_path / "notes.txt", "old")
    with pytest.raises(ValueError, match="no more"), atomic(path) as temporary:
        temporary.write_text("ne")
        raise ValueError("no more")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "never"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_tables_as_text(tmp_path: Path) -> None:
    assert csv_text([["a", "b"], [1, "x,y"]]) == 'a,b\n1,"x,y"\n'
    assert write_csv(tmp_path / "t.csv", [{"a": 1, "b": 2}], ["b"]).read_text() == "b\n2\n"
