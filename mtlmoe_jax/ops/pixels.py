"""Mean and standard deviation of the pixels that published weights expect.

Per RGB channel, on the scale 0 ... 255; a network takes `(image - mean) / std`.
"""

Channels = tuple[float, float, float]


def _of_unit(red: float, green: float, blue: float) -> Channels:
  """Values on the scale 0 ... 1 on that of this file."""
  return 255.0 * red, 255.0 * green, 255.0 * blue


# (mean, std) by name. "imagenet": torchvision, most of timm; "half": Inception,
# AdvProp, Google's ViTs; "lite": EfficientNet-Lite as published; "clip": CLIP
# of OpenAI and LAION.
NORMALIZATIONS: dict[str, tuple[Channels, Channels]] = {
  "imagenet": (
    _of_unit(0.485, 0.456, 0.406),
    _of_unit(0.229, 0.224, 0.225),
  ),
  "half": ((127.5,) * 3, (127.5,) * 3),
  "lite": ((127.0,) * 3, (128.0,) * 3),
  "clip": (
    _of_unit(0.48145466, 0.4578275, 0.40821073),
    _of_unit(0.26862954, 0.26130258, 0.27577711),
  ),
}
