"""The committed pages say what their numbers say."""

import pytest

from mtlmoe_jax.reports.suite import page as story
from mtlmoe_jax.reports.suite import publish
from tests.support import tiny

DOCS = tiny.ROOT / "docs"
DATA = ("synthetic", "cub10")


@pytest.mark.parametrize("data", DATA)
def test_a_page_is_made_of_its_numbers(data):
  page = DOCS / "experiments" / f"{data}.md"
  found = publish.read(page.with_suffix(".json"))
  document = story.document(found)
  assert page.read_text("utf-8") == publish.markdown_page(document, data)
  for picture in document.pictures:
    for kind in ("svg", "png"):
      name = f"{data}_{picture.name}.{kind}"
      assert (page.parent / name).stat().st_size > 0


@pytest.mark.parametrize("data", DATA)
def test_all_suites_have_run_with_three_seeds(data):
  found = publish.read(DOCS / "experiments" / f"{data}.json")
  assert (found.suite, found.preset) == ("all", "cpu")
  assert [claim.number for claim in found.claims] == [1, 2, 3, 4]
  for row in found.rows:
    for figure in row.figures.values():
      assert len(figure.per_seed) == 3


@pytest.mark.parametrize("data", DATA)
def test_the_summary_has_each_verdict_and_what_was_found(data):
  text = (DOCS / "experiments.md").read_text("utf-8")
  found = publish.read(DOCS / "experiments" / f"{data}.json")
  for claim in found.claims:
    row = f"| {claim.number}. {claim.title} | {data} | **{claim.verdict}** |"
    assert f"{row} {claim.reason} |" in text
