"""The JSON Schema says the same as the checks of ``build_callbacks``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lightning_automations.cli.main import main
from lightning_automations.config.schema import section_schema

ROOT = Path(__file__).parents[2]
SEED = Path(__file__).with_name("seed_block.yml")
EXAMPLES = sorted((ROOT / "example_configs").glob("*.yml"))


def problems(document: Any) -> list[str]:
    """Where the schema objects."""
    validator = jsonschema.Draft7Validator(section_schema())
    return [error.json_path for error in validator.iter_errors(document)]


def test_the_schema_is_a_schema_and_json() -> None:
    """Draft 7, without infinity, which JSON does not know."""
    jsonschema.Draft7Validator.check_schema(section_schema())
    json.dumps(section_schema(), allow_nan=False)


@pytest.mark.parametrize("path", [SEED, *EXAMPLES], ids=lambda path: path.stem)
def test_the_examples_and_the_recommended_block_pass(path: Path) -> None:
    """What loads is sound in an editor too."""
    assert problems(yaml.safe_load(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_editors_find_the_schema_of_an_example(path: Path) -> None:
    """The first line names the file that lies beside it."""
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")


def test_the_schema_beside_the_examples_is_the_one_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Written by ``lightning-automations schema > example_configs/schema.json``."""
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((ROOT / "example_configs" / "schema.json").read_text())


@pytest.mark.parametrize(
    ("section", "place"),
    [
        ({"AdaptiveGradientClipping": {"min_treshold": 0.1}}, "$.training_automations.AdaptiveGradientClipping"),
        ({"AdaptiveGradientClipping": {"min_threshold": -1}}, "$.training_automations.AdaptiveGradientClipping"),
        ({"early_stopping": {"patience": "long"}}, "$.training_automations.early_stopping"),
        ({"early_stopping": {"fallback": {"stop": True}}}, "$.training_automations.early_stopping"),
        ({"EarlyStopper": None}, "$.training_automations"),
        ({"enabled": "perhaps"}, "$.training_automations.enabled"),
        ([], "$.training_automations"),
    ],
)
def test_what_does_not_load_is_marked(section: Any, place: str) -> None:
    """Unknown names, wrong types and values out of range are marked where they stand."""
    assert problems({"training_automations": section}) == [place]


def test_keys_that_are_not_ours_are_left_alone() -> None:
    """The schema speaks of our section only."""
    assert problems({"train": {"optim": 1, "training_automations": None}, "network": []}) == []
    assert problems({"fit": {"trainer": {}, "training_automations": None}}) == []
    assert problems({"fit": {"training_automations": {"early_stoping": None}}}) != []


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    """``lightning-automations schema`` is what an editor is pointed at."""
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == section_schema()
