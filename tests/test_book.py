"""The book: built strictly, the same bytes twice, and read in a browser that has no network."""

import filecmp
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import Browser, browser_required, find_browser
from bs4 import BeautifulSoup

from tools import book
from tools.formulas import Formula, errors, formulas


@pytest.fixture(scope="session")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book, built from the committed outputs; any warning of Sphinx raises."""
    return book.build(tmp_path_factory.mktemp("book"), executed=False)


@pytest.fixture(scope="session")
def tab():
    program = find_browser()
    if program is None:
        message = "no Chromium on this machine: the book was not opened in a browser"
        pytest.fail(message) if browser_required() else pytest.skip(message)
    with Browser(program) as opened:
        yield opened


@pytest.fixture(scope="session")
def entries() -> list[str]:
    return book.toc_entries()


# --- the build ----------------------------------------------------------------------------------------------------


def test_every_entry_of_the_table_of_contents_has_its_page(html, entries):
    assert len(entries) >= 6
    assert book.missing_pages(html) == []


def test_a_missing_page_is_noticed(html, tmp_path):
    copy = tmp_path / "html"
    shutil.copytree(html / "book", copy / "book")
    (copy / "book" / "glossary.html").unlink()
    assert "book/glossary" in book.missing_pages(copy)


def test_every_notebook_is_in_the_book(entries, root):
    notebooks = {f"notebooks/{path.stem}" for path in (root / "notebooks").glob("*.ipynb")}
    assert notebooks == {entry for entry in entries if entry.startswith("notebooks/")}


def differences(left: Path, right: Path) -> list[str]:
    """Files that one of two folders lacks or that differ in content."""
    found = []

    def compare(pair: filecmp.dircmp) -> None:
        _, different, odd = filecmp.cmpfiles(pair.left, pair.right, pair.common_files, shallow=False)
        found.extend(f"{pair.left}/{name}" for name in pair.left_only + pair.right_only + different + odd)
        for below in pair.subdirs.values():
            compare(below)

    compare(filecmp.dircmp(left, right, ignore=[]))
    return found


def test_two_builds_are_the_same_to_the_byte(html, tmp_path):
    again = book.build(tmp_path, executed=False)
    assert differences(html, again) == []
    page = again / "book" / "glossary.html"
    page.write_text(page.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert differences(html, again) == [str(html / "book" / "glossary.html")]


@pytest.mark.parametrize("fault", ["{cite:p}`nosuch2099`", "{numref}`fig-nosuch`", "[gone](gone.md)", "{nosuch}`role`"])
def test_the_strict_build_refuses(fault, tmp_path):
    stage = book.make_stage(tmp_path / "stage", {})
    (stage / "_toc.yml").write_text("format: jb-book\nroot: book/intro\nchapters:\n  - file: book/bibliography\n")
    (stage / "book" / "intro.md").write_text(f"# Welcome\n\n{fault}\n")
    with pytest.raises(book.BookError, match="build failed"):
        book.jupyter_book(stage, tmp_path)


def test_the_state_of_everything_that_an_execution_depends_on_is_in_its_key(root, tmp_path, monkeypatch):
    copy = tmp_path / "clone"
    (copy / "bithep_lib" / "data" / "samples").mkdir(parents=True)
    (copy / "requirements.lock").write_text("torch==2.13.0\n")
    (copy / "bithep_lib" / "bitlinear.py").write_text("levels = 127\n")
    (copy / "bithep_lib" / "data" / "samples" / "jets.npz").write_bytes(b"0")
    monkeypatch.setattr(book, "ROOT", copy)
    digests = {book.library_digest()}
    for name in ("requirements.lock", "bithep_lib/bitlinear.py", "bithep_lib/data/samples/jets.npz"):
        (copy / name).write_text("changed")
        digests.add(book.library_digest())
    assert len(digests) == 4
    (copy / "bithep_lib" / "__pycache__").mkdir()
    (copy / "bithep_lib" / "__pycache__" / "x.pyc").write_text("compiled")
    assert book.library_digest() in digests


# --- formulas -----------------------------------------------------------------------------------------------------


def test_every_formula_parses(html):
    found = formulas(html)
    assert len(found) > 10
    assert errors(found) == []


@pytest.mark.parametrize("latex", [r"\frac{1}{2", r"\nosuchmacro{x}", r"a & b", r"\left( x"])
def test_broken_latex_is_noticed(latex):
    (message,) = errors([Formula("page.html", r"x^2", False), Formula("page.html", latex, True)])
    assert message.startswith("page.html: ")


def test_broken_latex_is_found_in_a_page(tmp_path):
    (tmp_path / "a.html").write_text(r'<p><span class="math notranslate nohighlight">\(\frac{1}{\)</span></p>')
    assert len(errors(formulas(tmp_path))) == 1


# --- links --------------------------------------------------------------------------------------------------------


def broken_links(html: Path) -> list[str]:
    """Links, pictures, scripts and styles of the built pages that lead to no file or no place in it."""
    soups = {page: BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser") for page in html.rglob("*.html")}
    anchors = {page: {tag["id"] for tag in soup.find_all(id=True)} for page, soup in soups.items()}
    broken = []
    for page, soup in soups.items():
        if "_static" in page.parts:
            continue
        for tag in soup.find_all(["a", "img", "script", "link"]):
            target = tag.get("href") or tag.get("src")
            if not target or urlsplit(target).scheme or target.startswith(("//", "data:", "javascript:")):
                continue
            parts = urlsplit(target)
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if file.is_dir():
                file = file / "index.html"
            if not file.exists():
                broken.append(f"{page.relative_to(html)}: {target}")
            elif parts.fragment and file in anchors and unquote(parts.fragment) not in anchors[file]:
                broken.append(f"{page.relative_to(html)}: {target}: no such place")
    return broken


def test_every_internal_link_leads_somewhere(html):
    assert broken_links(html) == []


def test_a_broken_link_is_noticed(tmp_path):
    (tmp_path / "a.html").write_text('<p id="here"><a href="a.html#here">1</a><a href="a.html#gone">2</a></p>')
    (tmp_path / "b.html").write_text('<img src="gone.png">')
    assert sorted(broken_links(tmp_path)) == ["a.html: a.html#gone: no such place", "b.html: gone.png"]


# --- in a browser -------------------------------------------------------------------------------------------------

FORMULAS = "document.querySelectorAll('.math.notranslate').length"
RENDERED = f"document.querySelectorAll('.math.notranslate mjx-container').length >= {FORMULAS}"
UNDEFINED = "document.querySelectorAll('mjx-merror, [data-mjx-error], mjx-mtext[style*=\"red\"]').length"
HIDDEN_FIGURES = """
Array.from(document.querySelectorAll('article img')).filter(
  image => !(image.complete && image.naturalWidth > 0 && image.getBoundingClientRect().width > 0)
).map(image => image.src.slice(0, 100))
"""
# What is folded (solutions, hidden cells) has no size until it is opened.
UNFOLD = "document.querySelectorAll('details').forEach(block => block.open = true); \
document.querySelectorAll('.toggle-hidden').forEach(block => block.classList.remove('toggle-hidden')); true"


def outside(requested: list[str]) -> list[str]:
    """Requests that need a network."""
    return [address for address in requested if not address.startswith(("file:", "data:", "blob:", "about:"))]


@pytest.mark.browser
def test_pages_read_without_a_network(html, tab, entries):
    tab.resize(1280, 900)
    formulas_seen = 0
    for entry in entries:
        tab.open((html / f"{entry}.html").as_uri())
        tab.evaluate(UNFOLD)
        count = tab.evaluate(FORMULAS)
        if count:
            assert tab.wait_for(RENDERED), f"{entry}: formulas were not rendered"
            assert tab.evaluate(UNDEFINED) == 0, f"{entry}: a formula shows an error"
        formulas_seen += count
        tab.wait_for(f"({HIDDEN_FIGURES}).length === 0", seconds=5)
        assert tab.evaluate(HIDDEN_FIGURES) == [], entry
        assert outside(tab.requested) == [], entry
        assert tab.complaints == [], entry
    assert formulas_seen > 10


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_shows_every_page_without_scrolling_sideways(html, tab, entries, theme):
    tab.resize(360, 740)
    for entry in entries:
        tab.open((html / f"{entry}.html").as_uri())
        tab.evaluate(f"document.documentElement.dataset.theme = '{theme}'; {UNFOLD}")
        if tab.evaluate(FORMULAS):
            assert tab.wait_for(RENDERED), entry
        wide = tab.evaluate("document.documentElement.scrollWidth")
        assert wide <= 362, f"{entry} is {wide} pixels wide on a phone of 360"


@pytest.mark.browser
def test_the_browser_tests_can_fail(tab, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        '<article><img src="gone.png"><img src="http://figures.example/x.png">'
        r'<span class="math notranslate">\(x\)</span></article>'
    )
    tab.open(page.as_uri())
    assert tab.evaluate(FORMULAS) == 1
    assert not tab.wait_for(RENDERED, seconds=0.3)
    assert len(tab.evaluate(HIDDEN_FIGURES)) == 2
    assert outside(tab.requested) == ["http://figures.example/x.png"]
    assert tab.complaints


@pytest.mark.browser
@pytest.mark.parametrize(("word", "page"), [("straight-through", "book/glossary"), ("papermill", "book/how_to_run")])
def test_search_works_from_the_disk(html, tab, word, page):
    tab.resize(1280, 900)
    tab.open(f"{(html / 'search.html').as_uri()}?q={word}")
    found = "Array.from(document.querySelectorAll('#search-results li a')).map(link => link.href)"
    assert tab.wait_for(f"({found}).some(link => link.includes('{page}.html'))"), f"{word} was not found in {page}"
    assert outside(tab.requested) == []


@pytest.mark.browser
def test_a_word_that_is_nowhere_is_not_found(html, tab):
    tab.open(f"{(html / 'search.html').as_uri()}?q=qqzzxxyy")
    assert tab.wait_for("document.querySelector('#search-results').innerText.includes('did not match')")
    assert tab.evaluate("document.querySelectorAll('#search-results li').length") == 0


# --- the address of the repository --------------------------------------------------------------------------------


def test_launch_buttons_lead_to_the_notebooks(html, root):
    import yaml

    address = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    owner_and_name = address.removeprefix("https://github.com/")
    for path in book.toc_notebooks():
        page = (html / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        colab = f"https://colab.research.google.com/github/{owner_and_name}/blob/main/notebooks/{path.name}"
        assert colab in page
        assert re.search(
            rf"https://mybinder.org/v2/gh/{owner_and_name}/main\?urlpath=lab/tree/notebooks/{path.name}", page
        )


def test_make_help_and_the_build_say_what_they_do(root):
    done = subprocess.run(["make", "help"], cwd=root, capture_output=True, text=True, check=True)
    for target in ("book", "test", "smoke", "lint", "refresh", "records", "pdf", "clean"):
        assert re.search(rf"^make {target} ", done.stdout, re.M), target


def test_an_unknown_builder_is_one_line(root):
    done = subprocess.run([sys.executable, "-m", "tools.book", "bulid"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2
    assert "invalid choice: 'bulid'" in done.stderr.splitlines()[-1]
    assert json.dumps("build")[1:-1] in done.stderr
