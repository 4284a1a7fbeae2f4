"""Images, their long-tailed subsets, the order they are read in, and batches of them."""
