"""What a training step will need on devices that are not here."""
