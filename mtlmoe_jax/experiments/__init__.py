"""Many runs as one: cells of a suite, their statistics and their pages."""
