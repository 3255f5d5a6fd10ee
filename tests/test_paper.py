"""The published numbers: spot checks against the paper, completeness, and sources."""

import math

import pytest

from bithep_lib import paper

TABLES = (paper.TABLE_1, paper.TABLE_2, paper.TABLE_3, paper.TABLE_4)


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "error"),
    [
        (paper.TABLE_1, "P-DAT", "accuracy", 0.839, None),
        (paper.TABLE_1, "P-DAT", "AUC", 0.9092, None),
        (paper.TABLE_1, "P-DAT", "Rej50", 39.2, 0.6),
        (paper.TABLE_1, "P-DAT-Bit", "Rej30", 83.3, 1.2),
        (paper.TABLE_1, "P-DAT-Bit", "AUC", 0.9040, None),
        (paper.TABLE_1, "ParT", "Rej30", 129.5, 0.9),
        (paper.TABLE_1, "LorentzNet", "AUC", 0.9156, None),
        (paper.TABLE_2, "SMEFTNet", "separation power", 0.0001, None),
        (paper.TABLE_2, "SMEFTNet-Bit", "Wasserstein", 0.4546, None),
        (paper.TABLE_2, "SMEFTNet-Bit70", "separation power", 0.6138, None),
        (paper.TABLE_2, "SMEFTNet-Bit30", "separation power", 0.1503, None),
        (paper.TABLE_3, "ds1-photons NNCentral", "quantised (%)", 8.4, None),
        (paper.TABLE_3, "ds1-pions Default", "AUC low-level", 0.793, 0.003),
        (paper.TABLE_3, "ds2 BlockCentral", "quantised (%)", 71.4, None),
        (paper.TABLE_3, "ds2 BlockCentral", "AUC high-level", 0.979, None),
        (paper.TABLE_4, "energy quantized, shape full", "quantised (%)", 66.2, None),
        (paper.TABLE_4, "energy regular, shape regular", "AUC low-level", 0.531, 0.003),
    ],
)
def test_numbers(table, row, column, value, error):
    number = table[row, column]
    assert (number.value, number.error) == (value, error)
    assert number.source == f"{table.name}, row {row}, column {column}"


def test_the_tables_have_all_their_rows_and_columns():
    assert [(len(table.rows), len(table.columns)) for table in TABLES] == [(6, 4), (4, 2), (15, 3), (6, 3)]
    # Without BitLinear layers there is no quantised fraction, and no other empty cell.
    empty = {
        (row, column)
        for table in TABLES
        for row in table.rows
        for column in table.columns
        if (row, column) not in table.numbers
    }
    assert {column for _, column in empty} == {"quantised (%)"}
    assert {row.split(maxsplit=1)[-1] for row, _ in empty} == {"Default", "Exchange", "regular, shape regular"}


def test_what_is_not_known_is_said():
    assert paper.TABLE_1.missing == paper.TABLE_2.missing == ()
    # The scores of the quantised shower generators were not at hand; those of Default and of two BlockCentral were.
    assert len(paper.TABLE_3.missing) == 2 * (15 - 5)
    assert len(paper.TABLE_4.missing) == 2 * (6 - 1)
    assert "Table 3, row ds2 All, column AUC high-level" in paper.TABLE_3.missing
    assert str(paper.TABLE_4["energy regular, shape full", "AUC low-level"]) == "not known"


def test_every_number_has_a_source_and_a_sensible_value():
    for table in (*TABLES, paper.RELEASED_PREDICTIONS):
        for (_, column), number in table.numbers.items():
            assert number.source.startswith(table.name)
            if number.value is not None:
                ranges = {"accuracy": (0.5, 1), "Rej50": (10, 100), "Rej30": (10, 200), "quantised (%)": (0, 100)}
                low, high = ranges.get(column, (0, 2))
                assert low < number.value < high
            assert number.error is None or 0 < number.error < number.value
    assert all(number.source for number in paper.TEXT.values())
    assert all(table.fraction_rule for table in TABLES)


def test_a_table_prints_as_published():
    frame = paper.TABLE_1.frame()
    assert frame.loc["P-DAT-Bit"].tolist() == ["0.834", "0.9040", "35.0 ± 0.3", "83.3 ± 1.2"]
    assert frame.index.name == "Table 1"
    assert paper.TABLE_3.frame().loc["ds2 Default"].tolist() == ["–", "0.738 ± 0.004", "0.859 ± 0.002"]


def test_a_wrong_cell_lists_rows_and_columns():
    with pytest.raises(KeyError, match="Table 1 has no number in row 'P-DAT Bit'.*did you mean 'P-DAT-Bit'.*columns: "):
        paper.TABLE_1["P-DAT Bit", "AUC"]
    with pytest.raises(KeyError, match="Table 4 has no number in row 'energy regular, shape regular', column 'quan"):
        paper.TABLE_4["energy regular, shape regular", "quantised (%)"]


def test_released_predictions_follow_from_their_trainings():
    for row, values in paper.RELEASED_AUC.items():
        mean = sum(values) / 5
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / 4)
        number = paper.RELEASED_PREDICTIONS[row, "AUC"]
        assert round(mean, 4) == number.value
        assert round(spread, 4) == number.error
