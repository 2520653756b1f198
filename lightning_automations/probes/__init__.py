"""Probes: they read the world. torch is allowed here, lightning is not."""
