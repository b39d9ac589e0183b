"""Plugins are found in a directory or among those that are installed; what is wrong with one is said."""

from pathlib import Path

import pytest

from strogoff.plugins.discovery import PluginNotFoundError, find_plugin, installed

CODE = """
from strogoff.plugins import OK, Plugin

class Sesame(Plugin):
    name = "sesame"

    def auth_on_register(self, request):
        return {answer}
"""


def write(directory: Path, code: str, name: str = "sesame.py") -> None:
    file = directory / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(code)


def test_a_file_of_the_plugins_name_is_a_plugin(tmp_path: Path) -> None:
    write(tmp_path, CODE.format(answer="OK"))
    assert find_plugin("sesame", tmp_path).name == "sesame"


def test_a_package_may_have_several_files(tmp_path: Path) -> None:
    write(tmp_path, "WORD = 'open'\n", "sesame/words.py")
    write(tmp_path, "from strogoff_plugins.sesame.words import WORD\n" + CODE.format(answer="OK"), "sesame/__init__.py")
    write(
        tmp_path,
        (tmp_path / "sesame/__init__.py").read_text().replace("strogoff_plugins.sesame", ""),
        "sesame/__init__.py",
    )
    assert find_plugin("sesame", tmp_path).name == "sesame"


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    write(tmp_path, CODE.format(answer="1"))
    first = find_plugin("sesame", tmp_path)
    write(tmp_path, CODE.format(answer="2"))
    second = find_plugin("sesame", tmp_path)
    assert [kind().auth_on_register(None) for kind in (first, second)] == [1, 2]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("class Other: pass", "has 0 classes derived from Plugin with name = 'sesame'"),
        ("import nothing_like_this", "cannot be loaded from .*ModuleNotFoundError"),
        ("def broken(:", "cannot be loaded from .*SyntaxError"),
        (CODE.format(answer=1) + CODE.format(answer=2).replace("Sesame", "Again"), "has 2 classes"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, code: str, sentence: str) -> None:
    write(tmp_path, code)
    with pytest.raises(PluginNotFoundError, match=sentence):
        find_plugin("sesame", tmp_path)


def test_a_directory_without_the_plugin_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(PluginNotFoundError, match=r"looked for .*sesame\.py and .*sesame/__init__\.py"):
        find_plugin("sesame", tmp_path)


def test_an_unknown_plugin_is_told_which_there_are() -> None:
    with pytest.raises(PluginNotFoundError, match=r"installed are .*vmq_acl.*needs plugins\.sesame\.path"):
        find_plugin("sesame")


@pytest.mark.parametrize("name", ["", "../evil", "a b", "1st", "x" * 65])
def test_a_name_that_is_none_never_reaches_the_file_system(name: str, tmp_path: Path) -> None:
    with pytest.raises(PluginNotFoundError, match="is not a name of a plugin"):
        find_plugin(name, tmp_path)


def test_the_brokers_own_plugins_are_installed() -> None:
    assert {"vmq_acl", "vmq_passwd"} <= set(installed())
