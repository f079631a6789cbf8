"""The report: one file, safe, small, and right for every kind of run."""

import dataclasses
import html.parser
import re
import xml.etree.ElementTree as ET
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlmoe_jax.evaluation import evaluate
from mtlmoe_jax.metrics import permutation
from mtlmoe_jax.metrics.predictions import (
  Choices,
  Evaluation,
  Predictions,
  softmax,
)
from mtlmoe_jax.reports import names, plots
from mtlmoe_jax.reports.evaluation import gallery
from mtlmoe_jax.reports.evaluation import page as report

LIMIT = 8_000_000


class Noise:
  """Images that compress as badly as images can."""

  name = "noise"

  def __init__(self, shape=(300, 200, 3), attributes=False):
    self.shape, self.attributes = shape, attributes

  def __getitem__(self, i):
    image = np.random.default_rng(i).integers(0, 256, self.shape, np.uint8)
    record = {"image": image}
    if self.attributes:
      record["attributes"] = {
        "pose": float(i % 3),
        "scale": 0.1 * i,
        "<i>camera": ("north", "south", "")[i % 3],
        "file": f"{i}.jpg",
      }
    return record


class Reader(html.parser.HTMLParser):
  """Collects the tags and the addresses of a page."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.addresses, self.alts = [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    for key, value in attrs:
      if key.split(":")[-1] in ("src", "href", "srcset", "data", "action"):
        self.addresses.append(value)
      if key in ("alt", "aria-label"):
        self.alts.append(value)


def evaluation(
  n=30, classes=5, experts=3, tasks=("class", "box"), labelled=1.0
):
  rng = np.random.default_rng(0)
  labels = np.arange(n) % classes
  has_label = np.arange(n) < labelled * n
  logits = rng.normal(0, 1, (n, classes)).astype(np.float32)
  logits[np.arange(n), labels] += 1.5
  corners = np.sort(rng.random((2, n, 2, 2)), axis=2).reshape(2, n, 4)
  k = min(2, experts)
  routing = {}
  for task in tasks:
    probs = softmax(rng.normal(0, 1, (n, experts))).astype(np.float32)
    chosen = np.argsort(-probs, -1)[:, :k]
    weights = np.take_along_axis(probs, chosen, -1)
    weights = weights / weights.sum(-1, keepdims=True)
    routing[task] = Choices(chosen, weights, probs)
  p = Predictions(
    ids=[f"img/{i}.jpg" for i in range(n)],
    labels=np.where(has_label, labels, -1),
    has_label=has_label,
    logits=logits if "class" in tasks else None,
    boxes=corners[0].astype(np.float32) if "box" in tasks else None,
    true_boxes=corners[1].astype(np.float32),
    has_box=has_label,
    routing=routing,
  )
  return Evaluation(evaluate.compute_metrics(p), p, 1.5)


def write(tmp_path, found, source, names, meta=None, rows=()):
  path = tmp_path / "report.html"
  report.write_report(path, found, source, names, meta or {}, rows)
  return path.read_text("utf-8")


NAMES = [
  "001.Black_footed_Albatross",
  "<script>alert(1)</script>",
  "q\"'&",
  r"$\d$--><b>",
  "e",
]
ROWS = [
  {"step": s, "split": split, "loss": 1 / s, "top1": 0.5, "mciou": None}
  for split in ("train", "validation")
  for s in range(1, 80)
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
  return write(
    tmp_path_factory.mktemp("report"),
    evaluation(),
    Noise(attributes=True),
    NAMES,
    {
      "split": "test",
      "seed": 7,
      "commit": "0123456789abcdef",
      "config": {"model": {"experts": 3, "gate": "<b>"}},
      "wall_seconds": 754.2,
      "dataset_fingerprint": "fedcba9876543210",
    },
    ROWS,
  )


def test_the_page_needs_nothing_else(page):
  reader = Reader(page)
  assert reader.addresses
  # A picture in the page refers to parts of itself.
  assert all(a.startswith(("data:image/", "#")) for a in reader.addresses)
  assert any(a.startswith("data:image/") for a in reader.addresses)
  assert not {"script", "link", "iframe", "object"} & set(reader.tags)
  assert "http" not in page.replace("data:image", "")[: page.index("<main>")]
  assert "@import" not in page
  assert page.count("url(") == page.count("url(#")


def test_names_are_escaped(page):
  assert "alert(1)" in page
  assert "<script" not in page
  assert "<b>&lt;b&gt;" not in page and "&lt;b&gt;" in page
  assert "q&#34;&#39;&amp;" in page
  # Neither a formula nor the end of a comment.
  assert "$\\d$--&gt;&lt;b&gt;" in page and "--><b>" not in page


def test_the_page_tells_facts_figures_and_intervals(page):
  for text in (
    "Evaluation of the test split",
    "30 images, 5 classes",
    "12 min 34 s",
    "0123456789ab",
    "fedcba987654",
    "Black footed Albatross",
    "share of images with the right class and IoU &gt;= 0.5",
    "Worst boxes first",
    "Worst classified first",
    "Most confused pairs",
  ):
    assert text in page, text
  alts = Reader(page).alts
  for what in (
    "confusion matrix",
    "over steps",
    "accuracy against",
    "IoU",
    "each expert by pose",
    "each expert by <i>camera",
    "each expert for each class",
  ):
    assert any(what in alt for alt in alts), what


def test_what_gates_tell_of_a_camera_stands_beside_chance(page):
  told = page[page.index("What the gates tell apart") :]
  rows = re.findall(r"<tr><td>([^<]*)</td><td>(class|box)</td>", told)
  # What is another for each image (file, scale) parts nothing.
  assert rows == [
    (name, task)
    for name in ("class", "pose", "&lt;i&gt;camera")
    for task in ("class", "box")
  ]
  p = evaluation().predictions
  known = np.arange(len(p)) % 3 < 2
  camera = np.where(known, np.arange(len(p)) % 3, -1)
  want = permutation.information(p.routing["box"].dense, camera)["bits"]
  row = told[told.index("&lt;i&gt;camera</td><td>box") :]
  assert re.search(r"num.>([\d.]+)<", row).group(1) == f"{want:.3f}"


def test_of_one_expert_no_image_is_read_for_its_attributes(tmp_path):
  with mock.patch.object(report, "_known", side_effect=AssertionError):
    text = write(tmp_path, evaluation(experts=1), Noise(attributes=True), NAMES)
  assert "What the gates tell apart" not in text


def test_worst_images_come_first(page):
  p = evaluation().predictions
  section = page[page.index("Worst boxes first") :]
  shown = [a for a in Reader(section).alts if a.startswith("img/")]
  expected = [p.ids[i] for i in np.argsort(p.iou, kind="stable")]
  assert shown == expected[: gallery.WORST]


@pytest.mark.parametrize(
  "options",
  [
    {"tasks": ("class",)},
    {"tasks": ("box",)},
    {"experts": 1},
    {"labelled": 0.0},
    {"n": 1, "classes": 2, "labelled": 1.0},
  ],
)
def test_every_kind_of_run_has_a_report(tmp_path, options):
  found = evaluation(**{"n": 6, **options})
  page = write(tmp_path, found, Noise((9, 300, 3)), NAMES)
  tasks = options.get("tasks", ("class", "box"))
  known = options.get("labelled", 1.0) > 0
  assert ("<h2>Classes" in page) == ("class" in tasks and known)
  assert ("<h2>Boxes" in page) == ("box" in tasks and known)
  assert ("<h2>Experts" in page) == (options.get("experts", 3) > 1)
  assert "nan" not in page.split("</style>")[1].split("<h2>")[0].lower()
  assert "<h2>Training" not in page


def test_a_report_without_images(tmp_path):
  page = write(tmp_path, evaluation(n=6), None, NAMES)
  assert "data:image/jpeg" not in page
  assert "Most confused pairs" in page


def test_a_temperature_is_shown_beside_what_the_model_says(tmp_path):
  p = dataclasses.replace(evaluation().predictions, temperature=0.5)
  found = Evaluation(evaluate.compute_metrics(p), p, 1.5)
  page = write(tmp_path, found, None, NAMES)
  alts = Reader(page).alts
  start = alts.index("accuracy against confidence")
  assert alts[start + 1] == "accuracy against confidence, calibrated"
  assert "calibration error, calibrated" in page
  assert "divides the logits" in page


@pytest.mark.slow
def test_200_classes_of_noise_stay_below_the_limit(tmp_path):
  names = [f"{i:03d}.Some_quite_long_class_name_{i}" for i in range(200)]
  found = evaluation(n=2000, classes=200, experts=6)
  page = write(tmp_path, found, Noise((500, 480, 3)), names, {}, ROWS)
  assert 1_000_000 < len(page.encode()) < LIMIT


def test_figures_are_svg_and_the_same_each_time():
  draw = lambda: plots.confusion_matrix(np.eye(3, dtype=int), "abc")  # noqa: E731
  assert draw() == draw()
  assert ET.fromstring(draw()).tag.endswith("svg")


def test_confusion_matrix_of_many_classes_and_of_an_empty_row():
  counts = np.zeros((60, 60), int)
  counts[3, 4] = 2
  names = [str(i) for i in range(60)]
  assert ET.fromstring(plots.confusion_matrix(counts, names)) is not None


def test_training_curves_take_what_is_there():
  assert plots.training_curves([]) is None
  assert plots.training_curves([{"step": 1, "split": "test", "x": 1}]) is None
  one = [{"step": 1, "split": "train", "loss": 2.0, "top1": None}]
  again = [{"step": 1, "split": "train", "loss": 9.0}, *one]
  # A repeated step counts once, as it was last written.
  assert plots.training_curves(one) == plots.training_curves(again)
  assert plots.training_curves([{**one[0], "loss": 3.0}]) != (
    plots.training_curves(one)
  )


@pytest.mark.parametrize(
  ("name", "shown"),
  [
    ("001.Black_footed_Albatross", "Black footed Albatross"),
    ("0.5 to 0.6", "0.5 to 0.6"),
    ("St. Bernard", "St. Bernard"),
    ("x" * 40, "x" * 27 + "…"),
    ("7.", "7."),
  ],
)
def test_display_name(name, shown):
  assert names.display_name(name) == shown


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_groups_hold_their_values(values):
  values = np.asarray(values)
  groups, names = plots.group_values(values, bins=4)
  assert groups.min() >= 0 and groups.max() < len(names)
  order = np.argsort(values, kind="stable")
  assert (np.diff(groups[order]) >= 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 500), st.integers(1, 50))
def test_spread_is_even_and_without_repeats(n, count):
  index = gallery.spread(n, count)
  assert len(index) == min(n, count) == len(set(index.tolist()))
  assert index[0] == 0
  assert index[-1] == n - 1 or count == 1
