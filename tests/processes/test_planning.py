"""Forecasts: messages read from compiled text, numbers, the script."""

import json

import pytest

from mtlmoe_jax.devices import compilation
from mtlmoe_jax.errors import InputError
from mtlmoe_jax.moe import engine
from mtlmoe_jax.planning import chips, collectives, forecast
from mtlmoe_jax.training.fit import paying
from tests.support import tiny

TEXT = """
  %all-reduce.3 = f32[16,8]{1,0} all-reduce(%p), channel_id=1, \
replica_groups={{0,1,2,3},{4,5,6,7}}, use_global_device_ids=true
  %ar = (f32[4]{0}, bf16[2,2]{1,0}) all-reduce(%a), replica_groups=[2,4]<=[8]
  %all-to-all.1 = f32[8,3]{1,0} all-to-all(%x), replica_groups=[4,2]<=[8]
  %ag = (f32[2]{0}, f32[16]{0}) all-gather-start(%x), replica_groups=[1,8]<=[8]
  %agd = f32[16]{0} all-gather-done(%ag)
  %rs = f32[4]{0} reduce-scatter(%x), replica_groups={}
  %cp = pred[12]{0} collective-permute(%x), source_target_pairs={{0,1},{1,0}}
  %fusion = f32[16,8]{1,0} fusion(%all-reduce.3), kind=kLoop
"""


def test_messages_are_read_from_the_text():
  found = collectives.find(TEXT, 8)
  assert [tuple(c) for c in found] == [
    ("all-reduce", 512, 4),
    ("all-reduce", 16 + 8, 4),
    ("all-to-all", 96, 2),
    ("all-gather", 64, 8),
    ("reduce-scatter", 16, 8),
    ("collective-permute", 12, 8),
  ]
  # What a device sends, by the usual algorithms.
  assert [c.sent for c in found] == [768, 36, 48, 56, 112, 12]
  assert collectives.Collective("all-reduce", 512, 1).sent == 0
  first, *_ = collectives.totals(found)
  assert first == ("all-reduce", 4, 2, 536, 804)


@pytest.mark.parametrize(
  ("groups", "size"),
  [
    ("{{0,4},{1,5}}, use_global_device_ids=true", 2),
    ("[4,2]<=[2,4]T(1,0), dimensions={0}", 2),
    ("{}", 8),
    ("mesh['data'=2,'expert'=4] {'expert'}, metadata={op_name=\"x\"}", 4),
    ("mesh['data'=2,'expert'=4] {'data'}, dimensions={0}", 2),
    ("mesh['data'=2,'expert'=4] {'data','expert'}, channel_id=1", 8),
    ("mesh['axis_0'=4,'axis_1'=2], device_ids=([2,4]T(1,0)) {'axis_0'}", 4),
    ("mesh['a'=4,'b'=2], device_ids=([2,2,2]T(0,2,1)) {'a':(2)2}", 2),
    ("mesh['a'=2,'b'=4], device_ids=(0,2,4,6,1,3,5,7) {'a','b':(1)2}", 4),
  ],
)
def test_every_form_of_groups(groups, size):
  line = f"  %r = f32[8]{{0}} all-reduce(%p), replica_groups={groups}"
  (found,) = collectives.find(line, 8)
  assert found == ("all-reduce", 32, size)


def test_an_unknown_form_of_groups_is_no_guess():
  line = "  %r = f32[8]{0} all-reduce(%p), replica_groups=star<2>, x=1"
  with pytest.raises(InputError, match="groups of devices as 'star<2>, x=1'"):
    collectives.find(line, 8)


def test_a_forecast_for_the_eye_and_its_bottleneck():
  made = forecast.Forecast(
    mesh={"data": 2, "expert": 4, "fsdp": 1},
    parameters=10**6,
    batch_size=32,
    state_bytes=12 * 10**6,
    peak_bytes=20 * 10**9,
    flops=197e12,
    memory_traffic=819 * 10**6,
    messages=[collectives.Total("all-to-all", 4, 2, 10**6, 200e6)],
  )
  seconds = made.seconds(chips.CHIPS["v5e"])
  assert seconds == pytest.approx(
    {"compute": 1.0, "memory": 0.001, "network": 0.001}
  )
  text = forecast.table(made, "v5e")
  assert "8 x v5e: data 2 x expert 4 x fsdp 1" in text
  assert "2 all-to-all           of    4 devices        1.0 MB" in text
  assert "compute      1000.000 ms  <- bottleneck" in text
  assert "at most 32 images a second" in text
  assert "does not fit" in text
  assert "does not fit" not in forecast.table(made, "v5p")
  assert json.loads(json.dumps(forecast.to_dict(made)))["devices"] == 8


def test_a_forecast_takes_the_forms_of_the_devices_that_are_meant():
  choose = lambda: engine.choose_strategy(16, 6, [2, 2])  # noqa: E731
  assert choose() == "pairs"
  with compilation.planned_for("tpu"):
    assert compilation.backend() == "tpu"
    assert choose() == "gather"
  assert compilation.backend() == "cpu"


@pytest.mark.parametrize(
  ("experts", "width", "images", "said"),
  [
    (1, 8, 9000, ""),
    (6, 32, 9000, "no gain to expect over one (from about 10 wide on"),
    (6, 8, 1679, "that is told what their router knows (it takes about 1,680"),
    (6, 8, 1680, "1,680 images (280 an expert): may be better than one of"),
    (6, 8, 0, "of equal compute, from about 1,680 images on; a wider one"),
  ],
)
def test_advice_on_experts(experts, width, images, said):
  config = tiny.config(
    **{
      "model.experts": experts,
      "model.shared_stages": 1,
      "model.expert_dim": width,
      "model.condense_dim": 64,
    }
  )
  line = paying.advice(config, 30, images)
  assert said in line and bool(line) == (experts > 1)
  config.model.condense_dim = 4  # Whichever is narrower.
  assert paying.width_of(config) == 4


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
  """What the script says of a tiny model on 8 devices."""
  path = tmp_path_factory.mktemp("plan") / "plan.json"
  got = tiny.launch(
    "plan.py",
    "--config=tests/support/tiny.py:experts=4,compute=sparse,batch_size=16",
    "--devices=8",
    "--mesh=data:2,expert:4",
    f"--json={path}",
  )
  assert got.returncode == 0, got.stderr
  return got.stdout, json.loads(path.read_text())


def test_the_script_plans_without_devices(planned):
  text, figures = planned
  assert text.splitlines()[-1].startswith("experts: 4, 16 wide, for 200 cl")
  assert "8 x v5e: data 2 x expert 4 x fsdp 1" in text
  kinds = {(m["kind"], m["group"]): m["count"] for m in figures["messages"]}
  # There and back, and the results' gradients: images need none.
  assert kinds["all-to-all", 4] == 3
  assert any(kind == "all-reduce" for kind, _ in kinds)
  assert figures["parameters"] > 10_000
  # A quarter of the experts, all of the rest; AdamW's moments and averages.
  assert 4 * figures["parameters"] < figures["state_bytes"] * 4
  assert figures["state_bytes"] < 16 * figures["parameters"]
  assert figures["flops"] > 0


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--mesh=rows:2"], "--mesh='rows:2': write AXIS:DEVICES"),
    (["--config.fit.budget=fast"], "which plan does not read"),
    (["--mesh=data:3"], "config.mesh.data=3"),
    (["--config.batch_size=6"], "batch_size=6 does not divide over 4 devices"),
    (["--mesh=expert:4"], "3 experts do not divide"),
    (["--topology=v5e:2x2"], "--topology='v5e:2x2': not known here"),
  ],
)
def test_mistakes_are_one_line(flags, message):
  got = tiny.quick_launch(
    "plan.py",
    "--config=tests/support/tiny.py:batch_size=16",
    "--devices=4",
    *flags,
  )
  assert got.returncode == 2
  assert message in got.stderr
  assert len(got.stderr.strip().splitlines()) == 1
