"""The syntax of the file: what is read, what is refused, where the error is."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strogoff.config import parser
from strogoff.config.parser import parse_file, parse_text

READ = [
    ("a=b", {"a": "b"}),
    ("\ufeffa = b", {"a": "b"}),
    ("a = b\r\nc = d\r\n", {"a": "b", "c": "d"}),
    ("  a.b-c_1\t=\tsome text here  ", {"a.b-c_1": "some text here"}),
    (r"a\.b.c = 1", {r"a\.b.c": "1"}),
    ("# a comment\n\n   # another\na = b # and one more", {"a": "b"}),
    ("pwd = abc#def", {"pwd": "abc"}),
    ("pwd = 'abc#def' # comment", {"pwd": "abc#def"}),
    ("a = ''", {"a": ""}),
    ("a = ' b '", {"a": " b "}),
    ("a = it's", {"a": "it's"}),
    ("a = b = c", {"a": "b = c"}),
    ("a = '''\none\ntwo\n'''\nb = c", {"a": "one\ntwo", "b": "c"}),
    ("a = '''one'''", {"a": "one"}),
    ("a = '''it's'''", {"a": "it's"}),
    ('a = ""', {"a": ""}),
    ('a = "some text"', {"a": "some text"}),
    ('a = {"k": 1}', {"a": '{"k": 1}'}),
    ("a = 1\na = 2", {"a": "2"}),
    ("include = yes", {"include": "yes"}),
]

REFUSED = [
    ("a", "expected key = value"),
    ("a =", "has no value"),
    ("a = # comment", "has no value"),
    ("a b = c", "is not a key"),
    ("a..b = c", "is not a key"),
    ("= c", "is not a key"),
    ("ä = c", "is not a key"),
    ("a = 'b", "never closed"),
    ("a = 'it's'", "text after the closing quote"),
    ("a = '''b", "never closed"),
    ("include */x.conf", "last part"),
]


def read(text: str) -> dict[str, str]:
    parsed = parse_text(text)
    assert parsed.problems == []
    return {assignment.key: assignment.text for assignment in parsed.assignments}


@pytest.mark.parametrize(("text", "values"), READ)
def test_the_syntax_of_vernemq_is_read(text: str, values: dict[str, str]) -> None:
    assert read(text) == values


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_a_mistake_is_told_with_its_line(text: str, message: str) -> None:
    parsed = parse_text(f"# first line\n{text}\n", "my.conf")
    assert [problem.where for problem in parsed.problems] == ["my.conf:2"]
    assert message in str(parsed.problems[0])


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    parsed = parse_text("a\nb = 1\nc =\n'd' = 1\n")
    assert [problem.where.rpartition(":")[2] for problem in parsed.problems] == ["1", "3", "4"]
    assert [assignment.key for assignment in parsed.assignments] == ["b"]


def test_the_number_of_mistakes_told_is_limited() -> None:
    assert len(parse_text("nonsense\n" * 10_000).problems) == parser.PROBLEMS_MAX


@pytest.mark.parametrize(
    "text", ["password = hunter2#x", 'password = "hunter2"', "password = 'hunter2", "password = 'hunter2'x"]
)
def test_a_value_is_never_quoted_in_a_message(text: str) -> None:
    parsed = parse_text(text)
    assert parsed.remarks or parsed.problems
    assert "hunter2" not in "".join(str(item) for item in parsed.remarks + parsed.problems)


def test_an_include_stands_in_the_place_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "b.conf").write_text("a = 3\n")
    (tmp_path / "conf.d" / "a.conf").write_text("a = 2")
    (tmp_path / "conf.d" / "c.txt").write_text("a = 4")
    main = tmp_path / "main.conf"
    main.write_text("a = 1\ninclude conf.d/*.conf # all of them\ninclude missing.conf\ninclude none/*.conf\nz = 1\n")
    parsed = parse_file(main)
    assert parsed.problems == []
    assert [(item.key, item.text) for item in parsed.assignments] == [("a", "1"), ("a", "2"), ("a", "3"), ("z", "1")]
    assert str(parsed.assignments[1].source) == f"{tmp_path / 'conf.d' / 'a.conf'}:1"


def test_an_include_is_relative_to_the_file_that_includes(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "main.conf").write_text("include sub/one.conf")
    (tmp_path / "sub" / "one.conf").write_text("include two.conf")
    (tmp_path / "sub" / "two.conf").write_text("a = 1")
    assert [item.key for item in parse_file(tmp_path / "main.conf").assignments] == ["a"]


def test_an_absolute_include_is_possible(tmp_path: Path) -> None:
    (tmp_path / "one.conf").write_text("a = 1")
    parsed = parse_text(f"include {tmp_path}/one.conf")
    assert [item.key for item in parsed.assignments] == ["a"]


def test_files_that_include_one_another_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("include b.conf\nx = 1")
    (tmp_path / "b.conf").write_text("include ./a.conf")
    parsed = parse_file(tmp_path / "a.conf")
    assert ["would include itself" in str(problem) for problem in parsed.problems] == [True]
    assert parsed.problems[0].where == f"{tmp_path / 'b.conf'}:1"


def test_the_depth_of_includes_is_limited(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.conf").write_text(f"include {number + 1}.conf")
    problems = parse_file(tmp_path / "0.conf").problems
    assert ["deep" in str(problem) for problem in problems] == [True]


def test_the_number_of_included_files_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "INCLUDED_FILES_MAX", 5)
    (tmp_path / "one.inc").write_text("a = 1")
    (tmp_path / "main.conf").write_text("include one.inc\n" * 10)
    parsed = parse_file(tmp_path / "main.conf")
    assert len(parsed.assignments) == 5
    assert parsed.problems[0].where.endswith(":6")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "x.conf", tmp_path):
        (problem,) = parse_file(path).problems
        assert str(problem).startswith(f"{path}: cannot be read: ")
        assert str(problem).count(str(path)) == 1


def test_an_included_file_that_cannot_be_read_is_named_beside_the_line_that_includes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parser, "FILE_BYTES_MAX", 20)
    (tmp_path / "big.conf").write_text("a = 12345678901234567890")
    (tmp_path / "main.conf").write_text("include big.conf")
    (problem,) = parse_file(tmp_path / "main.conf").problems
    assert str(problem).startswith(f"{tmp_path / 'main.conf'}:1: include {tmp_path / 'big.conf'}: larger than 20 bytes")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "FILE_BYTES_MAX", 10)
    (tmp_path / "big.conf").write_text("a = 1234567")
    assert "larger than 10 bytes" in str(parse_file(tmp_path / "big.conf").problems[0])


def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.conf").write_bytes(b"a = 1\nb = \xe4\n")
    assert parse_file(tmp_path / "latin.conf").problems[0].where == f"{tmp_path / 'latin.conf'}:2"


@given(st.text(alphabet=st.sampled_from(list("ab.=#'\"\\$(<) \t\r\n\ufeff*/é\0")) | st.characters(codec="utf-8")))
def test_any_text_gives_assignments_or_problems(text: str) -> None:
    parsed = parse_text(text)
    lines = text.count("\n") + 1
    assert len(parsed.assignments) + len(parsed.problems) <= lines
    for assignment in parsed.assignments:
        assert 1 <= int(assignment.source.detail.rpartition(":")[2]) <= lines


@given(st.text(st.characters(codec="utf-8", exclude_characters="'\n\r")))
def test_a_value_in_single_quotes_is_taken_as_it_is(value: str) -> None:
    assert read(f"key = '{value}'") == {"key": value}
