"""Pure functions of arrays: boxes, losses, mixup, pixels."""
