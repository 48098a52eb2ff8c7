"""Tables from CSV and Parquet files, as text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reticent.errors import InputError

_MISSING = ["", "NA", "N/A", "NaN", "nan", "NULL"]


@dataclass(frozen=True)
class Table:
    """A table with at least one row; each cell is text without spaces around it, or None. `cells` are by column."""

    path: Path
    cells: Mapping[str, Sequence[str | None]]

    def __len__(self) -> int:
        """Rows without the header."""
        return len(next(iter(self.cells.values())))

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names, in the order of the file."""
        return tuple(self.cells)

    def column(self, name: str | None) -> Sequence[str | None]:
        """The cells of a column; of no column None throughout."""
        return [None] * len(self) if name is None else self.cells[name]

    def where(self, i: int) -> str:
        """File and row of row `i` as a spreadsheet shows it: the header is row 1."""
        return f"{self.path}, row {i + 2}"


def read_table(path: Path) -> Table:
    """Read a table, with commas, semicolons or tabs; raises InputError for what is none, or has no rows."""
    # Imported here: pandas takes a third of a second, and only tables need it.
    import pandas

    try:
        if path.suffix.lower() == ".parquet":
            # Whole numbers stored as floats (a column with gaps) must not turn patient 12 into "12.0".
            frame = pandas.read_parquet(path).convert_dtypes()
        else:
            frame = pandas.read_csv(
                path, sep=_separator(path), dtype=str, keep_default_na=False, na_values=_MISSING, encoding="utf-8-sig"
            )
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); save it as CSV in UTF-8") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable manifest ({error})") from error
    if frame.empty:
        raise InputError(f"{path}: the manifest has no rows; list one record a row")
    return Table(path, {str(name): _texts(frame[name].astype("string").str.strip()) for name in frame.columns})


def _texts(values: Iterable[object]) -> list[str | None]:
    return [value if isinstance(value, str) and value else None for value in values]


def _separator(path: Path) -> str:
    """A comma, unless the header has more semicolons or tabs."""
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline()
    return max(",;\t", key=header.count)
