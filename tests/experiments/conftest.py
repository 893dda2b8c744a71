"""What tests of several commands share."""

import jax
import pytest

from experiments import train
from experiments.launch import provenance


@pytest.fixture(scope="session")
def compiled():
    return {}


@pytest.fixture
def compile_once(compiled, tmp_path, monkeypatch):
    """The program of `stubs.TRAINED` is compiled by the first run that needs it."""
    # The cache of compiled programs is the process's: leave its place alone.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "unused"))
    original = train.compile_program

    def compile_program(*arguments):
        if not compiled:
            compiled["program"] = original(*arguments)
        return compiled["program"]

    monkeypatch.setattr(train, "compile_program", compile_program)


@pytest.fixture
def one_commit(monkeypatch):
    """Whoever commits while the tests run brings no warning into them."""
    monkeypatch.setattr(provenance, "_commit", lambda: None)


@pytest.fixture
def assert_refused(tmp_path, monkeypatch, capsys):
    """`(main, flags, message)`: status 2, one line, nothing compiled, no file touched.

    The working folder is `tmp_path` from the start of the test.
    """

    def files():
        return {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}

    def compile_nothing(*_, **__):
        raise AssertionError("something was compiled")

    def check(main, flags, message):
        before = files()
        monkeypatch.setattr(jax.stages.Lowered, "compile", compile_nothing)
        assert main(flags) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        assert message in printed.err
        assert files() == before

    monkeypatch.chdir(tmp_path)
    return check
