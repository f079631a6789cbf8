"""Two hundred broken variants: none is read as less without a word."""

import random
import re

import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.data.readers.problems import Problems
from tests.support import annotated

VARIANTS = 20  # of each layout
_ANNOTATIONS = (".json", ".txt", ".xml", ".csv", ".jsonl", ".yaml", ".names")


def _texts(root):
  return sorted(p for p in root.rglob("*") if p.suffix in _ANNOTATIONS)


def _edit(path, change):
  path.write_text(change(path.read_text("utf-8")), encoding="utf-8")


def _numbers(rng, path, change):
  """Changes one number of a file, if it has any."""
  text = path.read_text("utf-8")
  found = list(re.finditer(r"(?<![\w.])-?\d+\.?\d*(?![\w.])", text))
  if found:
    match = rng.choice(found)
    new = text[: match.start()] + change(match[0]) + text[match.end() :]
    path.write_text(new, encoding="utf-8")


def lose_an_image(rng, root, path):
  rng.choice(sorted(root.rglob("*.jpg"))).unlink()


def rename_an_image(rng, root, path):
  image = rng.choice(sorted(root.rglob("*.jpg")))
  image.rename(image.with_name(f"new_{image.name}"))


def lose_a_file(rng, root, path):
  path.unlink()


def empty_a_file(rng, root, path):
  path.write_text("")


def cut_in_the_middle(rng, root, path):
  _edit(path, lambda text: text[: len(text) // 2].rstrip().rpartition(" ")[0])


def not_utf8(rng, root, path):
  data = path.read_bytes()
  place = rng.randrange(len(data) + 1)
  path.write_bytes(data[:place] + b"\xff\xfe" + data[place:])


def a_word_for_a_number(rng, root, path):
  _numbers(rng, path, lambda _: "many")


def a_huge_number(rng, root, path):
  _numbers(rng, path, lambda number: f"{number.partition('.')[0]}99999999")


def a_negative_number(rng, root, path):
  _numbers(rng, path, lambda number: f"-{number.lstrip('-')}7")


def lines_twice(rng, root, path):
  _edit(path, lambda text: text + text)


def columns_swapped(rng, root, path):
  """First and last word of every line."""

  def change(text):
    lines = []
    for line in text.splitlines():
      words = re.split(r"([,; ])", line)
      words[0], words[-1] = words[-1], words[0]
      lines.append("".join(words))
    return "\n".join(lines) + "\n"

  _edit(path, change)


def names_in_capitals(rng, root, path):
  """Of images and classes."""
  _edit(path, str.upper)


def a_broken_image(rng, root, path):
  rng.choice(sorted(root.rglob("*.jpg"))).write_bytes(b"no image")


def binary(rng, root, path):
  path.write_bytes(rng.randbytes(200))


BREAKS = (
  *(lose_an_image, rename_an_image, lose_a_file, empty_a_file),
  *(cut_in_the_middle, not_utf8, a_word_for_a_number, a_huge_number),
  *(a_negative_number, lines_twice, columns_swapped, names_in_capitals),
  *(a_broken_image, binary),
)


def lines(found):
  return (*found.recognised, *found.notes)


def told(root, notes):
  """Lines with what does not belong to the place they are in."""
  return {note.replace(str(root), "") for note in notes}


@pytest.mark.parametrize("layout", annotated.WRITERS)
def test_a_broken_variant_is_refused_or_tells_what_it_lost(tmp_path, layout):
  whole = tmp_path / "whole"
  annotated.WRITERS[layout](whole)
  right = annotated.opened(whole)
  objects = annotated.objects(right.source)
  for variant in range(VARIANTS):
    rng = random.Random(f"{layout} {variant}")
    root = tmp_path / str(variant)
    annotated.WRITERS[layout](root)
    change = BREAKS[variant % len(BREAKS)]
    change(rng, root, rng.choice(_texts(root)))
    what = f"{layout} {variant} {change.__name__}"
    try:
      found = annotated.opened(root)
      seen = annotated.objects(found.source)
    except errors.InputError as error:
      message = str(error)
      assert message and "\n" not in message, what
    else:
      # Whatever is missing shows in a line that the whole one does not have.
      is_less = len(seen) < len(objects)
      new = told(root, lines(found)) - told(whole, lines(right))
      assert new or not is_less, what
      if change is a_broken_image:
        # Sizes were told, so that headers were not read: decoding refuses it.
        pytest.fail(f"{what}: read {len(seen)} objects")
    # Listing everything never stops short of a report, either.
    problems = Problems(collect=True)
    try:
      annotated.opened(root, problems)
    except errors.InputError as error:
      problems(str(error))
    assert all(m and "\n" not in m for m in problems.messages), what
