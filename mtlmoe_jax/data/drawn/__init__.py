"""The drawn birds: a data set that needs no download."""
