"""Glue: one Lightning callback per automation."""

from lightning_automations.callbacks.console import show_messages

show_messages("lightning_automations")
