"""What can be asked of the command: its subcommands and their options. What they do is in ``cli``."""

from __future__ import annotations

import argparse

EPILOG = "exit codes: 0 done; 1 something failed or was found: a cell, a check, a stale board; 2 something to mend in the input"
ENVIRONMENT = (
    "environment: SKILLNEURONS_ and a setting's path in capitals, __ between its parts, gives a setting as --set does: "
    "SKILLNEURONS_PROMPT__STEPS=100, SKILLNEURONS_TASKS__HANS__PATH=FILE; what the command line says wins"
)
MODEL = "'pocket' or 'pocket-small', a hub id, or a folder"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; ``command`` is the name of the one that is asked for."""
    parser = argparse.ArgumentParser(
        prog="skillneurons",
        description="Find, prove and compare the skill neurons of language models.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    plugins = _plugin_options()

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[plugins], epilog=EPILOG)

    run = command("run", "run a benchmark and print its table (default config: demo)")
    _config_options(run)
    run.add_argument(
        "--dry-run", action="store_true", help="list the cells, why they are to run and what that takes, and stop"
    )
    run.add_argument("--json", action="store_true", help="with --dry-run: as JSON, with every figure")
    machine = "with --dry-run: what it takes on a GPU, or several of a kind, by stated rates (h100, 8xh100, l4 ...), not on this machine"
    run.add_argument("--machine", metavar="NAME", help=machine)
    _leaderboard_options(command("leaderboard", "compile the table of one or many run folders"))
    _compare_options(command("compare", "compare models on the examples and groups that they share"))
    _show_options(command("show", "show a finished cell and its neurons"))
    _plot_options(command("plot", "write the figures of a finished cell for a paper"))
    listing = command("list", "list what is there")
    listing.add_argument("what", choices=("tasks", "metrics", "attributions", "graders", "models"))
    listing.add_argument("--json", action="store_true", help="as JSON, with every detail")
    _plugins_actions(command("plugins", "list the plugins, check one against the contract, or begin a new one"))
    _score_options(command("score", "score a predictions file as the task's authors do, without any model"))
    _predict_options(command("predict", "write a model's answers to a predictions file"))
    _doctor_options(command("doctor", "find what is damaged, orphaned or stale in a run folder, and mend it if asked"))
    _verify_options(command("verify", "verify results that somebody else made, recompute a sample, and sign a report"))
    _selftest_options(command("selftest", "plant neurons of known strength, find them again"))
    validate = command("validate", "check a config and name every fault at once")
    _config_options(validate)
    validate.add_argument("--schema", action="store_true", help="print the JSON Schema of configs, for an editor")
    for name in ("run", "validate", "score", "predict"):
        commands.choices[name].epilog = f"{ENVIRONMENT}; {EPILOG}"
    return parser


def _plugins_actions(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="what", metavar="ACTION", required=True)
    again = _plugin_options("more_")  # may stand before the action, after it, or both

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text, parents=[again], epilog=EPILOG)

    listing = action("list", "list the plugins, where they come from, and why one is not there")
    listing.add_argument("--json", action="store_true", help="as JSON, with every detail")
    check = action("check", "hold a plugin to the contract of its kind (exit 1 if it fails)")
    check.add_argument("plugin_name", metavar="PLUGIN", help="a plugin's name, a module, a file or a folder")
    check.add_argument("--json", action="store_true", help="as JSON, with every detail")
    new = action("new", "write a new plugin: a package that can be installed, with its tests")
    new.add_argument("kind", choices=("task", "metric", "attribution"), help="task, metric or attribution")
    new.add_argument("name", metavar="NAME", help="what it is called: small letters, digits, '_' and '-'")
    new.add_argument("--file", action="store_true", help="write a single file NAME.py, for -p, instead of a package")
    new.add_argument("-o", "--output", default=".", metavar="DIR", help="the folder to write it into (default: here)")


def _plugin_options(prefix: str = "") -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("plugins")
    add = group.add_argument
    name = f"{prefix}plugin"
    add("-p", "--plugin", dest=name, action="append", default=[], metavar="PLUGIN", help="a file, a folder or a module")
    name = f"{prefix}no_plugin"
    add("--no-plugin", dest=name, action="append", default=[], metavar="NAME", help="leave a plugin out")
    strict = "exit 2 if a plugin cannot be loaded"
    add("--strict-plugins", dest=f"{prefix}strict_plugins", action="store_true", help=strict)
    return options


def _evaluation_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--split", default="all", choices=("all", "discovery", "heldout"), help="of what is evaluated (default: all)")
    add("--limit", type=int, metavar="N", help="at most N examples of each split")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, as in tasks.hans.path=FILE")


def _leaderboard_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dirs", nargs="*", metavar="DIR", help="run folders, or URLs that fsspec knows (default: runs)")
    add("-o", "--output", metavar="DIR", help="where to write: a folder or a URL (default: the first DIR)")
    what = "may be given again (default: md, csv, parquet); html is a site: index.html and site/"
    add("--format", action="append", default=[], choices=("md", "csv", "parquet", "html"), help=what)
    trust = "a file of public keys, one a line: cells that a report signed by one of them stands for are verified; may be given again"
    add("--trust", action="append", default=[], metavar="FILE", help=trust)
    add("--check", action="store_true", help="write nothing; exit 1 with a diff if what is there is stale")


def _score_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("task", metavar="TASK", help="a task, or a part of one")
    add("predictions", metavar="PREDICTIONS", help="a CSV, or JSON Lines (.jsonl)")
    _evaluation_options(parser)
    add("--partial", action="store_true", help="score what is there where predictions are missing")
    add("--detail", action="store_true", help="the figures of small parts too")
    add("--json", action="store_true", help="as JSON, with every detail")
    add("--graded", metavar="FILE", help="write what the grader said about each text (JSON Lines)")


def _predict_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("task", metavar="TASK", help="a task, or a part of one")
    add("-m", "--model", required=True, metavar="MODEL", help=MODEL)
    add("-o", "--output", required=True, metavar="FILE", help="a CSV, or JSON Lines (.jsonl)")
    add("--prompt", metavar="DIR", help="a tuned prompt, as in runs/prompts/KEY (default: none)")
    _evaluation_options(parser)
    add("--generations", type=int, default=1, metavar="N", help="texts per example (default: 1, greedy)")
    add("--temperature", type=float, metavar="T", help="of drawn texts (default: 0.7 for several)")
    add("--seed", type=int, default=0, metavar="S", help="of drawn texts (default: 0)")
    add("--device", metavar="D", help="auto, cpu, cuda or cuda:N")


def _compare_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dir", metavar="DIR", help="run folder, or a URL")
    add("models", nargs="+", metavar="MODEL", help="two models or more: a name, or NAME@REVISION")
    add("-t", "--task", action="append", default=[], metavar="TASK", help="these tasks only")
    add("-M", "--metric", action="append", default=[], metavar="METRIC", help="these metrics only")
    add("--seed", type=int, default=0, metavar="S", help="of resamples and permutations (default: 0)")
    add("--resamples", type=int, default=9999, metavar="N", help="resamples and permutations (default: 9999)")
    add("--json", action="store_true", help="as JSON, with every figure")
    add("--plot", metavar="FILE", help="draw the differences of two models there (.pdf, .png or .svg)")


def _show_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dir", metavar="DIR", help="run folder, or a URL")
    add("key", metavar="KEY", help="a cell's key, or how it begins")
    add("--column", metavar="C", help="one column only")
    add("--neuron", metavar="N", help="one neuron's card, as in L03.N0127")
    add("--svg", metavar="FILE", help="write the density of the neuron's activation by metric value there")
    add("--top", type=int, default=10, metavar="N", help="how many neurons (default: 10)")


def _plot_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dir", metavar="DIR", help="run folder, or a URL")
    add("key", metavar="KEY", help="a cell's key, or how it begins")
    add("--column", metavar="C", help="the column (default: the one that causes were tested on, or the first)")
    add("--neuron", metavar="N", help="whose density, as in L03.N0127 (default: the column's strongest)")
    names = "histogram, map, doses, steering, seeds or density"
    add("--figure", action="append", default=[], metavar="F", help=f"{names}; may be given again (default: all)")
    add("--format", action="append", default=[], metavar="F", help="pdf, png or svg; may be given again (default: pdf)")
    add("-o", "--output", metavar="DIR", help="where to write (default: DIR/plots)")


def _doctor_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dir", metavar="DIR", help="run folder, or a URL")
    mends = "set aside what is damaged or orphaned (DIR/set-aside), delete what killed processes left"
    add("--mend", action="store_true", help=mends)
    add("--deep", action="store_true", help="read every number and build the board, to compare")
    add("--json", action="store_true", help="as JSON, with everything")


def _verify_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dir", nargs="?", metavar="DIR", help="results folder, or a URL")
    sample = "how many cells are computed again: a number, 0 for none, or all (default: 3)"
    add("--sample", default="3", metavar="N", help=sample)
    add("--seed", type=int, metavar="S", help="draws the sample (default: one that nobody knows before; it is told)")
    model = "a model besides the embedded ones that may be loaded; may be given again"
    add("-m", "--model", action="append", default=[], metavar="MODEL", help=model)
    trusted = "an option of a task that may be followed where cells have it, as in tasks.hans.path=FILE"
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=trusted)
    add("--retune", action="store_true", help="tune the prompts of the sample again from their seeds")
    add("--device", metavar="D", help="auto, cpu, cuda or cuda:N")
    add("--json", action="store_true", help="as JSON, with everything")
    add(
        "--report",
        metavar="FILE",
        help="write the report here (with --sign by default: DIR/verification/report-HASH.json)",
    )
    add(
        "--sign",
        metavar="KEYFILE",
        help="sign the report with this Ed25519 private key (OpenSSH or PEM, without passphrase)",
    )
    add("--new-key", metavar="FILE", help="write a new private key for --sign, and FILE.pub for leaderboard --trust")


def _selftest_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-m", "--model", action="append", default=[], metavar="MODEL", help="default: pocket, random Llama and GPT-2")
    add("-n", type=int, default=1000, metavar="N", help="examples on discovery (default: 1000)")
    add("--permutations", type=int, default=200, metavar="B", help="of the null (default: 200)")
    add("--runs", type=int, default=200, metavar="R", help="unrelated labels (default: 200; 0: none)")
    add("--seed", type=int, default=0, metavar="S", help="of all that is drawn (default: 0)")


def _config_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("config", nargs="?", metavar="CONFIG", help="a YAML file, or the built-in 'demo' or 'paper'")
    add("-m", "--model", action="append", default=[], metavar="MODEL", help=MODEL)
    add("-t", "--task", action="append", default=[], metavar="TASK", help="run these tasks only")
    add("-M", "--metric", action="append", default=[], metavar="METRIC", help="run these metrics only")
    add(
        "-o", "--output", metavar="DIR", help="run folder, or a URL as in s3://bucket/run (default: the config's, runs)"
    )
    add("--limit", type=int, metavar="N", help="at most N examples of each split")
    add("--seed", action="append", type=int, default=[], metavar="S", help="prompt seed; may be given again")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, as in prompt.steps=100")
    add("--executor", choices=("local", "ray"), help="who does the work: this process (default), or workers of Ray")
    add("--address", metavar="A", help="with ray: a cluster, HOST:PORT or auto (default: one started for the run)")
    add("--device", metavar="D", help="auto, cpu, cuda or cuda:N")
