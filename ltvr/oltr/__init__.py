"""Parts of OLTR, Large-Scale Long-Tailed Recognition in an Open World; its stage builds them.

Liu et al., CVPR 2019, with the constants of the authors' code for ImageNet-LT.
"""
