"""The pages that say how to add something, followed to the letter."""

import re

import pytest

from bithep_lib import study
from bithep_lib.study import settings


def blocks(root, page, language="python"):
    text = (root / "book" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


@pytest.mark.parametrize("page", ["add_model.md", "add_data.md"])
def test_the_lines_of_a_page_run_as_they_stand(root, page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page}
    for block in blocks(root, page):
        exec(compile(block, page, "exec"), names)
    said = capsys.readouterr().out
    expected = {"add_model.md": ["inner.2", "valid_loss"], "add_data.md": ["500 ", "3 files", "True"]}
    assert all(text in said for text in expected[page])


def test_the_page_on_chapters_makes_a_chapter(root, tmp_path, monkeypatch):
    declaration, scales, parameters, setup, use = blocks(root, "add_chapter.md")
    names = dict(vars(settings))
    exec(declaration, names)
    new = eval("{" + scales + "}", names)
    monkeypatch.setitem(study.SCALES, "mass", new["mass"])
    cell = {}
    exec(parameters, cell)
    cell |= {"scale": "smoke", "output_dir": str(tmp_path)}
    for block in (setup, use):
        exec(block, cell)
    (row,) = study.records("mass", folder=tmp_path).to_dict("records")
    assert (row["jets"], row["quarks"]) == (200, 100)
