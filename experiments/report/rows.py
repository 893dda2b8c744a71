"""What a study measured: rows of names and numbers, as they lie in `rows.csv`."""

import csv
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np

from experiments.launch import run_folder

Row: TypeAlias = Mapping[str, Any]
ROWS, ARRAYS = "rows.csv", "arrays"


class Rows(Sequence[Row]):
    """Rows, and what they were measured with.

    Args:
        rows: The rows.
        options: Of the study.
        folder: Of the run; None where there is none.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        options: Mapping[str, Any] | None = None,
        folder: Path | None = None,
    ):
        self._rows, self.options, self.folder = list(rows), dict(options or {}), folder

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "Rows": ...
    def __getitem__(self, index: int | slice) -> "Row | Rows":
        """One row, or some."""
        if isinstance(index, slice):
            return self._some(self._rows[index])
        return self._rows[index]

    def __len__(self) -> int:
        """How many there are."""
        return len(self._rows)

    def where(self, **chosen: Any) -> "Rows":
        """Those with these entries."""
        return self._some(
            [row for row in self if all(row.get(name) == value for name, value in chosen.items())]
        )

    def among(self, column: str, values: Sequence[Any]) -> "Rows":
        """Those with one of these entries in a column."""
        return self._some([row for row in self if row.get(column) in values])

    def distinct(self, column: str) -> list[Any]:
        """All values of a column, each once, in order; None is none."""
        values = dict.fromkeys(row.get(column) for row in self)
        return [value for value in values if value is not None]

    def column(self, name: str) -> np.ndarray:
        """The numbers of a column, `(rows,)`; NaN where a row has none."""
        values = [row.get(name) for row in self]
        try:
            return np.array([np.nan if value is None else value for value in values], np.float64)
        except ValueError as error:
            raise ValueError(
                f"the column {name} of {ROWS} holds more than numbers: {error}"
            ) from error

    def sound(self, name: str) -> np.ndarray:
        """The numbers of a column, `(rows,)`; NaN as well where a run was frozen."""
        return np.where(self.column("frozen") > 0, np.nan, self.column(name))

    def has(self, name: str) -> bool:
        """Whether some row has an entry in a column."""
        return any(row.get(name) is not None for row in self)

    def groups(self, *names: str) -> Iterator[tuple[tuple[Any, ...], "Rows"]]:
        """Rows that have the same entries in some columns, in order of their first ones."""
        found: dict[tuple[Any, ...], list[Row]] = {}
        for row in self:
            found.setdefault(tuple(row.get(name) for name in names), []).append(row)
        for key, rows in found.items():
            yield key, self._some(rows)

    def arrays(self, job: str) -> dict[str, np.ndarray]:
        """What a job left beside its rows; nothing where it left none."""
        if self.folder is None or not (path := arrays_path(self.folder, job)).exists():
            return {}
        try:
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is damaged: {error}") from error

    def _some(self, rows: Sequence[Row]) -> "Rows":
        return Rows(rows, self.options, self.folder)


def arrays_path(folder: Path, job: str) -> Path:
    """Where arrays of a job lie."""
    name = re.sub(r"[^\w.]+", "_", job)
    return folder / ARRAYS / f"{name}.npz"


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Writes `rows.csv`, or replaces it; it is whole at any time."""
    file = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in row.items()
        }
        for row in rows
    )
    run_folder.write_whole(folder / ROWS, file.getvalue())


def read(folder: Path) -> list[Row]:
    """The rows of a run; none while there is no file.

    Raises:
        ValueError: If the file is damaged.
    """
    path = folder / ROWS
    return read_file(path) if path.exists() else []


def read_file(path: Path) -> list[Row]:
    """The rows of a file that `write` wrote, wherever it lies now.

    Raises:
        ValueError: If it is damaged.
    """
    return [row for _, row in read_lines(path)]


def read_lines(path: Path) -> list[tuple[int, Row]]:
    """As `read_file`, each row with the number of the line that it ends on.

    Raises:
        ValueError: If the file is damaged.
    """
    found = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            names = next(reader, [])
            for entries in reader:
                if entries and len(entries) != len(names):
                    raise ValueError(
                        f"{path} is damaged: line {reader.line_num} has {len(entries)} entries, "
                        f"and the first {len(names)}. If it was cut short, take the line out, or "
                        "copy the file anew"
                    )
                if entries:
                    row = {name: _parse(entry) for name, entry in zip(names, entries, strict=True)}
                    found.append((reader.line_num, row))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text: name a file of rows, as a run leaves it in {ROWS}"
        ) from error
    except (csv.Error, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return found


def _parse(text: str) -> Any:
    """An entry of a CSV: nothing, a truth value, a number, or else text."""
    known = {"": None, "True": True, "False": False}
    if text in known:
        return known[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
