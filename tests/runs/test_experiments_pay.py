"""The suite of when experts pay: its cells, its questions, its page."""

import pathlib
from unittest import mock

import numpy as np
import pytest

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
  cells = cells_lib.make_cells(pay.variations("cpu"), 2, root)
  draws = np.random.default_rng(0).uniform(size=200)
  for cell in cells:
    if cells_lib.is_done(cell):
      continue
    arm, images, _ = map_lib.place_of(cell.variation.name)
    right = draws < RIGHT.get(arm, 0.55) + 0.1 * (images == 9000)
    suites.write(cell, right.astype(int), draws)
  return collect.answer_questions(
    cells,
    pay.questions("cpu"),
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


def test_cells_are_what_they_are_called():
  base = pay.base_config("cpu")
  config_lib.check_config(base)
  for variation in pay.variations("cpu"):
    arm, images, width = map_lib.place_of(variation.name)
    if arm == "ensemble":
      continue
    cell = cells_lib.Cell(variation, 0, pathlib.Path("/x/y/z"))
    config = cells_lib.config_of(cell, base)
    model = config.model
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
  # As many steps for all that stand side by side.
  assert pay.epochs(300) == 8


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
  again = page.text(stored.read(tmp_path / "pay.json"), "pay.json")
  assert again == text


def test_only_drawn_images_and_known_presets(tmp_path):
  options = reproduce.Options("pay", "cub10", "cpu", 1)
  with pytest.raises(errors.InputError, match="draws its images"):
    reproduce.run(options, tmp_path, tmp_path / "x.md")
  with pytest.raises(errors.InputError, match="one of cpu, paper"):
    pay.base_config("tpu")
