"""The line that says how far something is: on terminals only, and gone in the end."""

import pytest

from strogoff.cli.progress import progress_line


def test_a_terminal_shows_the_last_text_in_one_line_and_nothing_in_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_line() as tell:
        for text in ("one", "one", "t\x07wo"):
            tell(text)
    assert capsys.readouterr().err == "\r\x1b[Kone\r\x1b[Kt\\x07wo\r\x1b[K"


def test_a_pipe_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_line() as tell:
        tell("one")
    assert capsys.readouterr().err == ""
