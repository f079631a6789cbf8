"""Each option, by every way that it can be set."""

import copy
import json
import pathlib
import pickle
import re

import ml_collections
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from mtlmoe_jax import config as config_lib
from mtlmoe_jax import errors
from mtlmoe_jax.cli import start
from mtlmoe_jax.config import allowed, kinds, names, page
from tests.support import tiny

# Values that an option of a kind takes, and what is stored of them.
NATURAL = {
  kinds.INTEGER: [(5, 5), (np.int64(5), 5)],
  kinds.NUMBER: [(0.5, 0.5), (1, 1.0), (np.float32(0.5), 0.5)],
  kinds.SWITCH: [(True, True), (False, False)],
  kinds.TEXT: [("word", "word")],
  kinds.PATH: [
    ("a/b", "a/b"),
    (pathlib.Path("a/b"), "a/b"),
    (None, ""),
  ],
  kinds.PATTERNS: [
    ("stem/", ("stem/",)),
    (("a", "b"), ("a", "b")),
    (["a"], ("a",)),
    ((), ()),
  ],
  kinds.COUNTS: [
    (3, "3"),
    ((2, 1), "2,1"),
    ([2, np.int32(1)], "2,1"),
    ("2,1", "2,1"),
  ],
  kinds.STEP: [("latest", "latest"), (300, "300")],
  kinds.BLOCKS: [
    ("every:2", "every:2"),
    (9, "9"),
    ([9, 11], "9,11"),
    (None, ""),
  ],
  kinds.TASK_NAMES: [("box", "box"), (["class", "box"], "class,box")],
  kinds.CLASSES: [
    ("first:10", "first:10"),
    (["a", "b"], "a,b"),
    (("a", 7), "a,7"),
    (7, "7"),
  ],
}
each_option = pytest.mark.parametrize(
  "option", config_lib.OPTIONS, ids=lambda option: option.path
)


def from_flags(*arguments):
  """A config changed by `--config.` flags, parsed as in a script."""
  argv = ["script", *arguments]
  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_dict(
    "config", config_lib.default_config(), flag_values=values, sys_argv=argv
  )
  values(argv)
  return holder.value


def leaves(config):
  return {path: config[path] for path in config_lib.flat_keys(config)}


def parent(config, path):
  *groups, last = path.split(".")
  for group in groups:
    config = getattr(config, group)
  return config, last


@each_option
def test_takes_natural_values_from_python(option):
  for value, stored in NATURAL[option.takes]:
    config = config_lib.default_config()
    setattr(*parent(config, option.path), value)
    got = config[option.path]
    assert got == stored and type(got) is type(stored)
    by_item = config_lib.default_config()
    node, last = parent(by_item, option.path)
    node[last] = value
    by_path = config_lib.default_config()
    config_lib.set_path(by_path, option.path, value)
    assert config == by_item == by_path


@pytest.mark.parametrize("turn", range(max(map(len, NATURAL.values()))))
def test_takes_text_from_a_command_line_and_after_the_colon(turn):
  by_flag, after_colon = [], []
  wanted = config_lib.default_config()
  for option in config_lib.OPTIONS:
    values = NATURAL[option.takes]
    _, stored = values[turn % len(values)]
    config_lib.set_path(wanted, option.path, stored)
    texts = [str(stored).lower()]
    if option.takes is kinds.PATTERNS:
      texts = list(stored) or ["()"]
    by_flag += [f"--config.{option.path}={text}" for text in texts]
    after_colon.append((option.path, "+".join(texts)))
  assert leaves(from_flags(*by_flag)) == leaves(wanted)
  config = config_lib.default_config()
  # With a budget all that is named is noted there, until it is set itself.
  after_colon.sort(key=lambda option: option[0] == "fit.keep")
  for path, text in after_colon:
    if "," in text:  # which parts options there
      config_lib.set_path(config, path, text)
    else:
      config_lib.apply_overrides(config, f"{path}={text}")
  assert leaves(config) == leaves(wanted)


def test_what_is_named_is_kept_where_the_rest_is_chosen():
  config = config_lib.default_config()
  config_lib.apply_overrides(config, "experts=3")
  assert config.fit.keep == ()
  config_lib.apply_overrides(config, "budget=fast,k=2,loss.class=1,experts=3")
  assert config.fit.keep == ("loss.class_weight", "model.experts", "model.k")
  for wrong in ("0", "0.0", "quick", "-3", "3m"):
    config.fit.budget = wrong
    with pytest.raises(errors.InputError, match="minutes such as 30"):
      config_lib.check_config(config)


@each_option
def test_declares_itself(option):
  option.check(option.default)
  assert option.convert(option.default) == option.default
  assert option.why.endswith((".", ")"))
  with pytest.raises(TypeError, match="is not of type") as error:
    setattr(*parent(config_lib.default_config(), option.path), object())
  assert isinstance(error.value, errors.InputError)
  assert f"config.{option.path}=" in str(error.value)


def test_the_typed_values_of_what_the_issue_names():
  config = config_lib.default_config()
  config.model.k = 3
  assert config_lib.resolve(config).ks == (3, 3)
  config.model.k = (2, 1)
  config.epochs = 0.5
  config.data.classes = ["a", "b"]
  config_lib.check_config(config)
  assert config_lib.resolve(config).ks == (2, 1)
  assert config.epochs == 0.5
  assert config.data.classes == "a,b"


def test_resolved_values():
  config = config_lib.default_config()
  config.model.tasks = ["box"]
  config.model.k = 1
  config.loss.box_weight = 3
  resolved = config_lib.resolve(config)
  assert (resolved.tasks, resolved.ks) == (("box",), (1,))
  assert resolved.task_weights == {"box": 3.0}
  assert resolved.expert_counts == (3,)
  assert resolved.has_box and not resolved.has_class
  config.model.token_moe.blocks = (1, 3)
  assert config_lib.resolve(config).expert_counts == (3, 8)


@pytest.mark.parametrize(
  ("path", "value"),
  [
    ("steps", "5"),
    ("steps", 1.0),
    ("steps", True),
    ("epochs", "10"),
    ("epochs", False),
    ("model.k", 2.5),
    ("model.k", (2, "1")),
    ("model.share_gate", 1),
    ("data.classes", ["a", 0.5]),
    ("optimizer.frozen", [1]),
    ("data.path", 3),
    ("seed", None),
  ],
)
def test_a_wrong_type_is_told(path, value):
  config = config_lib.default_config()
  with pytest.raises(
    config_lib.WrongTypeError, match="is not of type"
  ) as error:
    setattr(*parent(config, path), value)
  assert f"config.{path}={value!r}" in str(error.value)
  assert config == config_lib.default_config()


def test_a_class_name_with_a_comma_has_an_index():
  config = config_lib.default_config()
  with pytest.raises(errors.InputError, match=r"'tit, great'.*index"):
    config.data.classes = ["robin", "tit, great"]


def test_a_group_is_no_option_but_takes_some_of_its_own():
  config = config_lib.default_config()
  with pytest.raises(TypeError, match=r"config\.model=3: is a group"):
    config.model = 3
  config.model = {"k": 3, "token_moe": {"experts": 4}}
  wanted = config_lib.default_config()
  wanted.model.k = 3
  wanted.model.token_moe.experts = 4
  assert config == wanted


@pytest.mark.parametrize("error", [AttributeError, KeyError, errors.InputError])
def test_an_unknown_name_is_told_with_the_nearest(error):
  config = config_lib.default_config()
  message = r"^config\.model\.epxerts: .*model\.experts.*docs/options\.md"
  with pytest.raises(error, match=message):
    config.model.epxerts = 3
  with pytest.raises(error, match=message):
    config.model["epxerts"] = 3
  with pytest.raises(error, match=message):
    _ = config.model.epxerts
  with pytest.raises(error, match=message):
    config_lib.set_path(config, "model.epxerts", 3)
  with pytest.raises(error, match=r"config\.log_every: .*log\.every_steps"):
    config.log_every = 1
  assert not hasattr(config, "log_every")


@pytest.mark.parametrize(
  "again",
  [
    copy.deepcopy,
    lambda config: config.copy_and_resolve_references(),
    lambda config: pickle.loads(pickle.dumps(config)),
  ],
)
def test_copies_are_configs_of_their_own(again):
  config = config_lib.default_config()
  config.model.token_moe.k = 3
  made = again(config)
  assert made == config and made.is_locked
  made.model.token_moe.blocks = (9, 11)
  assert made.model.token_moe.blocks == "9,11"
  assert config.model.token_moe.blocks == ""
  with pytest.raises(errors.InputError, match=r"config\.model\.token_moe\.kk"):
    made.model.token_moe.kk = 1


def test_references_between_options_stay():
  config = config_lib.default_config()
  config.eval.batch_size = config.get_ref("batch_size")
  config.batch_size = 7
  assert config.eval.batch_size == 7
  assert config.copy_and_resolve_references().eval.batch_size == 7


def test_a_plain_config_dict_is_checked_too():
  plain = ml_collections.ConfigDict(config_lib.default_config().to_dict())
  config_lib.check_config(plain)
  plain.model.gate = "hash"
  with pytest.raises(errors.InputError, match=r"config\.model\.gate='hash'"):
    config_lib.check_config(plain)
  plain = ml_collections.ConfigDict(config_lib.default_config().to_dict())
  with plain.ignore_type():
    plain.model.k, plain.model.tasks = (2, 1), ["class", "box"]
    config_lib.check_config(plain)
    assert config_lib.resolve(plain).ks == (2, 1)
    plain.steps = "abc"
  with pytest.raises(errors.InputError, match=r"config\.steps='abc' is not of"):
    config_lib.check_config(plain)


@pytest.mark.parametrize(("old", "new"), names.RENAMED.items())
def test_earlier_names_are_today_s_options(old, new):
  config = config_lib.default_config()
  group, name = old.split(".")
  value = 2.0 if group == "loss" else "x"
  config[group][name] = value
  assert config[new] == config[group][name] == value
  assert name not in list(config[group])
  assert new in page.page() and old in page.page()


def test_an_option_is_read_without_a_look_at_earlier_names(monkeypatch):
  # Of an image of the training data a dozen are.
  config = config_lib.default_config()
  monkeypatch.setattr(names, "current", None)
  assert config.data.augment.flip == config["data"]["augment"]["flip"] == 0.5
  with pytest.raises(TypeError):
    _ = config.model.normalisation


def test_a_config_of_0_2_0_loads():
  path = tiny.ROOT / "tests" / "support" / "golden" / "config_0.2.0.json"
  config = config_lib.from_saved(json.loads(path.read_text()))
  wanted = config_lib.default_config()
  wanted.loss.box_weight = 3.0
  wanted.loss.class_weight = 0.5
  wanted.transfer.source = "runs/a"
  wanted.transfer.freeze = ("experts/.*", "towers/")
  wanted.model.normalization = "half"
  wanted.model.k = (2, 1)
  wanted.optimizer.frozen = ("stem/",)
  wanted.epochs = 24
  wanted.data.classes = "first:10"
  wanted.data.name, wanted.data.extra.name = "synthetic", "folder"
  assert config == wanted


@pytest.mark.parametrize(
  ("path", "value"),
  [
    ("seed", -1),
    ("loss.box_weight", -1.0),
    ("optimizer.weight_decay", -0.1),
    ("optimizer.frozen", ("stem/(",)),
    ("transfer.freeze", ("*",)),
    ("transfer.step", "first"),
    ("checkpoint.best", ""),
    ("data.synthetic.seed", -1),
  ],
)
def test_what_used_to_fail_later_is_refused_at_once(path, value):
  config = config_lib.default_config()
  config_lib.set_path(config, path, value)
  with pytest.raises(errors.InputError) as error:
    config_lib.check_config(config)
  assert str(error.value).startswith(f"config.{path}={value!r}: must be ")


@pytest.mark.parametrize(
  ("interval", "inside", "outside"),
  [
    ("[0, 1)", (0, 0.999), (-0.1, 1, float("nan"))),
    ("(0, 1]", (0.001, 1), (0, 1.1)),
    ("[0.5, 1)", (0.5,), (0.4, 1)),
  ],
)
def test_intervals(interval, inside, outside):
  test = allowed.within(interval).test
  assert all(map(test, inside)) and not any(map(test, outside))
  with pytest.raises(ValueError, match="no interval"):
    allowed.within(interval.replace(",", ";"))


def test_the_committed_page_is_that_of_the_declarations(capsys):
  committed = (tiny.ROOT / "docs" / "options.md").read_text("utf-8")
  assert committed == page.page()
  for option in config_lib.OPTIONS:
    assert committed.count(f"\n| `{option.path}` | ") == 1
  assert page.main([]) == 0
  assert capsys.readouterr().out == committed
  assert page.main(["token_moe.k"]) == 0
  (*_, row) = capsys.readouterr().out.splitlines()
  assert row in committed
  assert page.main(["epxerts"]) == 2


def parsed(monkeypatch, *arguments, config="configs/demo.py"):
  """What a script's parser makes of arguments, in this process."""
  argv = ["train.py", f"--config={tiny.ROOT / config}", *arguments]
  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file(
    "config", flag_values=values, sys_argv=argv
  )
  monkeypatch.setattr(flags, "FLAGS", values)
  start.parse(argv)
  return holder.value


@pytest.mark.parametrize(
  ("argument", "message"),
  [
    ("--config.log_every=1", r"config\.log_every: .*log\.every_steps"),
    ("--config.model.epxerts=3", r"config\.model\.epxerts: .*model\.experts"),
    ("--config.steps=abc", r"config\.steps='abc' is not of type int"),
    ("--config.batch_size=1.5", r"config\.batch_size='1\.5' is not of"),
    ("--config.epochs=long", r"config\.epochs='long' is not of type float"),
    ("--config.log.wandb=perhaps", r"config\.log\.wandb='perhaps' is not"),
    ("--config.model=3", r"config\.model='3': is a group"),
    ("--config.transfer.from=RUN", r"is --config\.transfer\.source now"),
    ("--config.loss.class=2", r"is --config\.loss\.class_weight now"),
    ("--config.model.lambda=2", r"config\.model\.lambda: there is no such"),
    ("--confi=3", "Unknown command line flag 'confi'"),
  ],
)
def test_a_mistyped_flag_is_one_line(monkeypatch, capsys, argument, message):
  # A switch may stand alone: a next word would not be its own.
  apart = [] if "wandb" in argument else [argument.split("=")]
  for arguments in ([argument], *apart):
    with pytest.raises(SystemExit) as error:
      parsed(monkeypatch, *arguments)
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line)


@pytest.mark.parametrize(
  ("override", "message"),
  [
    ("epxerts=3", "config key 'epxerts' is unknown: use one of model.experts"),
    ("log_every=1", "log.every_steps (all are in docs/options.md)"),
    ("steps=abc", "config.steps='abc' is not of type int"),
    ("steps", "has no '='"),
  ],
)
def test_a_mistyped_override_is_one_line(
  monkeypatch, capsys, override, message
):
  with pytest.raises(SystemExit) as error:
    parsed(monkeypatch, config=f"configs/demo.py:{override}")
  assert error.value.code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("error: ") and message in line
  assert "mtlmoe_jax." not in line


def test_earlier_names_that_are_no_keywords_work_as_flags(monkeypatch):
  config = parsed(
    monkeypatch, "--config.loss.box=2", "--config.model.normalisation=half"
  )
  assert config.loss.box_weight == 2.0
  assert config.model.normalization == "half"


def test_resolve_refuses_what_is_no_number():
  config = config_lib.default_config()
  config.model.k = "two"
  with pytest.raises(errors.InputError, match=r"config\.model\.k='two': must"):
    config_lib.resolve(config)
