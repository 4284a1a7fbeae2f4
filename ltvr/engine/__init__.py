"""The trainer: it runs the stages of a configuration, and knows none of their components by name.

A batch goes through it like this: a sampler's order -> images and labels (``ltvr.data.batches``)
-> mixing -> ``step.Step`` (network and loss) -> the stage's total -> backward -> ``state``.
"""
