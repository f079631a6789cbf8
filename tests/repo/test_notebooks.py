"""The Colab notebooks, run to their ends on a CPU with small settings."""

import json
import os

import pytest

from tests.support import tiny

FOLDER = tiny.ROOT / "launch" / "notebooks"
NAMES = ("colab_tpu", "colab_gpu")


def cells(name, kind="code"):
  book = json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))
  return [
    "".join(cell["source"])
    for cell in book["cells"]
    if cell["cell_type"] == kind
  ]


@pytest.mark.parametrize("name", NAMES)
def test_the_first_cell_asserts_the_device(name):
  assert "assert devices[0].platform == PLATFORM" in cells(name)[0]
  text = "\n".join(cells(name))
  # JAX stays as the runtime has it, and TensorFlow is not asked for.
  assert "tensorflow" not in text
  assert '"-c", "held.txt"' in text
  book = json.loads((FOLDER / f"{name}.ipynb").read_text("utf-8"))
  assert not any(cell.get("outputs") for cell in book["cells"])


def test_both_are_one_notebook_but_for_the_device():
  tpu, gpu = map(cells, NAMES)
  assert tpu[1:] == gpu[1:]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_runs_to_its_end(name, tmp_path, monkeypatch, cub_or_none):
  nbclient = pytest.importorskip("nbclient", reason="no nbclient")
  nbformat = pytest.importorskip("nbformat", reason="no nbformat")
  for key, value in tiny.environment(
    MTLMOE_PLATFORM="cpu",
    MTLMOE_RUNS=str(tmp_path),
    MTLMOE_SMALL="1",
    MTLMOE_CUB_DIR=cub_or_none if name == "colab_tpu" else "",
    PYTHONPATH=str(tiny.ROOT),
    PYTHONPYCACHEPREFIX=str(tmp_path / "pycache"),
  ).items():
    monkeypatch.setenv(key, value)
  book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
  client = nbclient.NotebookClient(
    book, timeout=600, resources={"metadata": {"path": str(tiny.ROOT)}}
  )
  client.execute()
  figures = [
    output
    for cell in book.cells
    for output in cell.get("outputs", [])
    if "image/png" in output.get("data", {})
  ]
  trained = [p for p in ("demo", "cub10") if (tmp_path / p).is_dir()]
  assert len(figures) == 2 * len(trained) >= 2
  for run in trained:
    assert (tmp_path / run / "eval" / "test" / "report.html").exists()


@pytest.fixture
def cub_or_none():
  return os.environ.get("MTLMOE_CUB_DIR", "")
