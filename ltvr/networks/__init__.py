"""The network: a backbone cut in two, a decomposition in the cut, and a classifier at the end."""
