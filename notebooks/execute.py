"""Run the quickstart and store it with its outputs: `python notebooks/execute.py`.

People edit quickstart.py; quickstart.ipynb is made from it. The notebook is run in a temporary folder, and what it
shows is stored without anything of the machine that it ran on, its pictures with 256 colours.
"""

import base64
import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

SOURCE = Path(__file__).with_name("quickstart.py")
NOTEBOOK = SOURCE.with_suffix(".ipynb")
CELL_TIMEOUT_S = 900
"""Many times what the longest cell takes on two quiet cores: a busy machine is not a fault."""


def read_source() -> NotebookNode:
    """The notebook without outputs. A cell's id follows from its text, so that it stays the same."""
    notebook: NotebookNode = jupytext.read(SOURCE)
    for cell in notebook.cells:
        cell.id = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
    nbformat.validate(notebook)
    return notebook


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Run the cells with this interpreter, in `folder/work`; outputs are added to them.

    Nothing is written outside the folder, and W&B is not logged in to. Raises nbclient's CellExecutionError for a
    cell that fails, CellTimeoutError for one that takes longer than CELL_TIMEOUT_S.
    """
    settings, work = folder / "jupyter", folder / "work"
    settings.mkdir()
    work.mkdir()
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "WANDB_CONFIG_DIR")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= dict.fromkeys(places, str(settings))
    environment |= {"NETRC": str(settings / "netrc"), "STN_BENCH_CACHE": str(folder / "cache")}
    environment["PYTHONPATH"] = str(SOURCE.parents[1])  # the kernel finds the project wherever it is started
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(  # without installed kernels to choose from, it is this interpreter's own
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]), connection_file=str(settings / "kernel.json")
        ),
        timeout=CELL_TIMEOUT_S,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(work)}},
    )
    client.owns_km = True  # it ends the kernel, too
    client.execute(env=environment)


def scrub(notebook: NotebookNode) -> None:
    """Leave out what is not worth keeping: names of kernels, times, and most of a picture's colours."""
    notebook.metadata = {name: notebook.metadata[name] for name in ("jupytext", "kernelspec")}
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = output.text.replace("\r\n", "\n")  # a pseudo-terminal's ends of lines
            data = output.get("data", {})
            shrink(data)
            if len(data) > 1:
                data.pop("text/plain", None)  # names Python's object and its address


def shrink(data: dict[str, Any]) -> None:
    """A picture of an output, if it has one, with 256 colours at most and no metadata."""
    if "image/png" in data:
        whole = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
        small = io.BytesIO()
        whole.quantize(256).save(small, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(small.getvalue()).decode()


def main() -> None:
    notebook = read_source()
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, Path(folder))
    scrub(notebook)
    nbformat.write(notebook, NOTEBOOK)
    print(f"{NOTEBOOK.name}: {NOTEBOOK.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
