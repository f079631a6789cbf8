"""The pages of a suite, made of findings that nobody found."""

import copy
import dataclasses
import html.parser
import lzma
import math
import re
import xml.etree.ElementTree as ET

import jinja2
import numpy as np
import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.experiments import reproduction
from mtlmoe_jax.reports import markdown, plots
from mtlmoe_jax.reports.suite import page as story
from mtlmoe_jax.reports.suite import (
  plots_cost,
  plots_curves,
  poster,
  publish,
  stored,
  webpage,
  wording,
)
from mtlmoe_jax.reports.suite.findings import (
  Answer,
  Claim,
  Curve,
  Findings,
  Measured,
  VariationResult,
)

SEEDS, EXPERTS = 3, 6
NAN = math.nan
VARIATIONS = tuple(
  (name, what, group, tasks)
  for group, tasks, members in (
    (
      "experiment 1: the class alone",
      "class",
      {
        "single": "a single expert",
        "moe": "six experts",
        "uniform": "uniform gate",
        "random": "random gate",
        "dense": "dense gate",
        "matched": "a single expert of six's parameters",
        "ensemble": "six single experts, each trained alone, together",
      },
    ),
    (
      "transfer",
      "class",
      {
        "transfer_base": "base model, other classes",
        "transfer_frozen": "from the base, experts and condense frozen",
        "transfer_unfrozen": "from the base, all trained",
      },
    ),
    (
      "experiment 2: class and box",
      "box",
      {"box_alone": "six experts, box alone"},
    ),
    (
      "experiment 2: class and box",
      "class,box",
      {
        "mtl_1": "one expert",
        "mtl_3": "three experts",
        "mtl_6": "six experts",
        "mtl_6_half_batch": "six experts, half the batch",
        "shuffled": "boxes of other images",
        "pcgrad": "gradient surgery",
        "uncertainty": "learned task weights",
      },
    ),
    (
      "what sets experts apart",
      "class,box",
      {
        "k_1": "one expert an image",
        "k_6": "dense gate, all six an image",
        "unbalanced": "no balance losses",
        "bias": "balanced by a bias, not a loss",
        "quiet": "gate noise falls to 0",
        "sharp": "gate temperature 0.25",
        "apart": "experts start apart",
        "one_gate": "one gate for both tasks",
        "wide_gate": "a wider gate that learns faster",
      },
    ),
  )
  for name, what in members.items()
)


class Reader(html.parser.HTMLParser):
  """Tags that are open, ids, addresses and the text of a page."""

  VOID = ("meta", "br", "img", "link")

  def __init__(self, text):
    super().__init__()
    self.open, self.ids, self.links, self.text = [], [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    if tag not in self.VOID:
      self.open.append(tag)
    self.ids += [value for key, value in attrs if key == "id"]
    self.links += [v for k, v in attrs if k in ("href", "xlink:href", "src")]

  def handle_startendtag(self, tag, attrs):
    self.ids += [value for key, value in attrs if key == "id"]
    self.links += [v for k, v in attrs if k in ("href", "xlink:href", "src")]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


def measured(mean, deviation=0.0123):
  per_seed = tuple(mean + d for d in (-0.01, 0.0, 0.01))
  return Measured(mean, deviation, per_seed, mean - 0.03, mean + 0.025)


def row(i, variation, random):
  name, what, group, tasks = variation
  top1 = 0.8 + 0.007 * i
  held = {"top1": measured(top1)}
  if "box" in tasks:
    held |= {
      key: measured(0.7 + 0.003 * i)
      for key in ("miou", "acc_iou_50", "top1_loc", "ciou_score")
    }
  if "class" not in tasks:
    del held["top1"]
  epochs = np.arange(1.0, 13)
  values = top1 * (1 - np.exp(-epochs / 3)) + random.normal(
    0, 0.01, (SEEDS, 12)
  )
  curve = Curve(epochs, epochs * (20 + 2 * i), values)
  together = name == "ensemble"
  return VariationResult(
    name=name,
    what=what,
    group=group,
    figures=held,
    wilson={"top1": (0.731, 0.869)} if "top1" in held else {},
    best_on_validation={} if together else {"top1": top1 - 0.002},
    best_on_test={} if together else {"top1": top1 + 0.011},
    seconds=NAN if together else 240.0 + 37 * i,
    flops=1.1e8 * (1 if i % 3 else 2.1),
    parameters=6.5e6 * (1 + i % 6),
    parameters_active=6.5e6,
    curves={} if together else {"top1": curve},
  )


def answer(question, one, other, difference, **changes):
  values = dict(
    figure="top1",
    unit="",
    low=difference - 0.011,
    high=difference + 0.012,
    counts=((12, 7), (9, 9), (3, 2)),
    p_values=(0.359, 1.0, 0.0001),
    verdict="not decidable",
  )
  return Answer(question, one, other, difference=difference, **values | changes)


def told(random, bits):
  high = 0.04 + 0.01 * random.random()
  return {
    "bits": bits,
    "null_mean": 0.03,
    "null_high": high,
    "p": 0.005,
    "share": 0.14,
  }


def study(random, tasks):
  def gate():
    load = random.dirichlet(np.full(EXPERTS, 4.0))
    return {
      "load": load.tolist(),
      "importance": random.dirichlet(np.full(EXPERTS, 4.0)).tolist(),
      "entropy": 2.125,
      "effective_experts": 4.375,
      "class": told(random, 0.4 * random.random()),
      "pose": told(random, 0.1 * random.random()),
      "facing": told(random, 0.1 * random.random()),
      "background": told(random, 0.1 * random.random()),
      "family": told(random, 0.3 * random.random()),
    }

  cka = np.clip(random.normal(0.8, 0.1, (EXPERTS, EXPERTS)), 0, 1)
  cka = (cka + cka.T) / 2
  np.fill_diagonal(cka, 1)
  found = {
    "experts": EXPERTS,
    "k": [2] * len(tasks),
    "tasks": list(tasks),
    "gates": {task: gate() for task in tasks},
    "removal": [
      {
        "expert": i,
        "top1": float(random.normal(-0.01, 0.01)),
        "miou": None,
        "per_class": [0.0, None],
      }
      for i in range(EXPERTS)
    ],
    "cka": cka.tolist(),
    "weights": {task: [[0.5] * EXPERTS] * 4 for task in tasks},
  }
  if len(tasks) == 2:
    found["agreement"] = {
      "divergence": 0.1111,
      "null": 0.2222,
      "same_top": 0.3333,
      "same_top_null": 0.1717,
    }
  return found


@pytest.fixture(scope="module")
def findings():
  random = np.random.default_rng(0)
  rows = tuple(row(i, v, random) for i, v in enumerate(VARIATIONS))
  names = ("moe", "uniform", "mtl_3", "mtl_6", "k_1", "apart")
  experts = {
    name: [
      study(random, ("class",) if name in names[:2] else ("class", "box"))
      for _ in range(SEEDS)
    ]
    for name in names
  }
  experts["single"] = [{"experts": 1}] * SEEDS
  stable = {
    "agreement": 0.4141,
    "null_mean": 0.2626,
    "null_high": 0.3131,
    "p": 0.0049,
    "pairs": 3,
  }
  return Findings(
    suite="all",
    data="cub10",
    preset="cpu",
    command="python launch/reproduce.py --suite=all --data=cub10",
    facts=("3 seeds.", "243 test images, 10 classes; commit abc."),
    rows=rows,
    claims=(
      Claim(
        1,
        "A mixture of experts beats a single expert",
        "96.7 % against 95.0 % (figure 4), 4.4 times the time",
        "refuted",
        "six experts instead of one: -0.3 points, refuted",
        (answer("six experts instead of one", "moe", "single", -0.0031),),
        (
          answer("the gate instead of chance", "moe", "random", 0.0222),
          answer("six networks trained apart", "ensemble", "single", 0.0313),
        ),
      ),
      Claim(
        2,
        "Transfer speeds learning up",
        "93.3 % after 1.2 hours instead of 2.2 (figure 5)",
        "confirmed",
        "6 epochs less",
        (
          answer(
            "epochs to 95% of the accuracy without transfer",
            "transfer_unfrozen",
            "moe",
            6.0,
            unit="epochs",
            low=3.5,
            high=8.5,
            counts=(),
            p_values=(),
            verdict="confirmed",
          ),
        ),
        (),
      ),
    ),
    answers=tuple(
      answer(r.what, r.name, "mtl_6", 0.004 * (i % 7) - 0.01, figure=figure)
      for i, r in enumerate(rows[-9:])
      for figure in ("top1", "miou")
    ),
    experts=experts,
    stability={"mtl_6": {"class": stable, "box": stable}},
  )


@pytest.fixture(scope="module")
def published(findings, tmp_path_factory):
  out = tmp_path_factory.mktemp("pages") / "experiments" / "cub10.md"
  return out, publish.publish(findings, out)


def headings(findings):
  return re.findall(r"^##+ (.*)$", story.text(findings, "x"), re.MULTILINE)


def tables(findings):
  """Header and rows of each; a row that is a heading has one cell."""
  for table in re.findall(
    r"(?:^\|.*\n)+", story.text(findings, "x"), re.MULTILINE
  ):
    header, _, *rows = (
      [
        cell.replace("<br>", "\n").replace("&lt;", "<").replace(r"\|", "|")
        for cell in re.split(r" ?(?<!\\)\| ?", line)[1:-1]
      ]
      for line in table.splitlines()
    )
    yield header, [row if any(row[1:]) else row[:1] for row in rows]


def cells(findings, first, column):
  """Cells of a column whose line begins with a text."""
  return [
    row[header.index(column)]
    for header, rows in tables(findings)
    if column in header
    for row in rows
    if len(row) > 1 and row[0].startswith(first)
  ]


def test_every_section(findings):
  assert headings(findings) == [
    "Verdicts",
    "How to read this",
    "Claim 1: A mixture of experts beats a single expert",
    "Claim 2: Transfer speeds learning up",
    "Other comparisons",
    "Results",
    "Which epoch is reported",
    "What each costs",
    "While training",
    "Against what it costs",
    "What experts learn",
    "How they are used",
    "What their choice tells of an image",
    "Whether the tasks share them",
    "Whether seeds divide images alike",
    "What each is needed for",
    "How alike they are",
  ]


def test_every_picture(findings):
  assert [p.name for p in story.pictures(findings)] == [
    "verdicts",
    "controls_1",
    "others",
    "curves_exp1",
    "curves_transfer",
    "curves_exp2",
    "cost",
    "use",
    "information",
    "removal",
    "cka",
  ]


def test_numbers_of_rows(findings):
  moe = next(r for r in findings.rows if r.name == "moe")
  mean = 100 * moe.figures["top1"].mean
  first = "six experts (`moe`)"
  assert cells(findings, first, "top-1") == [f"{mean:.1f} ± 1.2"]
  assert cells(findings, first, "poster") == ["top-1 96.7"]
  one = 100 * moe.figures["top1"].per_seed[0]
  assert cells(findings, first, "one run") == [f"{one:.1f} [73.1, 86.9]"]
  assert cells(findings, first, "best on validation") == [f"{mean - 0.2:.1f}"]
  best = "best on test (the poster's way, too high)"
  assert cells(findings, first, best) == [f"{mean + 1.1:.1f}"]
  assert cells(findings, first, "time of a run") == ["4:37"]
  assert cells(findings, first, "MFLOPs an image") == ["110"]
  assert cells(findings, first, "parameters, M (active)") == ["13.00 (6.50)"]
  assert cells(findings, first, "mean IoU") == ["-"]
  together = "six single experts, each trained alone, together (`ensemble`)"
  assert cells(findings, together, "time of a run") == ["-"]
  table = cells(findings, "one expert (`mtl_1`)", "poster")
  assert table == ["top-1 79.18\nCIoU score 93.37"]


def test_numbers_of_answers(findings):
  column = "difference [95 %]"
  assert "-0.3 [-1.4, +0.9] points" in cells(
    findings, "six experts inst", column
  )
  assert cells(findings, "epochs to", column) == ["+6.0 [+3.5, +8.5] epochs"]
  counts = "only one/only other right, per seed (McNemar's p)"
  assert cells(findings, "the gate instead", counts) == [
    "12/7 (0.359); 9/9 (1.000); 3/2 (<0.001)"
  ]
  assert cells(findings, "1. A mixture", "verdict") == ["**refuted**"]
  reason = findings.claims[1].reason
  assert cells(findings, "2. Transfer", "what was found here") == [reason]


def test_numbers_of_experts(findings):
  first = "six experts (`mtl_6`)"
  assert cells(findings, first, "effective experts") == ["4.38"] * 2
  assert cells(findings, first, "k") == ["2", "2"]
  assert cells(findings, first, "divergence") == ["0.111"]
  assert cells(findings, first, "agreement") == ["0.414"] * 2
  bits = [s["gates"]["box"]["pose"]["bits"] for s in findings.experts["mtl_6"]]
  lines = [
    row
    for header, rows in tables(findings)
    if "bits" in header
    for row in rows
    if row[:3] == [first, "box", "pose"]
  ]
  mean, spread = np.mean(bits), np.std(bits, ddof=1)
  assert [r[3] for r in lines] == [f"{mean:.3f} ± {spread:.3f}"]
  poses = [
    gate["pose"]
    for found in findings.experts.values()
    for s in found
    for gate in s.get("gates", {}).values()
  ]
  above = sum(i["bits"] > i["null_high"] for i in poses)
  chance = wording.decimal(0.05 * len(poses), 1)
  count = f"of {len(poses)} about pose **{above}** (by chance {chance})"
  assert count in story.text(findings, "x")


def test_the_value_of_gates_where_it_is_known(findings):
  assert "gate value" not in story.text(findings, "x")
  known = copy.deepcopy(findings)
  for found in known.experts["mtl_6"]:
    found["gates"]["class"]["gate_value"] = 0.0125
  first = "six experts (`mtl_6`)"
  assert cells(known, first, "gate value") == ["1.2", "-"]


def test_files(published, findings):
  out, paths = published
  names = [p.name for p in story.pictures(findings)]
  expected = [f"cub10_{name}.svg" for name in names]
  expected += ["cub10.json", "cub10.html", "cub10.md"]
  assert [p.name for p in paths] == expected
  assert sorted(p.name for p in out.parent.iterdir()) == sorted(expected)
  for path in paths:
    if path.suffix == ".svg":
      assert ET.fromstring(path.read_bytes()).tag.endswith("svg")
      # Text is text: it can be searched, and is small.
      assert "DejaVu Sans" in path.read_text("utf-8")


def test_markdown(published, findings):
  out, _ = published
  text = out.read_text("utf-8")
  assert text.startswith("# The poster's experiments, on cub10\n")
  shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
  assert shown == [
    f"cub10_{p.name}.svg"
    for p in story.pictures(findings)
    if p.name in story.SHOWN
  ]
  assert len(shown) == 2
  assert all((out.parent / name).is_file() for name in shown)
  assert findings.command in text
  assert "[cub10.json](cub10.json)" in text
  assert "--from=cub10.json --out=site/cub10.md" in text
  # Every line of a table has as many cells as its header.
  for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
    widths = {
      len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()
    }
    assert len(widths) == 1


def test_webpage(published, findings):
  out, _ = published
  text = out.with_suffix(".html").read_text("utf-8")
  page = Reader(text)
  assert page.open == []
  assert len(page.ids) == len(set(page.ids))
  # Nothing from elsewhere, and every place that is pointed to is there.
  links = [v for v in page.links if not v.startswith("data:image/png;")]
  assert {link[1:] for link in links} <= set(page.ids)
  assert all(link.startswith("#") for link in links)
  assert text.count("<svg ") == len(story.pictures(findings))
  said = "".join(page.text)
  for heading in headings(findings):
    assert said.count(heading) >= 2  # among the contents and in its place
  assert "python launch/reproduce.py" in said
  assert "<script" not in text


def test_nothing_unknown_is_printed(published):
  out, _ = published
  for suffix in (".md", ".html"):
    text = out.with_suffix(suffix).read_text("utf-8")
    text = re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(nan|inf|None)\b", text)


def seven_digits(value):
  """A number as it is stored; a whole one has all its digits."""
  if isinstance(value, float) and not value.is_integer():
    return float(np.format_float_scientific(value, 6, unique=False))
  return value


def equal(one, other):
  """Whether the second findings are the first as stored, NaN and all."""
  if dataclasses.is_dataclass(one):
    return all(
      equal(getattr(one, f.name), getattr(other, f.name))
      for f in dataclasses.fields(one)
    )
  if isinstance(one, dict):
    return one.keys() == other.keys() and all(
      equal(one[key], other[key]) for key in one
    )
  if isinstance(one, list | tuple):
    return len(one) == len(other) and all(map(equal, one, other))
  if isinstance(one, np.ndarray):
    stored_ones = [seven_digits(value) for value in one.ravel().tolist()]
    np.testing.assert_array_equal(np.reshape(stored_ones, one.shape), other)
    return one.dtype == other.dtype
  if one is None or one != one:
    return other != other
  return type(one) is type(other) and seven_digits(one) == other


def test_json_round_trip(published, findings):
  out, _ = published
  found = stored.read(out.with_suffix(".json"))
  lean = {
    name: [{k: v for k, v in s.items() if k != "weights"} for s in of]
    for name, of in findings.experts.items()
  }
  assert equal(dataclasses.replace(findings, experts=lean), found)
  again, once = story.pictures(found), story.pictures(findings)
  assert [p.name for p in again] == [p.name for p in once]
  assert story.text(found, "x", whole=True) == story.text(
    findings, "x", whole=True
  )


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"suite": 1}'])
def test_a_file_of_other_things_is_refused(tmp_path, text):
  path = tmp_path / "x.json"
  with pytest.raises(
    errors.InputError, match="x\\.json: no numbers of a suite"
  ):
    stored.read(path)
  path.write_text(text)
  with pytest.raises(
    errors.InputError, match="x\\.json: no numbers of a suite"
  ):
    stored.read(path)


def test_text_in_a_picture_keeps_its_digits():
  def draw(figure):
    figure.text(0.123456, 0.5, "0.123456")

  svg = plots.render(draw, 1, 1).decode()
  assert ">0.123456</text>" in svg
  assert 'x="8.88"' in svg
  # What is only a name around one element is left out.
  assert '<g id="' not in svg and "<g>\n<text" not in svg


def bare(**parts):
  values = dict(
    suite="exp1",
    data="synthetic",
    preset="cpu",
    command="true",
    facts=(),
    rows=(),
    claims=(),
    answers=(),
    experts={},
    stability={},
  )
  return Findings(**values | parts)


def test_numbers_are_stored_with_seven_digits(tmp_path):
  numbers = {"third": 1 / 3, "small": -2e-9 / 3, "whole": 1234567891.0}
  experts = {"moe": [{"experts": 2, **numbers}]}
  stored.write(bare(experts=experts), tmp_path / "x.json")
  text = (tmp_path / "x.json").read_text("utf-8")
  assert '"third":0.3333333,"small":-6.666667e-10,"whole":1234567891.0' in text


def test_a_page_without_pictures(findings, tmp_path):
  paths = publish.publish(findings, tmp_path / "cub10.md", pictures=False)
  assert [path.name for path in paths] == ["cub10.json", "cub10.md"]
  assert sorted(tmp_path.iterdir()) == sorted(paths)
  text = paths[-1].read_text("utf-8")
  assert ".svg" not in text
  titles = [
    f"(Picture on the page for a browser: {picture.title}.)"
    for picture in story.pictures(findings)
    if picture.name in story.SHOWN
  ]
  assert len(titles) == 2 and all(title in text for title in titles)


def test_what_is_missing_is_left_out(tmp_path):
  page = bare()
  assert headings(page) == ["How to read this"]
  assert story.pictures(page) == []
  paths = publish.publish(bare(), tmp_path / "x.md")
  assert [p.name for p in paths] == ["x.json", "x.html", "x.md"]
  assert stored.read(tmp_path / "x.json") == bare()
  single = bare(experts={"single": [{"experts": 1}]})
  assert headings(single) == ["How to read this"]


def test_a_single_seed_of_unknown_cost(findings, tmp_path):
  one = Measured(0.5, NAN, (0.5,), 0.4, 0.6)
  rows = tuple(
    VariationResult(
      name=name,
      what="something of a very long name, " * 6,
      group="a group of a name that is not short either, " * 3,
      figures={"top1": one},
      wilson={},
      best_on_validation={},
      best_on_test={},
      seconds=NAN,
      flops=NAN,
      parameters=NAN,
      parameters_active=NAN,
      curves={
        "top1": Curve(
          np.array([1.0, 2.0]),
          np.array([NAN, NAN]),
          np.array([[0.1, NAN]]),
        )
      },
    )
    for name in ("single", "moe")
  )
  epochs = answer(
    "how fast " * 20,
    "moe",
    "single",
    2.0,
    unit="epochs",
    low=-math.inf,
    high=math.inf,
    counts=(),
    p_values=(),
  )
  nothing = answer("nothing", "moe", "single", NAN, low=NAN, high=NAN)
  found = bare(
    rows=rows,
    claims=(
      Claim(1, "claim", "96.7", "not decidable", "why", (epochs, nothing), ()),
    ),
  )
  assert [p.name for p in story.pictures(found)] == ["verdicts", "curves_exp1"]
  assert cells(found, "1. claim", "what was found here") == ["why"]
  assert cells(found, "something", "top-1") == ["50.0", "50.0"]
  publish.publish(found, tmp_path / "x.md")
  assert "nan" not in (tmp_path / "x.md").read_text("utf-8")
  assert plots_cost.cost(rows) is None
  with_cost = [dataclasses.replace(r, flops=2e8) for r in rows]
  picture = plots_cost.cost(with_cost)
  ET.fromstring(picture.svg())


def test_text_is_escaped(findings):
  claim = Claim(
    1,
    "a < b & `c<d>`",
    "a|b",
    "open",
    "**<b>** [x](https://e.org/?a=1&b=2) [y](javascript:z())",
    (),
    (),
  )
  row = dataclasses.replace(
    findings.rows[0], name="`&lt;`", what="one\n<two> | three", group="<i>"
  )
  page = bare(suite="<script>", command="<pre>", claims=(claim,), rows=(row,))
  text = webpage.page(story.text(page, "x", whole=True), picture_files(page))
  reader = Reader(text)
  assert reader.open == []
  assert "<script" not in text
  assert "<two>" in "".join(reader.text)
  assert "<strong>&lt;b&gt;</strong>" in text
  assert "c<d>" in "".join(reader.text)
  assert "https://e.org/?a=1&b=2" in reader.links
  assert not any("javascript" in link for link in reader.links)
  text = story.text(page, "x")
  assert text.startswith("# &lt;script>, on synthetic\n")
  assert "`c<d>`" in text
  assert r"| one<br>&lt;two> \| three" in text
  assert r"| a\|b |" in text
  assert "| **&lt;i>** |" in text
  assert "```\n<pre>\n```" in text


def picture_files(page):
  return {f"x_{p.name}.svg": b"<svg />" for p in story.pictures(page)}


@pytest.mark.parametrize(
  "text, escaped",
  [
    ("a`b <c> `d`", r"a`b <c> `d\`"),
    ("` <script>", r"\` &lt;script>"),
    ("&lt; & &amp;", "&amp;lt; & &amp;amp;"),
    (0.5, "0.5"),
  ],
)
def test_escape(text, escaped):
  once = markdown.escape(text)
  assert once == escaped
  assert markdown.escape(once) == once


def test_a_template_names_what_is_there():
  with pytest.raises(jinja2.UndefinedError, match="pixels"):
    markdown.render("weights.md.j2", {"plain": str})


def test_equal_data_equal_file():
  line = ("a", Curve(np.arange(3.0), np.arange(3.0), np.ones((2, 3))))
  picture = plots_curves.learning("x", "title", [line])
  once, twice = (picture.svg() for _ in range(2))
  assert once == twice


def test_no_curve_no_picture():
  empty = Curve(np.zeros(0), np.zeros(0), np.zeros((2, 0)))
  assert plots_curves.learning("x", "title", [("a", empty)]) is None


def test_the_poster_is_told_of_known_variations():
  base = reproduction.base_config("cub", "paper", "somewhere")
  found = reproduction.variations("all", "cub", "paper", base)
  known = {variation.name for variation in found}
  assert set(poster.REPORTED) <= known
  for reported in poster.REPORTED.values():
    assert set(reported.metrics) <= set(wording.FIGURES)
    assert all(0 < value < 1 for value in reported.metrics.values())


def test_words():
  assert wording.decimal(-0.001, 1) == "0.0"
  assert wording.decimal(-0.001, 1, "+") == "-0.0"
  assert wording.decimal(None) == wording.decimal(math.inf) == "-"
  assert wording.p_value(None) == "-"
  assert wording.interval(-math.inf, 1.0) == ""
  assert math.isnan(wording.mean([NAN]))


def test_numbers_may_be_packed(findings, tmp_path):
  paths = publish.publish(
    findings, tmp_path / "cub10.md", pictures=False, packed=True
  )
  assert [path.name for path in paths] == ["cub10.json.xz", "cub10.md"]
  plain = tmp_path / "plain.json"
  stored.write(findings, plain)
  packed = tmp_path / "cub10.json.xz"
  assert packed.stat().st_size < plain.stat().st_size / 2
  assert lzma.decompress(packed.read_bytes()) == plain.read_bytes()
  assert "[cub10.json.xz](cub10.json.xz)" in paths[-1].read_text("utf-8")
  packed.write_bytes(b"no xz")
  with pytest.raises(errors.InputError, match="no numbers of a suite"):
    stored.read(packed)
