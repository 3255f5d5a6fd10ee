"""The book's Sphinx extension: MathJax beside the pages, and numbers that are read and not typed.

MathJax: the browser part (``tex-chtml.js`` and its fonts) is copied from the installed package
sphinx-mathjax-offline, so that nothing is fetched when the book is read. The package's own extension
would copy all of its 24 MB.
"""

import importlib.metadata
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

MATHJAX = ("tex-chtml.js", "output/chtml/fonts", "input/tex/extensions/boldsymbol.js")


def mathjax_folder() -> Path:
    """Where the installed sphinx-mathjax-offline keeps MathJax 3.

    Raises FileNotFoundError where the package does not carry it.
    """
    distribution = importlib.metadata.distribution("sphinx-mathjax-offline")
    for file in distribution.files or ():
        if file.name == MATHJAX[0]:
            return Path(distribution.locate_file(file)).parent
    raise FileNotFoundError("sphinx-mathjax-offline is installed without MathJax's tex-chtml.js: install it again")


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in MATHJAX:
        source = mathjax_folder() / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target / name, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target / name)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", copy_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
