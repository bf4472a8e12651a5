"""Public data sets, read from a path, with the protocols by which models are judged on them."""
