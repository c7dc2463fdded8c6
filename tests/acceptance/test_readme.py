"""Check the README: the example runs, the settings match the model, the commands parse."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bulkdl.cli import COMMANDS, cli
from bulkdl.failure_policy import EXIT_RANK, ExitCode
from bulkdl.settings import Settings, format_setting
from bulkdl.settings.load import variable_names
from bulkdl.simulator import SimulatedAccount
from support.cli_runs import cli_environment

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SAMPLE_ID = "5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d"


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in fenced if name == language]


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table in a section, without the header."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


async def test_library_example_runs_unchanged(tmp_path: Path) -> None:
    (example,) = blocks("python")
    # A library does not read settings from variables, so the host name of UP42 resolves to the simulator.
    async with cli_environment(
        tmp_path, SimulatedAccount(projects=1, jobs=3, archive_bytes=3_000)
    ) as environment:
        prelude = f"import bulkdl.settings.model as m, os; os.chdir({str(tmp_path)!r})\n"
        default = f"m.Settings.model_fields['api_url'].default = {environment.simulator.api_url!r}\n"
        rebuilt = "m.Settings.model_rebuild(force=True)\n"
        process = await environment.start(code=prelude + default + rebuilt + example)
        assert await process.wait_for_exit() == 0, process.log
        lines = process.out.splitlines()
        assert lines[-1] == "0"
        environment.root = tmp_path / "outputs"
        assert environment.has_complete_output()
        printed = [line for line in lines if line.startswith("completed ")]
        assert len(printed) == sum(1 for _ in environment.simulator.expected_outputs())


def readme_default(key: str) -> str:
    """Return a default as the README writes it."""
    value = getattr(Settings(), key)
    return "off" if key == "max_duration" and value == 0 else format_setting(key, value)


SETTINGS = [
    (flag, variable, default)
    for flags, names, defaults, _ in rows("Settings")
    for flag, variable, default in zip(
        re.findall(r"`(--[\w-]+)`", flags),
        re.findall(r"`(\w+)`", names),
        [value.strip() for value in (defaults or "").split(",")],
        strict=True,
    )
]


def test_table_of_settings_is_read_completely() -> None:
    assert len(SETTINGS) == section("Settings").count("\n| `--") + 1  # one row has two


@pytest.mark.parametrize(("flag", "variable", "default"), SETTINGS)
def test_table_of_settings_has_flag_variable_and_default_of_the_model(
    flag: str, variable: str, default: str
) -> None:
    key = flag.removeprefix("--").replace("-", "_")
    assert variable_names()[key] == variable
    assert default == readme_default(key)
    run = import_module("bulkdl.cli.run").run
    assert flag in {name for parameter in run.params for name in parameter.opts}


def test_auto_limits_match_the_settings() -> None:
    limits = [(flags, text) for flags, _, _, text in rows("Settings") if "`auto` starts" in text]
    assert len(limits) == 3
    for flags, text in limits:
        key = flags.strip("`-").replace("-", "_")
        description = str(Settings.model_fields[key].description)
        assert re.findall(r"\d+", text) == re.findall(r"\d+", description)


COMMAND_LINES = [
    line.split("  #")[0].split(" # ")[0].strip()
    for block in blocks("console")
    for line in block.splitlines()
    if "bulkdl " in line.split("#")[0]
]


def arguments(line: str) -> list[str]:
    words = [word for word in shlex.split(line)[1:] if word != "…"]
    ids = {"PROJECT": SAMPLE_ID, "JOB": SAMPLE_ID, "PROJECT/JOB": f"{SAMPLE_ID}/{SAMPLE_ID}"}
    return [ids.get(word, word) for word in words]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_line_is_accepted(line: str) -> None:
    name, *words = arguments(line)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, f"no such command: {name}"
    command.make_context(name, list(words))
    helped = CliRunner().invoke(cli, [name, *words, "--help"])
    assert helped.exit_code == 0


def test_commands_in_the_text_exist() -> None:
    assert len(COMMAND_LINES) >= 9
    named = set(re.findall(r"`bulkdl (\w+)", README))
    assert named
    assert named <= set(COMMANDS)


def test_flags_in_the_text_exist() -> None:
    commands = [getattr(import_module(f"bulkdl.cli.{command}"), command) for command in COMMANDS]
    commands += [each for command in commands for each in getattr(command, "commands", {}).values()]
    flags = {name for command in commands for parameter in command.params for name in parameter.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= flags


def test_make_targets_in_the_text_exist() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", README, re.MULTILINE))
    assert {first or second for first, second in named} <= verbs


def test_first_block_shows_demo_and_test() -> None:
    assert [line.split("#")[0].strip() for line in blocks("console")[0].splitlines()] == [
        "make demo",
        "make test",
    ]


def test_relative_links_have_a_target() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)
    inside = [link for link in links if "://" not in link]
    assert len(inside) >= 5
    assert [link for link in inside if not (ROOT / link).exists()] == []


def test_table_of_exit_codes_is_complete_and_ranked() -> None:
    codes = {int(code) for cells in rows("Exit codes") for code in cells[0].split(",")}
    assert codes == {int(code) for code in ExitCode}
    (rank,) = re.findall(r"is returned: ([\d, ]+)\.", section("Exit codes"))
    ranked = [int(code) for code in re.findall(r"\d+", rank)]
    assert ranked == [int(code) for code in EXIT_RANK if int(code) in ranked]
    assert set(ranked) == {3, 4, 5, 6, 7, 8, 10, 12}


def test_directory_tree_has_the_names_of_the_path_templates() -> None:
    (tree,) = [block for block in blocks("") if "{job_id}" in block]
    for template in Settings().path_templates.model_dump().values():
        assert str(template).split("/")[-1].replace("{suffix}", ".tar.gz").split("{")[0] in tree
