"""The committed pages say what their numbers say."""

import re
from typing import NamedTuple

import pytest

from mtlmoe_jax.reports.suite import page as story
from mtlmoe_jax.reports.suite import pay, stored
from mtlmoe_jax.training.fit import paying
from tests.support import tiny

DOCS = tiny.ROOT / "docs"
DATA = ("synthetic", "cub10")
# Name of the numbers -> what their gates know.
NUMBERS = {
  f"{data}{ending}": gates
  for data in DATA
  for ending, gates in (("", "pixels"), ("_informed", "informed"))
}
# Whose page and pictures are committed; `make site` makes all.
PAGES = ("cub10_informed",)


class Map(NamedTuple):
  """Numbers of suite `pay`.

  Attributes:
    classes: of its images.
    places: of the map.
    seeds: of each run.
    gain: of six over one that is told, where the rule of thumb says that it may
      pay: at least. The rule was read off the first; the second tests it.
    illustrated: whether its picture is committed.
  """

  classes: int
  places: int
  seeds: int
  gain: float
  illustrated: bool


MAPS = {
  "pay": Map(30, 12, 3, 0.01, illustrated=True),
  "pay_crops96": Map(96, 3, 2, 0.0, illustrated=False),
}


@pytest.mark.parametrize("data", PAGES)
def test_a_page_is_made_of_its_numbers(data):
  page = DOCS / "experiments" / f"{data}.md"
  found = stored.read(page.with_suffix(".json.xz"))
  pictures = story.pictures(found)
  text = page.read_text("utf-8")
  assert text == story.text(found, f"{data}.json.xz")
  names = {f"{data}_{picture.name}.svg" for picture in pictures}
  shown = names & {f"{data}_{name}.svg" for name in story.SHOWN}
  assert len(shown) == 2
  assert re.findall(r"\]\(([^)]*\.svg)\)", text) == [
    f"{data}_{picture.name}.svg"
    for picture in pictures
    if picture.name in story.SHOWN
  ]
  for name in shown:
    assert (page.parent / name).stat().st_size > 0


def test_the_ablation_is_made_of_its_numbers():
  page = DOCS / "ablation.md"
  found = stored.read(page.with_suffix(".json.xz"))
  text = story.text(found, "ablation.json.xz", illustrated=False)
  assert page.read_text("utf-8") == text
  assert [p.name for p in story.pictures(found)] == ["differences"]


@pytest.mark.parametrize("name", MAPS)
def test_a_map_is_made_of_its_numbers(name):
  page = DOCS / "experiments" / f"{name}.md"
  found = stored.read(page.with_suffix(".json.xz"))
  assert (found.suite, found.preset) == ("pay", "cpu")
  illustrated = MAPS[name].illustrated
  text = story.text(found, f"{name}.json.xz", illustrated=illustrated)
  assert page.read_text("utf-8") == text
  assert [p.name for p in story.pictures(found)] == ["map"]
  for row in found.rows:
    for figure in row.figures.values():
      assert len(figure.per_seed) == MAPS[name].seeds


@pytest.mark.parametrize("name", MAPS)
def test_the_rule_of_thumb_is_that_of_the_map(name):
  """What `mtlmoe plan` says of experts, at every place of the map."""
  found = stored.read(DOCS / "experiments" / f"{name}.json.xz")
  (over_told,) = (
    grid
    for grid in pay.grids(found)
    if grid.arms == ("mix_6_1", "told") and grid.figure == "top1"
  )
  assert len(over_told.answers) == MAPS[name].places
  for (images, width), answer in over_told.answers.items():
    if paying.pays(width, MAPS[name].classes, images / 6):
      assert answer.difference > MAPS[name].gain, (images, width)
    else:
      assert not (answer.is_clear and answer.difference > 0), (images, width)


def test_nothing_else_is_committed():
  """All other pictures and pages are made of the numbers."""
  kept = {f"{name}.json.xz" for name in (*NUMBERS, *MAPS)}
  kept |= {f"{name}.md" for name in (*PAGES, *MAPS)}
  kept |= {f"{name}_map.svg" for name in MAPS if MAPS[name].illustrated}
  shown = set(story.SHOWN) - {"differences", "map"}
  kept |= {f"{data}_{name}.svg" for data in PAGES for name in shown}
  assert {path.name for path in (DOCS / "experiments").iterdir()} == kept


@pytest.mark.parametrize("name", NUMBERS)
def test_all_suites_have_run_with_three_seeds(name):
  found = stored.read(DOCS / "experiments" / f"{name}.json.xz")
  informed = NUMBERS[name] == "informed"
  assert ("--gates=informed" in found.command) == informed
  assert (found.suite, found.preset) == ("all", "cpu")
  assert [claim.number for claim in found.claims] == [1, 2, 3, 4]
  for row in found.rows:
    for figure in row.figures.values():
      assert len(figure.per_seed) == 3


@pytest.mark.parametrize("name", NUMBERS)
def test_the_summary_has_each_verdict_and_what_was_found(name):
  text = (DOCS / "experiments.md").read_text("utf-8")
  found = stored.read(DOCS / "experiments" / f"{name}.json.xz")
  what = f"{name.split('_')[0]} | {NUMBERS[name]}"
  for claim in found.claims:
    row = f"| {claim.number}. {claim.title} | {what} | **{claim.verdict}** |"
    assert f"{row} {claim.reason} |" in text
