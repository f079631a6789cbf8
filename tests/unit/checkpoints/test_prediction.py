"""A checkpoint read quickly: the same bits, and nothing that has changed."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import (
  arrays,
  digests,
  exported,
  listing,
  prediction,
  restore,
)
from mtlmoe_jax.training import checkpointing
from mtlmoe_jax.training import state as state_lib
from mtlmoe_jax.utils import background
from tests.support import golden_run, tiny


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
  return golden_run.unpacked(tmp_path_factory.mktemp("runs") / "demo")


def save(folder, value, step=3, score=None, ema=None):
  """A checkpoint of one parameter, or of two."""
  count = jnp.asarray(step, jnp.int32)
  params = {"a/kernel": jnp.full((2, 3), value)}
  averaged = {} if ema is None else {"a/kernel": jnp.full((2, 3), ema)}
  state = state_lib.TrainState(
    step=count,
    bad_steps=count,
    params=params,
    batch_stats={},
    ema=averaged,
    opt_state={},
  )
  writer = checkpointing.Checkpointer(folder, keep=9)
  saved = config_lib.to_saved(tiny.config())
  writer.save(state, {}, {"config": saved, "class_names": ["a"]}, score)
  writer.close()


def read(folder, step="best"):
  restored = prediction.restore_for_prediction(folder, step)
  background.finish()
  return restored


def kernel(restored):
  return np.asarray(restored.variables["params"]["a"]["kernel"])


def assert_same(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
    assert (a.dtype, a.sharding) == (b.dtype, b.sharding)
    np.testing.assert_array_equal(a, b)


def unreadable(monkeypatch, module, name):
  def fail(*_):
    raise AssertionError(f"{name} was called")

  monkeypatch.setattr(module, name, fail)


def test_it_is_what_orbax_reads(golden, tmp_path, monkeypatch):
  run = shutil.copytree(golden, tmp_path / "run")
  expected = restore.restore_for_eval(run)
  unreadable(monkeypatch, restore, "restore_for_eval")
  first = read(run)
  unreadable(monkeypatch, arrays, "read_variables")
  second = read(run)
  for got in (first, second):
    assert_same(got.variables, expected.variables)
    assert (got.meta, got.step) == (expected.meta, expected.step)
    assert got.config == expected.config
    assert got.class_names == expected.class_names
    assert got.workdir == expected.workdir
    assert got.digest == digests.digest(
      {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(got.variables)
      }
    )


def test_averages_take_the_place_of_parameters(tmp_path):
  save(tmp_path, 1.0, ema=2.0)
  for _ in range(2):
    restored = read(tmp_path)
    np.testing.assert_array_equal(kernel(restored), 2.0)
    assert restored.variables["batch_stats"] == {}


def flip_bit(path):
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  path.write_bytes(data)


@pytest.mark.parametrize(
  "damage",
  [
    lambda folder: flip_bit(folder / exported.WEIGHTS),
    lambda folder: (folder / exported.WEIGHTS).unlink(),
    lambda folder: (folder / exported.WEIGHTS).write_bytes(b"12345678"),
    lambda folder: (folder / exported.ABOUT).write_text("{"),
    lambda folder: (folder / exported.ABOUT).write_text("[]"),
    lambda folder: (folder / exported.ABOUT).write_bytes(b"\xff\xfe"),
    lambda folder: os.truncate(folder / exported.WEIGHTS, 100),
  ],
)
def test_what_was_changed_is_written_anew(tmp_path, damage):
  save(tmp_path, 1.5)
  digest = read(tmp_path).digest
  folder = exported.folder_of(tmp_path, 3)
  before = {p.name: p.read_bytes() for p in folder.iterdir()}
  damage(folder)
  restored = read(tmp_path)
  np.testing.assert_array_equal(kernel(restored), 1.5)
  assert restored.digest == digest
  assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_another_checkpoint_of_the_same_step_is_noticed(tmp_path):
  save(tmp_path, 1.5)
  old = read(tmp_path)
  shutil.rmtree(tmp_path / restore.FOLDER)
  save(tmp_path, 2.5)
  for _ in range(2):
    new = read(tmp_path)
    np.testing.assert_array_equal(kernel(new), 2.5)
    assert new.digest != old.digest


def test_without_a_place_to_write_it_reads_all_the_same(tmp_path):
  save(tmp_path, 1.5)
  (tmp_path / exported.FOLDER).write_text("no folder")
  for _ in range(2):
    np.testing.assert_array_equal(kernel(read(tmp_path)), 1.5)


def test_steps_are_chosen_as_ever(tmp_path):
  for step, score in ((3, 0.5), (5, 0.9), (10, 0.7)):
    save(tmp_path, float(step), step, score)
  steps = {"best": 5, "latest": 10, "3": 3, 10: 10}
  for _ in range(2):
    for word, step in steps.items():
      restored = read(tmp_path, word)
      assert restored.step == step
      np.testing.assert_array_equal(kernel(restored), step)
  with pytest.raises(errors.InputError, match="there are best, latest, 3, 5"):
    read(tmp_path, 4)
  # What was written beside a checkpoint does not stand for it.
  shutil.rmtree(tmp_path / restore.FOLDER / "5")
  assert read(tmp_path).step == 10
  with pytest.raises(errors.InputError, match="no checkpoint at step '5'"):
    read(tmp_path, "5")


def test_what_belongs_to_no_checkpoint_is_removed(tmp_path):
  save(tmp_path, 1.0, 3)
  read(tmp_path)
  folder = tmp_path / exported.FOLDER
  (folder / "mine").mkdir()
  shutil.rmtree(tmp_path / restore.FOLDER / "3")
  save(tmp_path, 1.0, 6)
  read(tmp_path)
  assert sorted(p.name for p in folder.iterdir()) == ["6", "mine"]


def test_a_checkpoint_being_written_is_none(tmp_path):
  save(tmp_path, 1.0)
  folder = tmp_path / restore.FOLDER
  (folder / "9.orbax-checkpoint-tmp-0").mkdir()
  (folder / "12").write_text("no folder")
  assert list(listing.metas(folder)) == [3]
  assert read(tmp_path).step == 3


@pytest.mark.parametrize("told", ["{}", "{", '{"tree_metadata": 1}'])
def test_a_layout_that_is_not_known_is_left_to_orbax(
  tmp_path, told, monkeypatch
):
  save(tmp_path, 1.5)
  expected = read(tmp_path)
  shutil.rmtree(tmp_path / exported.FOLDER)
  known = arrays.read_variables

  def changed(folder):
    path = folder / arrays.MODEL / "_METADATA"
    kept = path.read_text()
    path.write_text(told)
    try:
      return known(folder)
    finally:
      path.write_text(kept)

  monkeypatch.setattr(arrays, "read_variables", changed)
  restored = read(tmp_path)
  assert restored.digest == expected.digest
  assert_same(restored.variables, expected.variables)


def test_mistakes_are_told_as_ever(tmp_path):
  with pytest.raises(errors.InputError, match="no such workdir"):
    read(tmp_path / "nowhere")
  with pytest.raises(errors.InputError, match="holds no checkpoints"):
    read(tmp_path)
  (tmp_path / restore.FOLDER).mkdir()
  with pytest.raises(errors.InputError, match="no checkpoint in"):
    read(tmp_path)


def test_what_training_keeps_is_read(tmp_path, monkeypatch):
  save(tmp_path, 1.5)
  restored = restore.restore_for_eval(tmp_path)
  prediction.keep(restored)
  about = json.loads(
    (exported.folder_of(tmp_path, 3) / exported.ABOUT).read_text()
  )
  unreadable(monkeypatch, arrays, "read_variables")
  got = read(tmp_path)
  assert_same(got.variables, restored.variables)
  assert got.digest == about["digest"]


def test_a_digest_is_of_names_kinds_and_values():
  one = np.arange(6, dtype=np.float32).reshape(2, 3)
  same = digests.digest({"b": one[0], "a": one})
  for other in (jnp.asarray(one), np.asfortranarray(one), one.astype(">f4")):
    assert digests.digest({"a": other, "b": one[0]}) == same
  different = [
    {"a": one.astype(np.float64), "b": one[0]},
    {"a": one.reshape(3, 2), "b": one[0]},
    {"c": one, "b": one[0]},
    {"a": one + 1, "b": one[0]},
    {"a": jnp.asarray(one, jnp.bfloat16), "b": one[0]},
  ]
  found = {digests.digest(arrays) for arrays in different}
  assert len(found | {same}) == len(different) + 1
  assert digests.digest({"a": np.float32(1)}) != digests.digest(
    {"a": np.ones(1, np.float32)}
  )
