"""The page of a data set: one file, safe, and right whatever is wrong."""

import dataclasses
import html.parser
import os
import re

import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax.data import check, listing, looks
from mtlmoe_jax.metrics.label_doubt import Doubts
from mtlmoe_jax.reports.dataset import drawings, page, photos
from tests.support import layouts

EVIL = "<img src=x onerror=alert(1)>&'\""


class Reader(html.parser.HTMLParser):
  """Collects tags, addresses and text."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.addresses, self.text = [], [], ""
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.text += " "
    self.addresses += [v for k, v in attrs if k in ("src", "href")]
    assert not [key for key, _ in attrs if key.startswith("on")]

  def handle_data(self, data):
    self.text += data


def checked(root):
  config = config_lib.default_config()
  config.data.name, config.data.path = "folder", str(root)
  config.data.validation_fraction = 0.0
  return check.check(config, looks.look)


def make(root, classes=("a", EVIL), count=6):
  for seed in range(count):
    for name in classes:
      path = root / name / f"{EVIL}{seed}.jpg"
      path.parent.mkdir(exist_ok=True)
      # A checkerboard: sharp.
      board = np.indices((48, 64)).sum(0) // 2 % 2 * 90 + 80 + seed
      image = np.repeat(board[:, :, None], 3, 2).astype(np.uint8)
      path.write_bytes(layouts.encode(image, quality=95))
  (root / "boxes.csv").write_text(
    "path,x_min,y_min,x_max,y_max\na/plain.jpg,0.25,0.5,0.75,1\n"
  )
  plain = root / "a/plain.jpg"
  plain.write_bytes(layouts.encode(np.full((30, 60, 3), 10, np.uint8)))
  return root


def written(tmp_path, report, **options):
  out = tmp_path / "out/page.html"
  page.write(out, EVIL, report, **options)
  return Reader(out.read_text("utf-8"))


def test_one_safe_file_that_tells_all(tmp_path):
  root = make(tmp_path)
  broken = root / EVIL / f"{EVIL}2.jpg"
  broken.write_bytes(broken.read_bytes()[:-200])
  report = checked(root)
  assert len(report.problems) == 1
  doubts = Doubts(*map(np.array, ([7], [0], [0.1], [0.75], [True])))
  found = written(tmp_path, report, doubts=doubts)
  assert report.problems[0] in found.text
  assert not {"script", "link", "iframe"} & set(found.tags)
  # Samples, the doubted label, one blurred and one dark image, twelve pairs,
  # and the maps.
  assert found.tags.count("figure") == 10 + 1 + 1 + 1 + 24
  assert found.tags.count("svg") == found.tags.count("figure") + 4
  for address in found.addresses:
    assert address.startswith(("data:image/", "#")), address
  for part in (
    "sharpness 0",
    "luminance 0.0392",
    "given: a (0.10)",
    f"suggested: {EVIL} (0.75)",
    "a/plain.jpg",
    "1 of 12 readable records have one",
    f"data set {EVIL}",
  ):
    assert part in found.text


def test_counts_by_class_and_split(tmp_path):
  report = checked(make(tmp_path))
  text = re.sub(r"\s+", " ", written(tmp_path, report).text)
  # A fifth of each class is held out.
  assert f"{EVIL} 5 1" in text
  assert "a 6 1" in text
  assert "all 11 2" in text
  assert "64 × 48 (12), 60 × 30 (1)" in text


def test_what_cannot_be_opened_or_split_has_a_page(tmp_path):
  found = written(tmp_path, checked(tmp_path / "none"))
  assert "no such folder" in found.text
  assert "figure" not in found.tags
  # One class alone is a problem; nothing has a box.
  root = tmp_path / "mine"
  root.mkdir()
  make(root, ("a",), 1)
  (root / "boxes.csv").unlink()
  report = checked(root)
  found = written(tmp_path, report, why_not="not asked for")
  assert report.problems[0] in found.text
  assert report.notes[0] in found.text
  assert "0 of 2 readable records have one" in found.text
  assert "not asked for" in found.text


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text(tmp_path):
  make(tmp_path)
  name = os.fsencode(tmp_path / "a") + b"/\xff.jpg"
  with open(name, "wb") as file:
    file.write(layouts.encode(layouts.picture(1, 20, 10)))
  assert "a/?.jpg" in written(tmp_path, checked(tmp_path)).text


def test_an_image_of_several_records_is_shown_once(tmp_path):
  report = checked(make(tmp_path))
  dark = "a/plain.jpg"
  place = report.source.ids.index(dark)
  assert [shown.count for shown in page._pixels(report)["shown"]] == [1, 1, 0]
  report.source.image_ids = [dark] * (place + 1) + report.source.ids[
    place + 1 :
  ]
  assert [shown.count for shown in page._pixels(report)["shown"]] == [0, 0, 0]


def test_many_images_leave_a_page_small(tmp_path):
  report = checked(make(tmp_path))
  said = {i: "x" for i in range(13)}
  shown = photos.measured(report, "Title", "rule", said)
  assert (shown.count, len(shown.photos)) == (13, photos.SHOWN)


def test_pairs_of_other_splits_and_classes_stand_first(tmp_path):
  report = checked(make(tmp_path))
  splits, ids = listing.parts_of(report.data), report.source.ids
  far = [int(x) for x in np.random.default_rng(0).integers(0, 2**62, len(ids))]
  test = [i for i, name in enumerate(ids) if splits[name] == "test"]
  rest = [i for i in range(len(ids)) if i not in test]
  evil = [i for i in rest if ids[i].startswith(EVIL)]
  plain = [i for i in rest if i not in evil]
  # The same class and split, no bit; another class, one; another split, two.
  far[plain[1]] = far[plain[0]]
  far[plain[2]] = far[evil[0]] ^ 1
  far[test[0]] = far[evil[1]] ^ 3
  report = dataclasses.replace(
    report,
    looks=[seen._replace(phash=h) for seen, h in zip(report.looks, far)],
  )
  found = photos.alike(report, np.arange(len(ids)))
  assert (found.count, found.across, found.images) == (3, 1, len(ids))
  assert [{each.id for each in pair} for pair in found.shown] == [
    {ids[i], ids[j]}
    for i, j in (
      (test[0], evil[1]),
      (plain[2], evil[0]),
      (plain[1], plain[0]),
    )
  ]
  assert "train split, 2 of 64 bits differ" in {
    line for each in found.shown[0] for line in each.lines
  }


def test_coverage():
  boxes = np.array([[0, 0, 1, 0.5], [0.5, 0, 1, 1]], np.float32)
  found = drawings.coverage(boxes, 2)
  np.testing.assert_array_equal(found, [[0.5, 1.0], [0.0, 0.5]])
