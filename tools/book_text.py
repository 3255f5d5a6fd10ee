"""What the book's prose pages say of the library, its parameters, records and claims: computed here, never typed.

Every function returns Markdown. `substitutions` gathers them for the Sphinx extension.
"""

import json
import textwrap
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import nbformat
import yaml


def table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table; a ``|`` in a cell is escaped."""

    def line(cells: Iterable[Any]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    header = list(header)
    return "\n".join([line(header), line("---" for _ in header), *(line(row) for row in rows)])


def repository(source: Path) -> dict[str, str]:
    """The repository's address and what follows from it. `source`: the folder with ``_config.yml``."""
    config = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8"))
    url, branch = config["repository"]["url"], config["repository"]["branch"]
    name = url.removeprefix("https://github.com/")
    return {
        "url": url,
        "name": name,
        "binder": f"{config['launch_buttons']['binderhub_url']}/v2/gh/{name}/{branch}?urlpath=lab/tree/notebooks",
        "colab": f"{config['launch_buttons']['colab_url']}/github/{name}/blob/{branch}/notebooks",
        "pages": config["html"]["baseurl"],
    }


def notebooks_in_order(source: Path) -> list[Path]:
    """The chapters' notebooks, as the table of contents orders them."""

    def files(node: Any) -> list[str]:
        if isinstance(node, list):
            return [name for item in node for name in files(item)]
        own = [node["file"]] if "file" in node else []
        return own + [name for key in ("parts", "chapters", "sections") for name in files(node.get(key, []))]

    toc = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    return [path for name in files(toc) if (path := source / f"{name}.ipynb").exists()]


def chapters(source: Path) -> str:
    """The chapters: title and the first paragraph of each."""
    entries = []
    for path in notebooks_in_order(source):
        first = nbformat.read(path, as_version=4).cells[0].source.strip()
        title, _, rest = first.partition("\n")
        paragraphs = [" ".join(part.split()) for part in rest.strip().split("\n\n") if part.strip()]
        text = next((part for part in paragraphs if part[0] not in "#:`>|!*-["), "")
        entries.append(f"[**{title.lstrip('# ')}**](../notebooks/{path.name})\n: {text or title.lstrip('# ')}")
    return "\n\n".join(entries)


def parameters(source: Path) -> str:
    """One table a notebook: every parameter of its cell, what it may be, and its value at each scale."""
    from bithep_lib.run import Notebook
    from bithep_lib.study import SCALE_NAMES, SCALES

    parts = []
    for notebook in map(Notebook.read, notebooks_in_order(source)):
        if notebook.setup is None:
            continue
        chapter, taken = notebook.setup
        scales = SCALES[chapter]
        rows = []
        for item in fields(scales["book"]):
            if item.name not in taken:
                continue
            kind = item.metadata["kind"]
            values = [getattr(scales[name], item.name) for name in SCALE_NAMES]
            shown = ["none" if v is None else ", ".join(v) if isinstance(v, tuple) else str(v) for v in values]
            rows.append([f"`{item.name}`", f"{kind.doc} ({kind})", *shown])
        header = ["parameter", "meaning", *(f"`{name}`" for name in SCALE_NAMES)]
        parts.append(f":::{{dropdown}} `{notebook.path.name}`\n{table(header, rows)}\n:::")
    return "\n\n".join(parts)


def misspelt(source: Path) -> str:
    """What ``python -m bithep_lib.run`` answers to a parameter that does not exist."""
    from bithep_lib.run import Notebook
    from bithep_lib.study import ParameterError

    try:
        Notebook.read(source / "notebooks" / "02_quark_gluon.ipynb").check({"n_trian": 8000})
    except ParameterError as error:
        return f"```text\n{textwrap.fill(f'error: {error}', 80)}\n```"
    raise RuntimeError("the misspelt parameter of book/how_to_run.md was accepted")


def executions(source: Path) -> str:
    """Time and memory of the chapters, as `make refresh` measured them."""
    file = source / "book" / "executions.json"
    if not file.exists():
        return ""
    measured = json.loads(file.read_text(encoding="utf-8"))
    rows = [
        [f"`{notebook}`", f"`{scale}`", f"{values['seconds']:.0f} s", f"{values['peak_gib']:.2f} GiB"]
        for notebook, scales in measured["notebooks"].items()
        for scale, values in scales.items()
    ]
    text = f"Measured on {measured['machine']}, two notebooks at a time, one thread each, with the start of the kernel:"
    return f"{text}\n\n{table(['notebook', 'scale', 'time', 'memory'], rows)}"


def records_summary() -> str:
    """How many stored runs there are, by chapter and scale."""
    from bithep_lib import study

    rows = []
    for chapter in study.SCALES:
        frame = study.records(chapter)
        for scale, group in frame.groupby("scale", sort=False):
            hours = group.wall_seconds.sum() / 3600
            spent = f"{hours:.1f}" if hours >= 0.1 else "< 0.1"
            rows.append([f"`{chapter}`", f"`{scale}`", len(group), group.variant.nunique(), spent])
    if not rows:
        return "There are no stored runs in this version."
    return "Stored in this version:\n\n" + table(["chapter", "scale", "runs", "variants", "hours in all"], rows)


def substitutions(source: Path) -> dict[str, str]:
    """Everything a page may use as ``{{ name }}``. `source`: the folder with ``_config.yml``."""
    address = repository(source)
    return {
        "binder_link": f"[start it here]({address['binder']})",
        "issues_link": f"[{address['name']}]({address['url']}/issues)",
        "clone": f"```bash\ngit clone {address['url']}\ncd {address['name'].rpartition('/')[2]}\n```",
        "chapters": chapters(source),
        "parameters": parameters(source),
        "misspelt": misspelt(source),
        "executions": executions(source),
        "records_summary": records_summary(),
        "claims": claims(),
    }


def claims() -> str:
    """All claims with their measurements and verdicts."""
    from bithep_lib import study

    shown = study.claims_table()
    rows = [
        [
            f"{row['the paper says']} ({row['where']})",
            f"{row['contrast']}: {row['decided by']}",
            row["visible"],
            f"{row['measured']} ({row['scale']})" if row["measured"] else "",
            f"**{row['verdict']}**",
        ]
        for _, row in shown.iterrows()
    ]
    return table(["the paper says", "measured, and decided by", "visible", "result", "verdict"], rows)
