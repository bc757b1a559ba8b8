"""The house rules that a tool can check: the map is true, pages are complete, files are small, imports do nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dashbelle import errors
from dashbelle.settings import Settings
from dashbelle.vocabulary import EndReason

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "dashbelle"
MODULES = sorted(path for path in SOURCE.rglob("*.py"))
PYTHON = sorted(path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
HARD_LIMIT_LINES = 500
LONGEST_FUNCTION_LINES = 60


def tracked_files() -> list[Path]:
    """Every file that is or will be committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout: nobody can say which files are part of the project")
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_opens_with_its_job(path: Path) -> None:
    assert first_line(path).endswith("."), f"{relative(path)} needs a docstring of one line that says its job"


def test_the_code_map_says_what_the_modules_say() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    told = dict(re.findall(r"^\| `(src/dashbelle/[^`]+\.py)` \| (.+) \|$", page, flags=re.MULTILINE))
    true = {relative(path): first_line(path).replace("|", "\\|") for path in MODULES if path.name != "__init__.py"}
    true = {name: line for name, line in true.items() if "/migrations/" not in name}
    assert told == true, "docs/architecture.md: run `python tests/test_rules.py` and paste what it prints"


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_no_file_is_over_500_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= HARD_LIMIT_LINES


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_function_is_over_60_lines(path: Path) -> None:
    functions = (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
    )
    too_long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION_LINES]
    assert too_long == []


def test_every_error_has_code_status_and_message_and_stands_in_the_tree() -> None:
    tree = errors.__doc__ or ""
    for name, kind in vars(errors).items():
        if not (isinstance(kind, type) and issubclass(kind, errors.DashbelleError)):
            continue
        if kind in {errors.DashbelleError, errors.Refused, errors.Failed}:
            assert name in tree
            continue
        assert re.search(rf"^ +[+x-] {name} +{kind.status} {re.escape(kind.code)}$", tree, flags=re.MULTILINE), (
            f"errors.py: draw {name} with {kind.status} {kind.code} in the docstring's tree"
        )
        assert isinstance(kind.end_reason, EndReason)
        assert kind.__doc__


def default_of(name: str) -> str:
    """A setting's default, as the page writes it."""
    value = Settings.model_fields[name].default
    if name == "home":
        return "the platform's"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_every_setting_is_documented_with_its_default() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        row = f"| `{name}` | {default_of(name)} | {field.description} |"
        assert row in page, f"docs/settings.md should say: {row}"


def test_importing_a_module_does_nothing() -> None:
    names = [".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in MODULES]
    names = [name.removesuffix(".__init__") for name in names if "migrations" not in name]
    program = f"import importlib\nfor name in {names!r}: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={"PATH": "/nonexistent", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_serving_needs_nothing_of_what_trains() -> None:
    heavy = {"torch", "transformers", "peft", "trl", "pickle"}
    for path in MODULES:
        if {"lab", "models"} & set(path.relative_to(SOURCE).parts):
            continue
        imported = {
            name.partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            )
        }
        assert not imported & heavy, relative(path)


def test_the_readme_is_short_and_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150
    assert "./dev serve" in readme
    assert "./dev test" in readme


def test_lock_files_name_no_host_and_hash_everything() -> None:
    locks = [*(ROOT / "requirements").glob("*.txt"), *(ROOT / "tests").rglob("requirements/*.txt")]
    assert locks
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text, lock
        assert "index-url" not in text, lock
        pins = re.findall(r"^[a-z0-9][^ ]*==[^ ]+", text, flags=re.MULTILINE)
        hashed = re.findall(r"^[a-z0-9][^\n]*\\\n +--hash=sha256:", text, flags=re.MULTILINE)
        assert pins, lock
        assert len(pins) == len(hashed), lock


def test_no_file_holds_weights_or_a_path_of_somebodys_machine() -> None:
    machine_paths = re.compile(rb"/(?:work/(?:main|stee)|root/|home/[a-z]+/)")
    for path in tracked_files():
        assert path.suffix not in {".gguf", ".safetensors", ".bin", ".pt", ".pth"}, relative(path)
        assert path.stat().st_size < 2 * 1024 * 1024, relative(path)
        if path != Path(__file__):
            assert not machine_paths.search(path.read_bytes()), relative(path)


if __name__ == "__main__":
    for module in MODULES:
        if module.name != "__init__.py" and "migrations" not in module.parts:
            print(f"| `{relative(module)}` | {first_line(module).replace('|', chr(92) + '|')} |")
