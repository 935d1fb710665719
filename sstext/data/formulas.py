"""Cells of csv files that a spreadsheet would run as formulas."""

from sstext.progress import Reporter

#: What begins a formula in Excel, LibreOffice or Google Sheets. The wide forms count in East Asian editions.
_BEGINNINGS = tuple("=+-@\t\r\n＝＋－＠")


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet may run a cell. A number with a sign is no formula.

    >>> is_formula("=1+1"), is_formula("-1+cmd|' /C calc'!A0"), is_formula("-1.5"), is_formula("1 = 1")
    (True, True, False, False)
    """
    if not cell.startswith(_BEGINNINGS):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False


class Formulas:
    """Counts the cells that a spreadsheet may run, in names, labels and texts. With `quoted`, a ' makes them plain text.

    >>> formulas = Formulas(quoted=True)
    >>> formulas.cell("=1+1"), formulas.cell("late"), formulas.count
    ("'=1+1", 'late', 1)

    Attributes:
        count: number of such cells so far.
    """

    def __init__(self, quoted: bool = False) -> None:
        self.quoted, self.count = quoted, 0

    def cell(self, cell: str) -> str:
        """The cell as it is written."""
        if not is_formula(cell):
            return cell
        self.count += 1
        return f"'{cell}" if self.quoted else cell

    def note(self, name: str, reporter: Reporter, remedy: str = "--excel-safe writes them as plain text") -> None:
        """Say in one line that a file has such cells, if it has any."""
        if self.count:
            cells = f"{self.count:,} cells begin" if self.count > 1 else "1 cell begins"
            done = "a ' was put before each (--excel-safe)" if self.quoted else f"a spreadsheet may run them; {remedy}"
            reporter.note(f"{name}: {cells} like a formula (=, +, -, @, tab or line break); {done}")
