"""The page about modes says what the tests show."""

from tests.modes.document import FILE, document


def test_the_page_is_printed_from_the_rows_of_the_tests() -> None:
    """Mend it with ``python -m tests.modes.document > docs/modes.md``."""
    assert FILE.read_text(encoding="utf-8") == document()
