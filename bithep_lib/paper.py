"""What the paper printed: every number of arXiv:2504.03387 that the book compares with, and where it stands there.

    >>> from bithep_lib import paper
    >>> paper.TABLE_1["P-DAT-Bit", "AUC"].value
    0.904
    >>> paper.TABLE_1["P-DAT-Bit", "AUC"].source
    'Table 1, row P-DAT-Bit, column AUC'

Nothing here was measured by this project. Numbers the authors released but did not print are in `RELEASED_PREDICTIONS`.
A number that is printed in the paper and was not at hand when this file was written has the value None; the table's
`missing` lists those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd

from bithep_lib.suggest import did_you_mean


@dataclass(frozen=True)
class Number:
    """One published number.

    Attributes:
        value: as printed; None when it is not known here.
        error: the printed uncertainty, None when there is none.
        source: its place, for instance ``"Table 1, row P-DAT-Bit, column AUC"``.
        digits: decimals as printed.
    """

    value: float | None
    error: float | None
    source: str
    digits: int = 0

    def __str__(self) -> str:
        if self.value is None:
            return "not known"
        shown = f"{self.value:.{self.digits}f}"
        return shown if self.error is None else f"{shown} ± {self.error:.{self.digits}f}"


@dataclass(frozen=True)
class Table:
    """A table of the paper: ``table[row, column]`` is a `Number`.

    Attributes:
        name: ``"Table 1"``.
        columns: its columns of numbers.
        numbers: (row, column) to number; a cell the paper leaves empty is not there.
        fraction_rule: how the table counts its quantised fraction, where it has one.
        note: what a reader of the table has to know.
    """

    name: str
    columns: tuple[str, ...]
    numbers: Mapping[tuple[str, str], Number] = field(repr=False)
    fraction_rule: str = ""
    note: str = ""

    def __getitem__(self, cell: tuple[str, str]) -> Number:
        if cell not in self.numbers:
            row, column = cell
            raise KeyError(
                f"{self.name} has no number in row {row!r}, column {column!r}"
                f"{'' if row in self.rows else did_you_mean(row, self.rows)}"
                f"; rows: {', '.join(self.rows)}; columns: {', '.join(self.columns)}"
            )
        return self.numbers[cell]

    def __iter__(self) -> Iterator[Number]:
        return iter(self.numbers.values())

    @property
    def rows(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row for row, _ in self.numbers))

    @property
    def missing(self) -> tuple[str, ...]:
        """Where the numbers stand that the paper prints and this file does not know."""
        return tuple(number.source for number in self if number.value is None)

    def frame(self) -> pd.DataFrame:
        """The table as it is printed, values with their errors as strings; an empty cell is ``–``."""
        cells = {(row, column): str(number) for (row, column), number in self.numbers.items()}
        return pd.DataFrame(
            [[cells.get((row, column), "–") for column in self.columns] for row in self.rows],
            index=pd.Index(self.rows, name=self.name),
            columns=list(self.columns),
        )


def _table(name: str, text: str, fraction_rule: str = "", note: str = "") -> Table:
    """Read a table written as text: ``|`` between columns, ``±`` before an error, ``–`` if empty, ``?`` unknown."""
    header, *lines = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    columns = tuple(header[1:])
    numbers = {}
    for row, *cells in lines:
        for column, cell in zip(columns, cells, strict=True):
            if cell == "–":
                continue
            source = f"{name}, row {row}, column {column}"
            value, _, error = (part.strip() for part in cell.partition("±"))
            numbers[row, column] = (
                Number(None, None, source)
                if cell == "?"
                else Number(float(value), float(error) if error else None, source, len(value.partition(".")[2]))
            )
    return Table(name, columns, numbers, fraction_rule, note)


TABLE_1 = _table(
    "Table 1",
    """
                | accuracy | AUC    | Rej50      | Rej30
    ParticleNet | 0.840    | 0.9116 | 39.8 ± 0.2 | 98.6 ± 1.3
    PCT         | 0.841    | 0.9140 | 43.2 ± 0.7 | 118.0 ± 2.2
    LorentzNet  | 0.844    | 0.9156 | 42.4 ± 0.4 | 110.2 ± 1.3
    ParT        | 0.849    | 0.9203 | 47.9 ± 0.5 | 129.5 ± 0.9
    P-DAT       | 0.839    | 0.9092 | 39.2 ± 0.6 | 95.1 ± 1.3
    P-DAT-Bit   | 0.834    | 0.9040 | 35.0 ± 0.3 | 83.3 ± 1.2
    """,
    fraction_rule="weights and biases of BitLinear layers / all parameters, layers that are never called included",
    note="Quark-gluon tagging. Errors: standard deviation over five trainings. The first four rows, and presumably the "
    "fifth, are quoted from the models' own papers.",
)

TABLE_2 = _table(
    "Table 2",
    """
                      | Wasserstein | separation power
    SMEFTNet          | 0.0021      | 0.0001
    SMEFTNet-Bit      | 0.4546      | 1.4860
    SMEFTNet-Bit70    | 0.2528      | 0.6138
    SMEFTNet-Bit30    | 0.1040      | 0.1503
    """,
    fraction_rule="weights of BitLinear layers / weights of all linear layers",
    note="Regression of the decay angle; each row against the reference SMEFTNet, the first a second training. The "
    "separation power was summed over 100 bins of a density without their width 2 pi / 100, so that it can exceed 1.",
)

TABLE_3 = _table(
    "Table 3",
    """
                                   | quantised (%) | AUC low-level | AUC high-level
    ds1-photons Default            | –             | 0.633 ± 0.003 | 0.656 ± 0.003
    ds1-photons Exchange           | –             | ?             | ?
    ds1-photons NNCentral          | 8.4           | ?             | ?
    ds1-photons BlockCentral       | 66.6          | 0.680         | 0.669
    ds1-photons All                | 99.9          | ?             | ?
    ds1-pions Default              | –             | 0.793 ± 0.003 | 0.742 ± 0.003
    ds1-pions Exchange             | –             | ?             | ?
    ds1-pions NNCentral            | 5.9           | ?             | ?
    ds1-pions BlockCentral         | 66.6          | ?             | ?
    ds1-pions All                  | 99.9          | ?             | ?
    ds2 Default                    | –             | 0.738 ± 0.004 | 0.859 ± 0.002
    ds2 Exchange                   | –             | ?             | ?
    ds2 NNCentral                  | 0.3           | ?             | ?
    ds2 BlockCentral               | 71.4          | 0.950         | 0.979
    ds2 All                        | 99.9          | ?             | ?
    """,
    fraction_rule="weights and biases of BitLinear layers / all trainable parameters (BatchNorm and ActNorm included, "
    "permutations excluded)",
    note="CaloINN. Errors: spread of ten classifiers on one generated sample; retraining the generator is not in them.",
)

TABLE_4 = _table(
    "Table 4",
    """
                                         | quantised (%) | AUC low-level | AUC high-level
    energy regular, shape regular        | –             | 0.531 ± 0.003 | 0.523 ± 0.003
    energy quantized, shape regular      | 5.5           | ?             | ?
    energy regular, shape no embedding   | 58.5          | ?             | ?
    energy quantized, shape no embedding | 63.9          | ?             | ?
    energy regular, shape full           | 60.7          | ?             | ?
    energy quantized, shape full         | 66.2          | ?             | ?
    """,
    fraction_rule="weights and biases of BitLinear layers / all trainable parameters of both networks",
    note="CaloDREAM on data set 2. The exact fractions 58.446 and 63.990 round to 58.4 and 64.0.",
)

TEXT: Mapping[str, Number] = {
    "P-DAT-Bit quantised (%)": Number(63.0, None, "section 3, text"),
    "P-DAT-Bit quantised, figure 2 (%)": Number(60.0, None, "text on Figure 2"),
    "P-DAT trainings": Number(5.0, None, "caption of Table 1"),
    "jets for training": Number(1_600_000.0, None, "section 3, data"),
    "jets for validation": Number(200_000.0, None, "section 3, data"),
    "jets for testing": Number(200_000.0, None, "section 3, data"),
    "constituents": Number(100.0, None, "section 3, data"),
    "SMEFTNet-Bit70 quantised (%)": Number(70.0, None, "section 4, text"),
    "SMEFTNet-Bit30 quantised (%)": Number(30.0, None, "section 4, text"),
    "energy network quantised (%)": Number(66.09, None, "section 5, text", 2),
    "shape network quantised, no embedding (%)": Number(63.8, None, "section 5, text", 1),
    "shape network quantised, full (%)": Number(66.22, None, "section 5, text", 2),
    "CaloChallenge CaloINN ds1-photons AUC low-level": Number(0.626, 0.004, "section 5, text", 3),
    "CaloChallenge CaloINN ds1-photons AUC high-level": Number(0.638, 0.003, "section 5, text", 3),
    "CaloChallenge CaloINN ds1-pions AUC low-level": Number(0.784, 0.002, "section 5, text", 3),
    "CaloChallenge CaloINN ds1-pions AUC high-level": Number(0.732, 0.002, "section 5, text", 3),
    "CaloChallenge CaloINN ds2 AUC low-level": Number(0.743, 0.002, "section 5, text", 3),
    "CaloChallenge CaloINN ds2 AUC high-level": Number(0.865, 0.003, "section 5, text", 3),
    "CaloChallenge CaloDREAM ds2 AUC low-level": Number(0.531, 0.003, "section 5, text", 3),
    "CaloChallenge CaloDREAM ds2 AUC high-level": Number(0.521, 0.002, "section 5, text", 3),
}
"""Numbers of the running text."""

RELEASED_PREDICTIONS = _table(
    "Released predictions",
    """
              | accuracy        | AUC             | Rej50      | Rej30
    P-DAT     | 0.8380 ± 0.0008 | 0.9063 ± 0.0009 | 35.3 ± 1.3 | 69.7 ± 4.6
    P-DAT-Bit | 0.8338 ± 0.0019 | 0.9036 ± 0.0015 | 33.0 ± 1.8 | 65.2 ± 6.2
    """,
    note="Not in the paper: five trainings of each on 200 000 test jets, evaluated from the prediction files in the "
    "authors' repository (branch paper_plots). Errors: standard deviation over the trainings (ddof 1). The scores were "
    "calibrated isotonically, and plateaus at high purity make the rejections lower limits.",
)

RELEASED_AUC: Mapping[str, tuple[float, ...]] = {
    "P-DAT": (0.90486, 0.90612, 0.90657, 0.90692, 0.90702),
    "P-DAT-Bit": (0.90192, 0.90454, 0.90207, 0.90511, 0.90426),
}
"""The AUC of each training behind `RELEASED_PREDICTIONS`, in the order of the files' numbers."""
