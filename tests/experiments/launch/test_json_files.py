from dataclasses import dataclass
from typing import Any, Literal

import pytest

from experiments.launch import json_files


@dataclass
class Sizes:
    width: int = 1
    rates: tuple[float, ...] = ()
    name: str | None = None


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (1, int),
        (1, float),
        (1.5, float),
        (None, int | None),
        ([1, 2], list[int]),
        ([1, 2.5], tuple[float, float]),
        ({"a": [1]}, dict[str, list[int]]),
        ({"width": 2, "rates": [0.1], "later": "x"}, Sizes),
        ({"a": 1, "more": 2}, {"a": int, "b?": str}),
        ("inf", float | Literal["inf"]),
        ([{}], Any),
    ],
)
def test_what_fits(value, shape):
    json_files.check(value, shape)


@pytest.mark.parametrize(
    ("value", "shape", "message"),
    [
        ("2", int, 'it is "2", and not a whole number'),
        (True, int, "it is true, and not a whole number"),
        (True, float, "not a finite number"),
        (10**400, float, "not a finite number"),
        ("x" * 1000, int, r"x\.\.\., and not"),
        ([1, "x"], list[int], r'\[1\] is "x"'),
        ([1], tuple[float, float], "not 2 values"),
        ({"a": {"b": 5}}, dict[str, dict[str, str]], r"a\.b is 5, and not text"),
        ({"rates": [None]}, Sizes, r"rates\[0\] is null"),
        ({}, {"a": int}, "it has no 'a'"),
        (5, {"a": int}, "not an object"),
        ("much", float | Literal["inf"], "not a finite number or "),
    ],
)
def test_what_does_not_fit(value, shape, message):
    with pytest.raises(ValueError, match=message):
        json_files.check(value, shape)


@pytest.mark.parametrize(
    "text",
    ["", "{", "NaN", "[Infinity]", "\0", "[" * 100_000, '{"a":' * 5000, "[" * 60 + "]" * 60, "[]"],
)
def test_a_damaged_file_is_named(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(json_files.DamagedFileError, match=r"x\.json is damaged: ") as raised:
        json_files.read(tmp_path / "x.json", dict[str, Any])
    assert len(str(raised.value)) < 400


def test_no_file_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        json_files.read(tmp_path / "x.json")
    with pytest.raises(json_files.DamagedFileError, match="is no file"):
        json_files.read(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(json_files.DamagedFileError, match="is damaged"):
        json_files.read(tmp_path / "bytes")
