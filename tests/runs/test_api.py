"""The library: a finished run is loaded, asked, evaluated; and mistakes."""

import concurrent.futures
import dataclasses
import json
import math
import subprocess
import sys
import textwrap
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import mtlmoe_jax as mm
from mtlmoe_jax import api
from mtlmoe_jax.utils import background
from tests.support import golden_run, tiny, written


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  return golden_run.unpacked(tmp_path_factory.mktemp("runs") / "demo")


@pytest.fixture(scope="module")
def model(workdir):
  model = mm.load(workdir)
  background.finish()  # Else a test could find it writing beside it.
  return model


@pytest.fixture
def files(tmp_path):
  """Image files whose pixels are `golden_run.images()`."""
  paths = [tmp_path / f"{i}.png" for i in range(5)]
  for path, image in zip(paths, golden_run.images()):
    Image.fromarray(image).save(path)
  return paths


def test_a_model_says_what_it_is(model, workdir):
  assert model.step == 2 and model.workdir == workdir
  assert len(model.class_names) == 3
  assert model.config.model.experts == 2
  assert sorted(model.variables) == ["batch_stats", "params"]
  assert "step=2, 2 x efficientnet_nano, 3 classes" in repr(model)


def test_predictions_are_those_of_the_script(workdir, model, files, tmp_path):
  entries = written.rows(
    mm.checkpoints.restore_for_eval(workdir),
    files,
    tmp_path / "out",
  )
  predictions = list(model.predict(files))
  assert len(predictions) == len(entries) == 5
  for p, entry in zip(predictions, entries):
    assert isinstance(p, mm.Prediction)
    assert (p.id, p.width, p.height) == (
      entry["id"],
      entry["width"],
      entry["height"],
    )
    # To the last bit.
    assert (p.label, p.class_index) == (entry["class"], entry["class_index"])
    assert p.probability == entry["probability"]
    assert [t._asdict() for t in p.top5] == [
      {"label": t["class"], "probability": t["probability"]}
      for t in entry["top5"]
    ]
    assert [round(v, 2) for v in p.box.pixels] == entry["box"]["pixels"]
    assert [round(v, 6) for v in p.box.shares] == entry["box"]["normalised"]
    experts = {
      task: [e._asdict() for e in es] for task, es in p.experts.items()
    }
    assert experts == entry["experts"]
    assert list(p.experts) == ["class", "box"]


def test_paths_arrays_and_pictures_are_the_same(model, files):
  by_path = list(model.predict(map(str, files)))
  arrays = golden_run.images()
  others = map(jnp.asarray, arrays[3:])
  for images in (
    files,
    arrays,
    [Image.fromarray(image) for image in arrays],
    (path for path in files),
    [str(files[0]), arrays[1], Image.open(files[2]), *others],
    [path.read_bytes() for path in files],
    (bytearray(path.read_bytes()) for path in files),
  ):
    for one, other in zip(by_path, model.predict(images), strict=True):
      assert dataclasses.replace(other, id=one.id) == one
  assert [p.id for p in model.predict(arrays)] == ["0", "1", "2", "3", "4"]
  assert [p.id for p in by_path] == [str(path) for path in files]


def test_one_or_many(model, files):
  array = golden_run.images()[0]
  ones = [files[0], str(files[0]), array, Image.fromarray(array)]
  for image in ones:
    (p,) = model.predict(image)
    assert p.box.pixels == tuple(32 * v for v in p.box.shares)
  many = list(model.predict(np.stack([array, array // 2])))
  assert [p.id for p in many] == ["0", "1"]


def test_batches_change_nothing_and_little_is_compiled(model):
  images = golden_run.images() * 2
  whole = list(model.predict(images, batch_size=10))
  for size in (1, 3, 4):
    for one, other in zip(whole, model.predict(images, batch_size=size)):
      assert other.label == one.label
      assert other.experts.keys() == {"class", "box"}
      assert other.probability == pytest.approx(one.probability, abs=1e-5)
      np.testing.assert_allclose(other.box.shares, one.box.shares, atol=1e-5)


def test_a_batch_is_a_power_of_two(model, monkeypatch):
  sizes = []
  start = api.Predictor.start

  def noted(self, images, size):
    sizes.append(size)
    return start(self, images, size)

  monkeypatch.setattr(api.Predictor, "start", noted)
  images = golden_run.images()
  for count, batch_size in ((1, 0), (2, 0), (3, 0), (5, 0), (3, 1), (5, 3)):
    list(model.predict(images[:count], batch_size=batch_size))
  assert sizes == [1, 2, 4, *(4, 4), *(1, 1, 1), *(3, 3)]


def test_any_number_of_threads_may_ask(model, files):
  expected = list(model.predict(files))
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    asked = [pool.submit(lambda: list(model.predict(files))) for _ in range(24)]
    for future in asked:
      assert future.result() == expected


def test_an_answer_that_is_not_wanted_leaves_nothing_behind(model):
  before = threading.active_count()
  predictions = model.predict(golden_run.images() * 3, batch_size=2)
  next(predictions)
  predictions.close()
  # Its threads end by themselves.
  end = time.monotonic() + 20
  while threading.active_count() > before and time.monotonic() < end:
    time.sleep(0.01)
  assert threading.active_count() <= before


def test_images_are_read_a_batch_at_a_time(model):
  given = []

  def stream():
    for image in golden_run.images():
      given.append(image)
      yield image

  predictions = model.predict(stream(), batch_size=2)
  next(predictions)
  assert len(given) == 2
  assert len(list(predictions)) == 4 and len(given) == 5


def test_views_and_temperature(model):
  images = golden_run.images()[:2]
  # The temperature of the run belongs to whole images.
  (kept, _), (plain, _) = (
    list(m.predict(images))
    for m in (
      model,
      api.Model(dataclasses.replace(model._restored, calibration=None)),
    )
  )
  one, other = (
    math.log(p.top5[0].probability / p.top5[1].probability)
    for p in (kept, plain)
  )
  temperature = model._restored.temperature
  assert one * temperature == pytest.approx(other, rel=1e-3)
  flipped = next(model.predict(images, views="flip"))
  assert flipped.box != kept.box
  assert model.config.eval.views == "whole"


def test_weights_are_those_of_the_selected_experts(model):
  for p in model.predict(golden_run.images()[:2]):
    for task, weights in p.weights.items():
      assert len(weights) == 2
      selected = {e.expert: e.weight for e in p.experts[task]}
      assert weights == tuple(selected.get(e, 0.0) for e in range(2))


def test_a_split_is_evaluated(model, workdir, tmp_path):
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
  evaluation = model.evaluate("test")
  assert isinstance(evaluation, mm.Evaluation)
  expected = golden_run.ANSWERS["metrics"]
  assert evaluation.metrics["n"] == expected["n"] == 9
  for name in ("top1", "miou", "loss_class", "brier"):
    assert evaluation.metrics[name] == pytest.approx(expected[name], abs=1e-4)
  assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
  again = mm.evaluate(workdir, "validation", out=tmp_path)
  written = json.loads((tmp_path / "validation" / "metrics.json").read_text())
  assert written["n"] == again.metrics["n"] == 24
  assert written["top1"] == again.metrics["top1"]


def test_the_second_start_imports_what_it_needs(workdir, files):
  expected = next(mm.load(workdir).predict(files[0]))  # Leaves its program.
  background.finish()
  code = """
import sys
import mtlmoe_jax as mm
(p,) = mm.load(sys.argv[1]).predict(sys.argv[2])
from mtlmoe_jax.predicting import run
print(p.probability.hex(), *(x.hex() for x in p.box.pixels))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
print(*(name for name in sys.modules if name.startswith("mtlmoe_jax.")))
"""
  done = subprocess.run(
    [sys.executable, "-c", code, str(workdir), str(files[0])],
    env=tiny.environment(),
    capture_output=True,
    text=True,
    timeout=200,
  )
  assert done.returncode == 0, done.stderr
  numbers, packages, modules = map(str.split, done.stdout.splitlines())
  assert numbers == [
    expected.probability.hex(),
    *(x.hex() for x in expected.box.pixels),
  ]
  # JAX itself brings SciPy where it reads a program.
  packages_of_training = ("chex", "flax", "grain", "optax", "orbax")
  for name in (*packages_of_training, "jinja2", "matplotlib", "tensorstore"):
    assert name not in packages
  for room in ("models", "training", "data.layouts", "data.pipeline"):
    assert f"mtlmoe_jax.{room}" not in modules


def test_the_example_runs(workdir, files, monkeypatch, capsys):
  folder = files[0].parent
  (folder / "runs").symlink_to(workdir.parent)
  for name, path in zip(("a", "b"), files):
    Image.open(path).save(folder / f"{name}.jpg")
  monkeypatch.chdir(folder)
  # The indented block of the docstring.
  blocks = api.__doc__.split("\n\n")
  start = next(i for i, block in enumerate(blocks) if "import" in block)
  code = textwrap.dedent("\n\n".join(blocks[start : start + 2]))
  assert len(list(filter(None, code.splitlines()))) == 5
  exec(code, {})
  *predicted, top1 = capsys.readouterr().out.splitlines()
  assert len(predicted) == 2 and "ExpertWeight(expert=" in predicted[0]
  assert 0 <= float(top1) <= 1


GOOD = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
  ("images", "message"),
  [
    ([], "no images given"),
    (iter(()), "no images given"),
    (np.zeros((0, 4, 5, 3), np.uint8), "no images given"),
    ("/nowhere/a.jpg", "no such image file: /nowhere/a.jpg"),
    (3, "^int is no image"),
    (None, "^NoneType is no image"),
    ([3], "image 0 is of type int"),
    ([GOOD, [1, 2]], "image 1 is of type list"),
    (GOOD.astype(np.float32), "image 0 is of float32"),
    ([GOOD, GOOD[..., 0]], r"image 1 has shape \(4, 5\)"),
    (np.zeros((4, 5, 4), np.uint8), r"image 0 has shape \(4, 5, 4\)"),
    (np.zeros((4, 0, 3), np.uint8), r"image 0 has shape \(4, 0, 3\)"),
    (np.zeros((2, 3, 4, 5, 3), np.uint8), r"image 0 has shape \(3, 4, 5, 3\)"),
    (Image.new("RGB", (0, 3)), "image 0 has no pixels"),
    (b"", "image 0 cannot be read"),
    ([GOOD, b"no image"], "image 1 cannot be read as an image"),
  ],
)
def test_bad_images_are_named(model, images, message):
  with pytest.raises(mm.InputError, match=message) as caught:
    list(model.predict(images))
  assert "\n" not in str(caught.value)


def test_other_mistakes_are_named(model, workdir, tmp_path):
  text = tmp_path / "a.jpg"
  text.write_text("no image")
  with pytest.raises(mm.InputError, match=r"a\.jpg cannot be read"):
    model.predict([text])
  with pytest.raises(mm.InputError, match="'flop'"):
    model.predict(GOOD, views="flop")
  with pytest.raises(mm.InputError, match="batch_size=-1"):
    model.predict(GOOD, batch_size=-1)
  with pytest.raises(mm.InputError, match="must be one of train"):
    model.evaluate("tset")
  with pytest.raises(mm.InputError, match="no such workdir: /nowhere"):
    mm.load("/nowhere")
  with pytest.raises(mm.InputError, match="no such workdir: /nowhere"):
    mm.evaluate("/nowhere")
  with pytest.raises(mm.InputError, match="holds no checkpoints"):
    mm.load(tmp_path)
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(mm.InputError, match="no checkpoint in"):
    mm.load(tmp_path)
  with pytest.raises(mm.InputError, match="no checkpoint at step 7"):
    mm.load(workdir, step=7)
  config = mm.config.override(mm.config.default(), "experts=0")
  with pytest.raises(mm.InputError, match=r"config\.model\.experts"):
    mm.train(config, tmp_path / "new")
  assert not (tmp_path / "new").exists()
