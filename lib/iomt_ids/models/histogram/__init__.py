"""Forests compiled by numba from bytes: how rows become bins, bins become trees, trees become MLlib's model and verdicts.

What was chosen, and why: docs/decisions/0007-histogram-trees.md.
"""
