"""Writes the automations into a training configuration and leaves every other byte of it as it is."""
