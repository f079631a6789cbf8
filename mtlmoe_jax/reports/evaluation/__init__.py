"""The page of one evaluated split."""
