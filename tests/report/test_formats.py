"""What is read of the pipeline's files is checked: anybody may have opened one in a spreadsheet."""

from pathlib import Path

import pytest

from head3d.errors import UserError
from head3d.report import formats


def test_a_table_has_the_columns_that_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(UserError, match=r"a\.csv is missing; run `dvc repro` first"):
        formats.read_csv(path)
    path.write_text("step,value\n1,0.5\n")
    assert formats.read_csv(path, ("step", "value")).to_dict("list") == {"step": [1], "value": [0.5]}
    with pytest.raises(UserError, match=r"a\.csv has no column name, line; delete it and run"):
        formats.read_csv(path, ("name", "step", "line"))


@pytest.mark.parametrize("content", [b"", b"a\n1,2,3\n4\n5,6,7,8\n", "a\nGr\u00f6\u00dfe".encode("latin-1")])
def test_what_is_no_table_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.csv is no table that can be read \(.+\); delete it and run"):
        formats.read_csv(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{", r"is not JSON \(Expecting"), (b"\xff", "is not JSON"), (b"[1]", "holds a list; allowed: a dict; delete")],
)
def test_what_is_no_json_of_its_kind_is_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(UserError, match=r"a\.json is missing"):
        formats.read_json(path, dict)
    path.write_bytes(b'{"a": 1}')
    assert formats.read_json(path, dict) == {"a": 1}
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        formats.read_json(path, dict)
