import json

import pytest

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.version import __version__


def test_defaults_pass_their_own_checks():
  config_lib.check_config(config_lib.default_config())


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("batch_size", 0),
    ("epochs", 0),
    ("data.name", "coco"),
    ("data.validation_fraction", 1.0),
    ("data.extra.name", "synthetic"),
    ("data.extra.share", 1.0),
    ("data.augment.flip", 1.5),
    ("data.augment.mixup", 1.5),
    ("data.augment.mixup_alpha", 0.0),
    ("model.tasks", "class,depth"),
    ("model.tasks", "class,class"),
    ("model.gate", "hash"),
    ("model.k", "4"),
    ("model.k", "two"),
    ("model.k", "1,2,3"),
    ("model.experts", 0),
    ("model.capacity_factor", -1.0),
    ("model.dispatch", "fast"),
    ("model.token_moe.blocks", "first:2"),
    ("model.token_moe.blocks", "last:0"),
    ("model.token_moe.gate", "hash"),
    ("model.token_moe.gate", "soft"),  # with the group "batch"
    ("model.token_moe.k", 9),
    ("model.token_moe.capacity_factor", -1.0),
    ("model.classifier", "arcface"),
    ("model.grid", -1),
    ("optimizer.lr", 0.0),
    ("optimizer.ema", 1.0),
    ("optimizer.layer_decay", 0.0),
    ("loss.weighting", "magic"),
    ("precision", "float16"),
    ("mesh.expert", 0),
    ("data.name", "cub"),  # with an empty path
  ],
)
def test_bad_values_are_named(key, value):
  config = config_lib.default_config()
  config_lib.set_path(config, key, value)
  with pytest.raises(errors.InputError, match=r"config\.") as error:
    config_lib.check_config(config)
  assert "\n" not in str(error.value)
  assert str(value) in str(error.value) or "path" in str(error.value)


def test_mixup_needs_classes():
  config = config_lib.default_config()
  config.model.tasks = "box"
  config_lib.check_config(config)
  config.data.augment.mixup = 0.5
  with pytest.raises(errors.InputError, match=r"mixup=0\.5.*model\.tasks"):
    config_lib.check_config(config)


def test_extra_data_needs_images():
  config = config_lib.default_config()
  config.data.extra.path = "crops"
  config_lib.check_config(config)
  config.features.views = 2
  with pytest.raises(errors.InputError, match=r"extra\.path='crops'.*views=2"):
    config_lib.check_config(config)


def test_overrides_by_full_path_and_by_last_name():
  config = config_lib.default_config()
  config_lib.apply_overrides(
    config, "experts=5,data.name=cub,loss.class_weight=0.5,share_gate=true"
  )
  assert config.model.experts == 5  # not the deeper model.token_moe.experts
  assert config.model.token_moe.experts == 8
  assert config.data.name == "cub"
  assert config.loss.class_weight == 0.5
  assert config.model.share_gate is True


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("expertz=5", "model.experts"),
    ("name=cub", "ambiguous"),
    ("experts", "no '='"),
    ("experts=many", "not of type int"),
    ("share_gate=perhaps", "not of type bool"),
  ],
)
def test_bad_overrides(text, message):
  with pytest.raises(errors.InputError, match=message):
    config_lib.apply_overrides(config_lib.default_config(), text)


@pytest.mark.parametrize(
  ("text", "experts", "epochs"),
  [
    ("", 3, 8.0),
    ("one", 1, 2.0),
    ("one,epochs=5", 1, 5.0),
    ("experts=4,epochs=5", 4, 5.0),
  ],
)
def test_arms_of_a_config_file(text, experts, epochs):
  config = config_lib.default_config()
  config.model.experts, config.epochs = 3, 8.0
  arms = {"one": {"model.experts": 1, "epochs": 2.0}, "two": {}}
  assert config_lib.apply_arm(config, arms, text) is config
  assert (config.model.experts, config.epochs) == (experts, epochs)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("three", "'three' is no arm of this file: use one, two or KEY=VALUE"),
    ("one,depth=3", "'depth' is unknown"),
    ("experts=many,one", "not of type int"),
  ],
)
def test_bad_arms(text, message):
  arms = {"one": {"model.experts": 1}, "two": {}}
  with pytest.raises(errors.InputError, match=message):
    config_lib.apply_arm(config_lib.default_config(), arms, text)


def test_k_per_task_and_task_order():
  config = config_lib.default_config()
  config.model.tasks = "box,class"
  config.model.k = "3,1"
  assert config_lib.tasks_of(config) == ("class", "box")
  assert config_lib.k_of(config) == (3, 1)
  config.model.k = "2"
  assert config_lib.k_of(config) == (2, 2)


def test_saved_config_round_trip_and_unknown_key():
  config = config_lib.default_config()
  config.optimizer.frozen = ("stem/", "experts/.*")
  config.transfer.source = "elsewhere"
  saved = json.loads(json.dumps(config_lib.to_saved(config)))
  assert saved["version"] == __version__
  assert config_lib.from_saved(saved) == config
  with pytest.raises(errors.InputError, match=r"model\.wheels"):
    config_lib.update_from_dict(
      config_lib.default_config(), {"model": {"wheels": 4}}
    )


@pytest.mark.parametrize(
  ("version", "saved", "meant"),
  [
    (None, "efficientnet_lite0", "tf_efficientnet_lite0"),
    ("0.1.7", "efficientnet_b3", "tf_efficientnet_b3"),
    (None, "efficientnet_nano", "efficientnet_nano"),
    (None, "resnet50", "resnet50"),
    ("0.2.0", "efficientnet_lite0", "efficientnet_lite0"),
    ("1.0.0", "tf_efficientnet_b3", "tf_efficientnet_b3"),
  ],
)
def test_a_saved_backbone_keeps_its_padding(version, saved, meant):
  values = {"model": {"backbone": saved}}
  if version:
    values["version"] = version
  assert config_lib.from_saved(values).model.backbone == meant


OLD_NAMES = [
  ("transfer.from", "transfer.source", "runs/a"),
  ("loss.class", "loss.class_weight", 0.5),
  ("loss.box", "loss.box_weight", 3.0),
  ("model.normalisation", "model.normalization", "half"),
]


@pytest.mark.parametrize(("old", "new", "value"), OLD_NAMES)
def test_earlier_names_still_work(old, new, value):
  group, name = new.split(".")
  nested = {old.split(".")[0]: {old.split(".")[1]: value}}
  wanted = config_lib.default_config()
  wanted[group][name] = value
  assert config_lib.from_saved({"version": "0.2.0", **nested}) == wanted
  for text in (f"{old}={value}", f"{old.split('.')[1]}={value}"):
    config = config_lib.default_config()
    assert config_lib.apply_overrides(config, text) == wanted
  config = config_lib.default_config()
  config_lib.set_path(config, old, str(value))
  assert config == wanted
