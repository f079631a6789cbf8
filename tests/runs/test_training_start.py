"""What a run says of its data before the first step, or refuses."""

import json

import pytest

from mtlmoe_jax import errors
from mtlmoe_jax.checkpoints import restore
from mtlmoe_jax.evaluation import evaluate
from mtlmoe_jax.training import console, loop, run
from tests.support import layouts, tiny

ONE_ROW = "path,x_min,y_min,x_max,y_max\n{},0,0,1,1\n"


def config_of(root, *names, boxes="", **changes):
  for i, name in enumerate(names):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(layouts.encode(layouts.picture(i, 40, 30)))
  if boxes:
    (root / "boxes.csv").write_text(ONE_ROW.format(boxes))
  return tiny.config(
    **{
      "data.name": "folder",
      "data.path": str(root),
      "data.validation_fraction": 0.0,
      "steps": 1,
      **changes,
    }
  )


def test_what_cannot_be_learned_is_refused(tmp_path):
  two = [f"{part}/{c}/1.jpg" for part in ("train", "test") for c in "ab"]
  cases = {
    "no training image of .* has a box": config_of(tmp_path / "none", *two),
    # A box of a test image teaches nothing.
    r"give boxes\.csv, or learn the class alone": config_of(
      tmp_path / "test", *two, boxes="test/a/1.jpg"
    ),
    "one class alone, 'a'": config_of(
      tmp_path / "one", "train/a/1.jpg", "test/a/2.jpg", boxes="train/a/1.jpg"
    ),
  }
  for said, config in cases.items():
    workdir = tmp_path / "run"
    with pytest.raises(errors.InputError, match=said):
      run.set_up(config, str(workdir))
    assert not workdir.exists()


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_truncated_image_is_named_before_the_first_step(tmp_path, part):
  names = [f"{p}/{c}/1.jpg" for p in ("train", "val", "test") for c in "ab"]
  config = config_of(
    tmp_path / "data",
    *names,
    **{
      "model.tasks": "class",
      "data.validation_fraction": 0.5,
      "batch_size": 2,
    },
  )
  bad = tmp_path / "data" / part / "b/1.jpg"
  bad.write_bytes(bad.read_bytes()[:-40])
  with pytest.raises(errors.InputError, match=f"{part}/b/1.jpg .*truncated"):
    run.set_up(config, str(tmp_path / "run"))


def test_a_metric_that_cannot_choose_is_refused(tmp_path):
  for best, tasks in {
    "miuo": "box",
    "loss_class": "class",
    "miou": "class",
  }.items():
    config = tiny.config(**{"checkpoint.best": best, "model.tasks": tasks})
    with pytest.raises(
      errors.InputError, match=f"best='{best}': must be a metric"
    ):
      run.set_up(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_drawn_birds_have_no_folder(tmp_path):
  config = tiny.config(**{"data.name": "synthetic", "data.path": str(tmp_path)})
  with pytest.raises(errors.InputError, match=r"draws its own birds; .*auto"):
    run.set_up(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_what_is_left_out_and_untrained_is_told_first(tmp_path, capsys):
  config = config_of(
    tmp_path / "data",
    *("train/a/1.jpg", "train/b/deep/2.jpg", "test/a/3.jpg", "test/c/4.jpg"),
    **{"model.tasks": "class", "batch_size": 2},
  )
  (tmp_path / "data/train/a/5.cr2").touch()
  made = run.set_up(config, str(tmp_path / "run"))
  said = capsys.readouterr().err
  assert "data: " not in console.banner(made)
  assert "data: 1 of 4 images lie in folders below their class" in said
  assert "data: left out: files that are not read (1 .cr2)" in said
  assert "warning: class 'c' has no training image" in said


def test_a_run_keeps_which_image_went_where(tmp_path):
  """Whatever is done to the folder later, no trained image is judged."""
  root = tmp_path / "data"
  names = [f"{c}/{i}.png" for c in "ab" for i in range(5)]
  config = config_of(
    root,
    *names,
    **{
      "model.tasks": "class",
      "batch_size": 4,
      "eval.report": False,
      "data.validation_fraction": 0.25,
    },
  )
  workdir = tmp_path / "run"
  assert loop.train(config, str(workdir)) == 0
  before = restore.restore_for_eval(workdir)

  def evaluated(split="test", path=root):
    found = evaluate.evaluate_restored(
      before, tmp_path / "eval", split, data_path=str(path)
    )
    rows = found.predictions
    written = (tmp_path / "eval" / split / "metrics.json").read_text()
    logits = dict(zip(rows.ids, rows.logits.tolist()))
    return logits, json.loads(written)["meta"]

  test, meta = evaluated()
  validation, _ = evaluated("validation")
  assert len(test) == 2 and len(validation) == 2
  assert "data_notes" not in meta
  # What a fifth of a longer list would be is another matter.
  for i in range(5):
    picture = layouts.encode(layouts.picture(50 + i, 40, 30))
    (root / "a" / f"0{i} new.jpg").write_bytes(picture)
  (root / "c").mkdir()
  (root / "c" / "new.jpg").write_bytes(layouts.encode(layouts.picture(9, 9, 9)))
  assert evaluated()[0] == test
  after, meta = evaluated("validation")
  assert after == validation
  assert meta["data_notes"][0].startswith("6 images are new")
  # A copy of the test images alone, of one class, under another name.
  (name,) = [name for name in test if name.startswith("b")]
  copy = tmp_path / "copy" / "b" / "x.png"
  copy.parent.mkdir(parents=True)
  copy.write_bytes((root / name).read_bytes())
  assert evaluated(path=copy.parent.parent)[0] == {"b/x.png": test[name]}
  with pytest.raises(errors.InputError, match="none of the run's images of"):
    evaluated("validation", copy.parent.parent)
