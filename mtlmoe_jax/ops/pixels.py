"""Mean and standard deviation of the pixels that published weights expect.

Per RGB channel, on the scale 0 ... 255; a network takes `(image - mean) / std`.
"""

Channels = tuple[float, float, float]

# (mean, std) by name. "imagenet": torchvision, most of timm; "half": Inception,
# AdvProp, Google's ViTs; "lite": EfficientNet-Lite as published; "clip": CLIP
# of OpenAI and LAION.
NORMALIZATIONS: dict[str, tuple[Channels, Channels]] = {
  "imagenet": (
    tuple(255.0 * v for v in (0.485, 0.456, 0.406)),
    tuple(255.0 * v for v in (0.229, 0.224, 0.225)),
  ),
  "half": ((127.5,) * 3, (127.5,) * 3),
  "lite": ((127.0,) * 3, (128.0,) * 3),
  "clip": (
    tuple(255.0 * v for v in (0.48145466, 0.4578275, 0.40821073)),
    tuple(255.0 * v for v in (0.26862954, 0.26130258, 0.27577711)),
  ),
}
