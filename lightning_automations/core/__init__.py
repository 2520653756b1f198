"""Brains: the decisions of every automation in plain Python. Nothing here imports torch or lightning."""
