"""The paper's equations and their fast versions; ``ltvr/decompositions/afa.py`` is the module.

===============  ==================================================================================
reference.py     eq. 1-6 and 11 in plain PyTorch, the oracle of every faster version
planning.py      eq. 9 and 10: how many rows are generated, of which class, from which pairs
fused.py         eq. 1-6 and 11 regrouped, with the backward written out, over fast operators
ops.py           those operators: schemas, and whether C++ (csrc/) or Triton (kernels/) runs them
functional.py    the choice between reference and fused
arguments.py     what the equations take, checked in one place for all backends
operands.py      what the operators take
checks.py        one argument at a time
===============  ==================================================================================
"""
