"""The book's Sphinx extension: MathJax beside the pages, no script from elsewhere, and numbers that are computed.

MathJax: the browser part (``tex-chtml.js`` and its fonts) is copied from the installed package
sphinx-mathjax-offline, so that nothing is fetched when the book is read. The package's own extension
would copy all of its 24 MB.

Numbers: what the prose pages say of the library, its records and its claims comes from the functions of `book_text`, as
the substitutions ``{{ name }}`` of MyST.
"""

import importlib.metadata
import shutil
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

sys.path.insert(0, str(Path(__file__).parent))
import book_text  # noqa: E402  (beside this file; Sphinx loads extensions by bare name)

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


def set_substitutions(app: Sphinx, config: Config) -> None:
    config.myst_substitutions = book_text.substitutions(Path(app.srcdir))


def drop_live_code(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Leave out thebe, the live-code script: the book has no button for it, it would come from the network, and its
    settings are written into the page twice, which browsers report as an error."""
    scripts = context.get("script_files", [])
    context["script_files"] = [
        script
        for script in scripts
        if "thebe" not in f"{script} {getattr(script, 'attributes', {}).get('body', '')}".lower()
    ]


def print_as_html(app: Sphinx) -> None:
    """Let the one-page builder, from which the PDF is printed, draw what the HTML builder draws.

    Sphinx falls back from "singlehtml" to "html" only as long as no extension says anything for "singlehtml".
    """
    handlers = app.registry.translation_handlers
    handlers["singlehtml"] = handlers.get("html", {}) | handlers.get("singlehtml", {})


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", set_substitutions)
    app.connect("config-inited", lambda app, config: print_as_html(app), priority=900)
    app.connect("html-page-context", drop_live_code, priority=900)
    app.connect("build-finished", copy_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
