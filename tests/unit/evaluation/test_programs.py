"""Programs that outlive their process: the same bits, nothing that changed."""

import pathlib
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import models
from mtlmoe_jax.checkpoints import Restored
from mtlmoe_jax.evaluation import program_files, programs
from mtlmoe_jax.utils import background
from tests.support.fake_model import NAMES, FakeModel

RNG = np.random.default_rng(0)
BATCH = {
  "image": RNG.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8),
  "valid": np.ones(2, bool),
}


class Weighed(FakeModel):
  """A model with a parameter, which counts how often it is traced."""

  traces = 0

  def apply(self, variables, images, train, valid):
    Weighed.traces += 1
    scaled = images * variables["params"]["scale"]
    return super().apply(variables, scaled, train, valid)


@pytest.fixture
def restored(tmp_path, monkeypatch):
  monkeypatch.setattr(models, "build_model", lambda *_: Weighed())
  monkeypatch.setattr(Weighed, "traces", 0)
  cache = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache"))
  (tmp_path / "cache").mkdir()
  (tmp_path / "run").mkdir()
  yield of(tmp_path / "run")
  background.finish()
  jax.config.update("jax_compilation_cache_dir", cache)


def of(workdir, digest="d", **options):
  config = config_lib.default_config()
  config.data.image_size = 8
  for path, value in options.items():
    config_lib.set_path(config, path, value)
  variables = {"params": {"scale": jnp.float32(0.75)}, "batch_stats": {}}
  return Restored(
    variables, config, NAMES, 1, {}, pathlib.Path(workdir), None, digest
  )


def answer(restored, batch=BATCH):
  out = programs.make_step(restored)(restored.variables, batch)
  background.finish()
  return jax.tree.map(np.asarray, out)


def assert_same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, one, other)


def kept(folder):
  return sorted(folder.rglob("program-*.stablehlo"))


def test_the_second_start_traces_nothing(restored, monkeypatch):
  plain = programs.make_predict_step(Weighed())(restored.variables, BATCH)
  Weighed.traces = 0
  first = answer(restored)
  assert Weighed.traces == 1
  assert_same(first, jax.tree.map(np.asarray, plain))
  monkeypatch.setattr(models, "build_model", None)
  assert_same(answer(restored), first)
  assert Weighed.traces == 1


def test_one_place_is_enough_and_fills_the_other(restored):
  answer(restored)
  folder = restored.workdir
  (mine,), (other,) = kept(folder), kept(folder.parent / "cache")
  assert mine.read_bytes() == other.read_bytes() and mine.name == other.name
  assert mine.parent == folder / "exported" / "1"
  mine.unlink()
  answer(restored)
  assert kept(folder) == [mine]
  other.unlink()
  answer(restored)
  assert kept(folder.parent / "cache") == [other]
  assert Weighed.traces == 1


def test_a_run_of_the_same_kind_finds_it(restored):
  answer(restored)
  other = restored.workdir.parent / "new"
  other.mkdir()
  answer(of(other, seed=7, epochs=3))
  assert Weighed.traces == 1 and len(kept(other)) == 1


@pytest.mark.parametrize(
  "damage",
  [
    lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    lambda data: data[: len(data) // 2],
    lambda data: b"",
    lambda data: data + b"x",
  ],
)
def test_a_changed_file_is_written_anew(restored, damage):
  first = answer(restored)
  files = kept(restored.workdir.parent)
  before = files[0].read_bytes()
  for path in files:
    path.write_bytes(damage(before))
  assert_same(answer(restored), first)
  assert Weighed.traces == 2
  written = kept(restored.workdir.parent)
  assert len(written) == 2
  for path in written:
    assert path.stem.endswith(program_files.digest_of(path.read_bytes()))


def test_a_changed_file_is_mended_under_its_own_name(restored):
  cache, folder = restored.workdir.parent / "cache", restored.workdir
  contents = []
  # From one line: a program names the lines that it was called from.
  for changed in ([], [folder], [cache, folder]):
    for place in changed:
      for path in kept(place):
        path.write_bytes(b"changed")
    answer(restored)
    contents.append([(p.name, p.read_bytes()) for p in kept(folder.parent)])
  # What is whole in one place is copied to the other.
  assert Weighed.traces == 2
  assert contents == contents[:1] * 3 and len(contents[0]) == 2


def test_a_file_that_jax_does_not_read_is_traced_anew(restored):
  first = answer(restored)
  for path in kept(restored.workdir.parent):
    # Whole, by its name, but no program.
    stem = path.name.rpartition("-")[0]
    digest = program_files.digest_of(b"of another JAX")
    path.rename(path.with_name(f"{stem}-{digest}.stablehlo")).write_bytes(
      b"of another JAX"
    )
  assert_same(answer(restored), first)
  assert Weighed.traces == 2
  assert len(kept(restored.workdir)) == 1


@pytest.mark.parametrize(
  "change",
  [
    lambda patch: patch.setattr(program_files, "__version__", "9.9"),
    lambda patch: patch.setattr(jax, "__version__", "9.9"),
    lambda patch: patch.setattr(program_files, "_code", lambda: "other"),
    lambda patch: patch.setattr(
      program_files.compilation, "backend", lambda: "tpu"
    ),
  ],
)
def test_another_version_traces_anew(restored, monkeypatch, change):
  answer(restored)
  change(monkeypatch)
  answer(restored)
  assert Weighed.traces == 2


def test_the_key_is_of_shapes_model_and_numbers(restored):
  answer(restored)
  answer(restored, {k: np.concatenate([v, v]) for k, v in BATCH.items()})
  assert Weighed.traces == 2
  answer(of(restored.workdir, **{"model.experts": 2}))
  assert Weighed.traces == 3
  with jax.default_matmul_precision("bfloat16"):
    answer(restored)
  assert Weighed.traces == 4


def test_without_flatbuffers_it_is_traced_each_time(restored, monkeypatch):
  monkeypatch.setitem(sys.modules, "flatbuffers", None)
  for name in list(sys.modules):
    if name.startswith("jax._src.export.ser"):
      monkeypatch.delitem(sys.modules, name)
  first = answer(restored)
  assert_same(answer(restored), first)
  assert Weighed.traces == 2 and not kept(restored.workdir.parent)


def test_without_a_place_to_write_it_answers(restored):
  jax.config.update("jax_compilation_cache_dir", None)
  (restored.workdir / "exported").write_text("no folder")
  assert_same(answer(restored), answer(restored))
  assert Weighed.traces == 2


def test_what_came_from_no_file_is_left_nowhere(restored):
  answer(of(restored.workdir, digest=""))
  assert not kept(restored.workdir.parent)


def test_what_is_known_of_a_batch_is_used(restored, monkeypatch):
  seen = []

  def apply(self, variables, images, train, valid, features):
    seen.append(features)
    return super(Weighed, self).apply(variables, images, train, valid)

  monkeypatch.setattr(Weighed, "apply", apply)
  answer(restored, {**BATCH, "features": np.ones((2, 3), np.float32)})
  assert len(seen) == 1


def test_threads_make_a_program_once(restored):
  step = programs.make_step(restored)
  step.prepare(2)
  results = []
  threads = [
    threading.Thread(
      target=lambda: results.append(step(restored.variables, BATCH))
    )
    for _ in range(4)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(results) == 4 and Weighed.traces == 1
  assert_same(jax.tree.map(np.asarray, results[0]), answer(restored))


def test_what_prepare_meets_is_told_by_the_call(restored, monkeypatch, capfd):
  def broken(*_):
    raise RuntimeError("no such model")

  monkeypatch.setattr(models, "build_model", broken)
  step = programs.make_step(restored)
  step.prepare(2)
  background.finish()
  assert not capfd.readouterr().err
  with pytest.raises(RuntimeError, match="no such model"):
    step(restored.variables, BATCH)
