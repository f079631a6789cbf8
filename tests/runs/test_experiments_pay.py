"""The suite of when experts pay: its cells, its questions, its page."""

import pathlib
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.experiments import cells as cells_lib
from mtlmoe_jax.experiments import collect, pay, reproduce
from mtlmoe_jax.reports.suite import page, publish, stored
from mtlmoe_jax.reports.suite import pay as map_lib
from tests.support import suites

# How often each arm is right, at every place.
RIGHT = {"one": 0.4, "told": 0.5, "mix_6_1": 0.6, "double_told": 0.8}


SMALL = pay.Map((10, 300), (4, 8), (3, 6))


@pytest.fixture(scope="module", autouse=True)
def small():
  with mock.patch.dict(pay.MAPS, cpu=SMALL):
    yield


@pytest.fixture(scope="module")
def findings(tmp_path_factory, small):
  root = tmp_path_factory.mktemp("pay")
  sets = pay.training_sets("cpu", pay.base_config("synthetic", "cpu"))
  cells = cells_lib.make_cells(pay.variations("cpu", sets), 2, root)
  draws = np.random.default_rng(0).uniform(size=200)
  for cell in cells:
    if cells_lib.is_done(cell):
      continue
    arm, images, _ = map_lib.place_of(cell.variation.name)
    right = draws < RIGHT.get(arm, 0.55) + 0.1 * (images == 9000)
    suites.write(cell, right.astype(int), draws)
  return collect.answer_questions(
    cells,
    pay.questions("cpu", sets),
    suite="pay",
    data="synthetic",
    preset="cpu",
    command="COMMAND",
  )


def test_every_place_has_every_comparison(findings):
  grids = map_lib.grids(findings)
  assert len(grids) == 2 * len(pay.COMPARISONS)
  assert {
    len(grid.answers) for grid in grids if grid.arms[1] != "ensemble"
  } == {4}
  assert {
    place for g in grids if g.arms[1] == "ensemble" for place in g.answers
  } == {(300, 8), (9000, 8)}
  found = {g.arms: g for g in grids if g.figure == "top1"}
  over_told = found["mix_6_1", "told"]
  assert over_told.images == (300, 9000)
  assert over_told.widths == (4, 8)
  answer = over_told.answers[9000, 8]
  assert answer.difference == pytest.approx(0.1, abs=0.05)
  assert over_told.cell(9000, 8).startswith("**+")
  assert over_told.cell(1, 1) == "-"


@pytest.fixture(params=pay.DATA)
def base(request, tmp_path):
  if request.param == "synthetic":
    return pay.base_config("synthetic", "cpu")
  for number in range(8):
    part = "train" if number < 6 else "test"
    file = tmp_path / part / f"class_{number % 2}" / f"{number}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (30 * number, 0, 0)).save(file)
  return pay.base_config("folder", "cpu", str(tmp_path))


def test_cells_are_what_they_are_called(base):
  config_lib.check_config(base)
  sets = pay.training_sets("cpu", base)
  drawn = base.data.name == "synthetic"
  assert [s.images for s in sets] == ([300, 9000] if drawn else [6])
  variations = pay.variations("cpu", sets)
  for variation in variations:
    arm, images, width = map_lib.place_of(variation.name)
    if arm == "ensemble":
      continue
    cell = cells_lib.Cell(variation, 0, pathlib.Path("/x/y/z"))
    config = cells_lib.config_of(cell, base)
    config_lib.check_config(config)
    model = config.model
    if drawn:
      assert images == 30 * config.data.synthetic.train_per_class
    factor = {"wide": 6, "double": 2, "double_told": 2}.get(arm, 1)
    assert model.expert_dim == factor * width
    mixture = arm.startswith("mix")
    assert model.experts == (
      int(arm.split("_")[1]) if mixture else 6 if arm == "uniform" else 1
    )
    told = mixture or arm.endswith("told")
    assert bool(model.tower_sees_gate) == told
    assert bool(model.upcycle_epochs) == mixture
    assert model.share_gate
  names = {variation.name for variation in variations}
  for question in pay.questions("cpu", sets):
    if "ensemble" not in question.other:
      assert {question.one, question.other} <= names
  # As many steps for all that stand side by side.
  assert sets[-1].epochs == (8 if drawn else 16)


def test_the_line_goes_around_what_is_clear():
  inside = np.array([[True, True, False], [False, True, False]])
  lines = map_lib.outline(inside)
  assert len(lines) == 8  # three cells in an L
  # Every end of a line is where another starts: it is closed.
  ends = [end for line in lines for end in line]
  assert all(ends.count(end) == 2 for end in ends)
  # Cells lie around whole numbers.
  assert min(ends) == (-0.5, -0.5) and max(ends) == (1.5, 1.5)
  assert not map_lib.outline(np.zeros((2, 2), bool))


def test_the_page_and_its_picture(findings, tmp_path):
  out = tmp_path / "pay.md"
  written = publish.publish(findings, out)
  assert {p.name for p in written} == {
    "pay.md",
    "pay.html",
    "pay.json",
    "pay_map.svg",
  }
  text = out.read_text("utf-8")
  assert "# When do experts pay?, on synthetic" in text
  assert "| 9,000 |" in text and "width 8" in text
  assert "six, one an image, instead of one told: top-1" in text
  assert "![Top-1, points" in text
  assert "| six, one an image" not in text
  assert "## Seconds of a run with the most images" in text
  assert "| 6, one an image | 60 | 60 |" in text
  again = page.text(stored.read(tmp_path / "pay.json"), "pay.json")
  assert again == text


def test_unknown_data_and_presets(tmp_path):
  options = reproduce.Options("pay", "cub10", "cpu", 1)
  with pytest.raises(errors.InputError, match="has synthetic, folder"):
    reproduce.run(options, tmp_path, tmp_path / "x.md")
  with pytest.raises(errors.InputError, match="has cpu, paper"):
    pay.base_config("synthetic", "tpu")
  with pytest.raises(errors.InputError, match="needs the folder"):
    pay.base_config("folder", "cpu")
  options = reproduce.Options("pay", "folder", "cpu", 1, "elsewhere")
  assert "--data.path=CROPS" in reproduce.command(options)
