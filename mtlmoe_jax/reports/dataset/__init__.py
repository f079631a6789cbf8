"""The page of a data set that was checked."""
