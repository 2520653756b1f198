"""``python -m lightning_automations`` is the command ``lightning-automations``."""

from lightning_automations.cli.main import main

raise SystemExit(main())
