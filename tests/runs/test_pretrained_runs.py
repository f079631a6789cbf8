"""Backbones of other runs, and models written to files and read again."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors
from flax import traverse_util

from mtlmoe_jax import errors, models, pretrained
from mtlmoe_jax.models import backbones
from mtlmoe_jax.pretrained import comparison, export, names
from mtlmoe_jax.training import checkpointing, initialization
from mtlmoe_jax.training import state as state_lib
from tests.support import tiny
from tests.support.models import shapes_of

STEP = 7


def flat(tree):
  return traverse_util.flatten_dict(dict(tree), sep="/")


def drawn(config):
  """Variables of a model, random, without computing anything."""
  model = models.build_model(config, 3)
  image = jnp.zeros((1, 32, 32, 3))
  shapes = dict(shapes_of(model.init, jax.random.key(0), image))
  random = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: random.uniform(0.1, 1, leaf.shape).astype(np.float32), shapes
  )


def zeros(config):
  return jax.tree.map(np.zeros_like, drawn(config))


def write_run(folder, config, variables):
  """A workdir with one checkpoint."""
  made = state_lib.create_state(
    jax.tree.map(jnp.asarray, variables), optax.sgd(0.1), frozenset(), False
  )
  meta = {
    "config": json.loads(config.to_json_best_effort()),
    "class_names": ["a", "b", "c"],
    "tasks": ["class", "box"],
    "preprocessing": models.preprocessing(config),
    "box_format": "xyxy",
    "versions": {"jax": jax.__version__},
  }
  checkpointer = checkpointing.Checkpointer(folder)
  checkpointer.save(made.replace(step=jnp.int32(STEP)), {}, meta, None)
  checkpointer.close()


def nano(**overrides):
  """The tiny config with as many stages as there are ways to share them."""
  return tiny.config(**{"model.backbone": "efficientnet_nano", **overrides})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(workdir, config, variables) of three experts behind a shared stem."""
  folder = tmp_path_factory.mktemp("run")
  config = nano(**{"model.shared_stages": 1, "model.norm": "frozen"})
  variables = drawn(config)
  write_run(folder, config, variables)
  return folder, config, variables


def again(run, **model):
  """The config of a run that starts from `run`."""
  config = run[1].copy_and_resolve_references()
  config.model.update({"pretrained": str(run[0]), **model})
  return config


def started(config):
  """The variables that a run begins with, and what the log says."""
  return pretrained.insert(zeros(config), initialization.weights(config))


def backbone_of(variables, expert):
  """Every array of an expert's whole backbone, by its own name."""
  out = {}
  for path, value in flat(variables).items():
    collection, part, name = path.split("/", 2)
    if part == "stem":
      out[f"{collection}/{name}"] = value
    elif name.startswith("backbone/"):
      out[f"{collection}/{name.removeprefix('backbone/')}"] = value[expert]
  return out


def assert_same(found, expected):
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, name)


@pytest.mark.parametrize("shared", [0, 1])
def test_expert_i_starts_from_expert_i(run, shared):
  config = again(run, shared_stages=shared)
  new, log = started(config)
  for i in range(3):
    assert_same(backbone_of(new, i), backbone_of(run[2], i))
  others = [
    v
    for k, v in flat(new).items()
    if "/stem/" not in k and "/experts/backbone/" not in k
  ]
  assert others and not any(np.any(v) for v in others)
  assert f"{run[0]} (step {STEP})" in log
  assert "for each of 3 experts, expert i from expert i" in log


def test_experts_that_differ_need_as_many_and_are_not_shared(run):
  with pytest.raises(errors.InputError, match=r"config\.model\.experts=3"):
    started(again(run, experts=4))
  with pytest.raises(errors.InputError, match="shared_stages") as caught:
    started(again(run, shared_stages=2))
  assert "\n" not in str(caught.value) and str(run[0]) in str(caught.value)


@pytest.mark.parametrize("equal", [True, False], ids=["equal", "lone"])
def test_a_lone_expert_and_equal_ones_go_anywhere(tmp_path, equal):
  config = nano(**{"model.experts": 2, "model.k": "1", "model.norm": "frozen"})
  config.model.experts = 2 if equal else 1
  variables = drawn(config)
  for tree in (variables[c]["experts"] for c in ("params", "batch_stats")):
    tree["backbone"] = jax.tree.map(
      lambda leaf: np.stack([leaf[0]] * len(leaf)), tree["backbone"]
    )
  write_run(tmp_path, config, variables)
  for shared in (0, 2, 4):
    model = {"experts": 3, "shared_stages": shared}
    new, log = started(again((tmp_path, config), **model))
    for i in range(3):
      assert_same(backbone_of(new, i), backbone_of(variables, 0))
    assert "expert i" not in log


def test_a_run_of_another_backbone_or_range_is_refused(run):
  config = again(run, backbone="efficientnet_tiny")
  with pytest.raises(errors.InputError, match="backbone='efficientnet_nano'"):
    initialization.weights(config)
  config = again(run, normalization="imagenet")
  with pytest.raises(errors.InputError, match="normalization='lite'"):
    initialization.weights(config)
  config = again(run, normalization="lite")  # nano's own, by name
  assert initialization.weights(config).preprocessing == models.preprocessing(
    config
  )


def test_a_folder_that_is_no_run_is_named(tmp_path):
  config = nano(**{"model.pretrained": str(tmp_path)})
  with pytest.raises(errors.InputError, match="no checkpoints/ folder"):
    initialization.weights(config)
  config.model.pretrained = str(tmp_path / "none")
  with pytest.raises(errors.InputError, match="does not exist"):
    initialization.weights(config)


def test_training_begins_with_it_or_says_why_not(run):
  config = again(run)
  new, note = initialization.start_from(zeros(config), config)
  assert_same(backbone_of(new, 2), backbone_of(run[2], 2))
  assert f"pretrained: {run[0]} (step {STEP})" in note
  config.transfer.source = str(run[0])
  new, note = initialization.start_from(zeros(config), config)
  assert_same(flat(new), flat(run[2]))
  config.model.normalization = "half"
  with pytest.raises(errors.InputError, match=r"config\.transfer\.source"):
    initialization.start_from(zeros(config), config)


def exported(run, path):
  got = tiny.quick_launch("export.py", f"--workdir={run[0]}", f"--out={path}")
  assert got.returncode == 0, got.stderr
  with safetensors.safe_open(path, "numpy") as file:
    facts = json.loads(file.metadata()["mtlmoe_jax"])
  assert facts["preprocessing"] == models.preprocessing(run[1])
  assert facts["backbone"] == run[1].model.backbone
  assert facts["step"] == STEP
  return facts


def test_a_whole_model_comes_back_from_its_file(run, tmp_path):
  path = tmp_path / "model.safetensors"
  facts = exported(run, path)
  assert facts["class_names"] == ["a", "b", "c"]
  assert facts["config"]["model"]["experts"] == 3
  assert_same(pretrained.read_weights(path), flat(run[2]))
  # As a start it is what the run itself is.
  config = again(run, pretrained=str(path))
  assert_same(flat(started(config)[0]), flat(started(again(run))[0]))
  with pytest.raises(errors.InputError, match="backbone='efficientnet_nano'"):
    initialization.weights(
      again(run, pretrained=str(path), backbone="resnet50")
    )
  with pytest.raises(errors.InputError, match="normalization='lite'"):
    initialization.weights(
      again(run, pretrained=str(path), normalization="half")
    )


@pytest.mark.parametrize("convention", export.NAMES)
def test_an_experts_backbone_comes_back_from_its_file(
  run, tmp_path, convention
):
  _, config, variables = run
  arrays = export.one_backbone(variables, 2, config.model.backbone, convention)
  path = tmp_path / "expert.safetensors"
  facts = {"backbone": config.model.backbone}
  pretrained.save_safetensors(path, arrays, export.metadata(facts))
  weights = pretrained.load(str(path), config.model.backbone)
  assert_same(weights.arrays(), backbone_of(variables, 2))
  assert not weights.unknown and not weights.per_expert
  names = {"ours": "params/stem_conv/kernel", "timm": "conv_stem.weight"}
  assert names[convention] in arrays
  with pytest.raises(errors.InputError, match=r"experts 0 \.\.\. 2"):
    export.one_backbone(variables, 3, config.model.backbone, convention)


def test_timm_has_no_group_norms():
  config = nano(**{"model.norm": "group"})
  with pytest.raises(errors.InputError, match="norm='group'"):
    export.one_backbone(drawn(config), 0, config.model.backbone, "timm")


def test_export_says_one_line_and_exits_2():
  got = tiny.quick_launch(
    "export.py", "--workdir=x", "--out=a.safetensors", "--names=timm"
  )
  assert got.returncode == 2 and "Traceback" not in got.stderr
  (line,) = [x for x in got.stderr.splitlines() if x.startswith("error: ")]
  assert "--expert=0" in line


def test_a_file_is_compared_with_a_backbone(run, tmp_path):
  _, config, variables = run
  name = config.model.backbone
  arrays = export.one_backbone(variables, 0, name, "timm")
  path = tmp_path / "w.safetensors"
  pretrained.save_safetensors(path, arrays)
  lines, fits = comparison.examine(pretrained.load(str(path), name), name)
  assert fits and lines[-1] == (
    f"all {len(backbone_of(variables, 0))} arrays of {name} are there"
  )
  del arrays["conv_head.weight"]
  arrays["bn1.weight"] = np.zeros(5, np.float32)
  more = {f"blocks.9.{i}.conv_pw.weight": np.zeros(1) for i in range(20)}
  pretrained.save_safetensors(path, arrays | more)
  got = tiny.quick_launch("weights.py", f"--backbone={name}", f"--check={path}")
  assert got.returncode == 2 and "Traceback" not in got.stderr
  lines = got.stdout.splitlines()
  for said in (
    "1 missing:",
    "  params/head_conv/kernel",
    "20 unexpected:",
    *(f"  {n}" for n in more),
    "1 misshapen:",
    "  params/stem_norm/scale (file (5,), model (8,))",
  ):
    assert said in lines


@pytest.mark.parity
@pytest.mark.parametrize(
  "name",
  [
    "efficientnet_b0",
    "resnet50",
    "convnext_tiny",
    "vit_small_patch16_224",
    "vit_small_patch14_reg4_dinov2",
  ],
)
def test_timm_loads_what_is_written_for_it(name):
  from tests.support.torch_side import parity

  torch, timm = parity.libraries()
  torch.manual_seed(0)
  network = timm.create_model(name, num_classes=0).eval()
  sizes = backbones.get_backbone(name).sizes
  state = {k: v.numpy() for k, v in network.state_dict().items()}
  renamed = names.rename(state, name, sizes)
  written = names.as_timm(renamed.arrays, sizes)
  other = timm.create_model(name, num_classes=0).eval()
  other.load_state_dict(
    {k: torch.from_numpy(np.array(v)) for k, v in written.items()}, strict=True
  )
  size = 224 if "patch16" in name else network.default_cfg["input_size"][1]
  image = torch.randn(1, 3, size, size)
  with torch.no_grad():
    torch.testing.assert_close(other(image), network(image))
