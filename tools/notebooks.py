"""The notebooks' normal form: what is stored of an execution, and how it is written.

    python -m tools.notebooks normalise [FILE ...]    rewrite in normal form
    python -m tools.notebooks check [FILE ...]        exit 1, saying what is wrong (see tools/guards.py)
    python -m tools.notebooks refresh [FILE ...]      execute in place at scale "book", normalise, measure

Without files: all of ``notebooks/``. A notebook in normal form keeps sources, tags, captions, outputs and
execution counts, and nothing that changes from one execution to the next: timings, papermill's metadata, random ids,
warnings on stderr. So executing twice gives the same bytes, and a difference in git is a difference in content.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import sys
from collections import Counter
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}
CELL_METADATA = ("tags", "mystnb", "slideshow", "colab")
"""Cell metadata that an author writes; everything else comes from a tool."""
PICTURE = ("01_bitlinear.ipynb", "fig-grid", ROOT / "book" / "_static" / "picture.png")
"""The figure that README.md shows: notebook, name, and the file it is kept in."""


def all_notebooks() -> list[Path]:
    """The book's notebooks, in order."""
    return sorted(FOLDER.glob("*.ipynb"))


def small_picture(encoded: str) -> str:
    """A PNG (base64) with a palette of 256 colours, a third of the bytes; one that has a palette stays as it is."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    if picture.mode == "P":
        return encoded
    opaque = Image.new("RGB", picture.size, "white")
    opaque.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
    written = io.BytesIO()
    # Of Pillow's ways the one with the smallest largest error: 8 of 255 a channel, in maps of colours too.
    opaque.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def normal_outputs(outputs: list[dict]) -> list[dict]:
    """Outputs without stderr and transient metadata, pictures with a palette; consecutive prints joined, as one."""
    kept: list[dict] = []
    for output in outputs:
        output = dict(output)
        if output["output_type"] == "stream":
            if output["name"] == "stderr":
                continue
            if kept and kept[-1]["output_type"] == "stream":
                kept[-1]["text"] += output["text"]
                continue
        output.pop("transient", None)
        if "image/png" in output.get("data", {}):
            output["data"] = output["data"] | {"image/png": small_picture(output["data"]["image/png"])}
        if output["output_type"] == "execute_result":
            output["execution_count"] = None  # set with the cell's, below
        kept.append(output)
    return kept


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook in normal form (a new object; applying it twice changes nothing).

    Cell ids are hashes of the cell's kind and source, so that inserting a cell leaves the other ids alone.
    """
    normal = nbformat.v4.new_notebook(metadata=nbformat.from_dict(KERNEL))
    normal.nbformat, normal.nbformat_minor = 4, 5
    seen: Counter[str] = Counter()
    count = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags or (not cell.source.strip() and not cell.get("outputs")):
            continue
        name = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[name] += 1
        new = nbformat.from_dict(
            {
                "cell_type": cell.cell_type,
                "id": name if seen[name] == 1 else f"{name}-{seen[name]}",
                "metadata": {key: cell.metadata[key] for key in CELL_METADATA if cell.metadata.get(key)},
                "source": cell.source.rstrip(),
            }
        )
        if cell.cell_type == "code":
            executed = cell.execution_count is not None
            count += executed
            new["execution_count"] = count if executed else None
            new["outputs"] = [nbformat.from_dict(output) for output in normal_outputs(cell.outputs)]
            for output in new["outputs"]:
                if output["output_type"] == "execute_result":
                    output["execution_count"] = new["execution_count"]
        elif cell.get("attachments"):
            new["attachments"] = cell.attachments
        normal.cells.append(new)
    return normal


def dumps(notebook: nbformat.NotebookNode) -> str:
    """The text of a notebook file: keys sorted, one space of indentation, a newline at the end."""
    split = nbformat.v4.rwbase.split_lines(nbformat.from_dict(notebook))
    return json.dumps(split, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def write(path: Path, notebook: nbformat.NotebookNode) -> None:
    """Write a notebook so that a crash leaves the old file or the new one, never half of it."""
    part = path.with_suffix(".ipynb.part")
    part.write_text(dumps(notebook), encoding="utf-8")
    os.replace(part, path)


def is_normal(path: Path) -> bool:
    return path.read_text(encoding="utf-8") == dumps(normalise(read(path)))


def picture() -> bytes:
    """The figure of README.md as its notebook stored it, a PNG.

    Raises LookupError where the notebook has no such figure.
    """
    notebook, name, _ = PICTURE
    for cell in read(FOLDER / notebook).cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == name:
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    return base64.b64decode(output.data["image/png"])
    raise LookupError(f"{notebook} has no stored figure {name}")


def refresh(files: list[Path]) -> int:
    """Execute in place, and once more at scale "smoke" to measure it; 1 where a notebook failed.

    A notebook that fails keeps its old outputs.
    """
    from tools.execute import execute_all, store

    measured = {"book": execute_all([(path, path) for path in files])}
    scratch = ROOT / "_build" / "refresh"
    measured["smoke"] = execute_all([(path, scratch / path.name) for path in files], {"scale": "smoke"})
    store(measured)
    PICTURE[2].write_bytes(picture())
    return int(any(done.error for finished in measured.values() for done in finished))


def shown(path: Path) -> Path:
    path = path.resolve()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=["normalise", "check", "refresh"])
    parser.add_argument("files", nargs="*", type=Path)
    chosen = parser.parse_args(arguments)
    files = chosen.files or all_notebooks()
    if chosen.action == "refresh":
        return refresh(files)
    if chosen.action == "check":
        from tools.guards import problems

        found = [f"{shown(path)}: {problem}" for path in files for problem in problems(path)]
        print("\n".join(f"error: {line}" for line in found), end="\n" if found else "")
        return int(bool(found))
    odd = [path for path in files if not is_normal(path)]
    for path in odd:
        write(path, normalise(read(path)))
        print(f"normalised {shown(path)}")
    # pre-commit counts a rewritten file as a failure, so that it is looked at and added.
    return int(bool(odd))


if __name__ == "__main__":
    sys.exit(main())
