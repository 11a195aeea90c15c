"""The command ``skillneurons``: arguments (``arguments``) in, one exit code out.

Exit codes: 0 done; 1 something failed or was found (of a run: some cell, the others are saved); 2 the user has
something to mend, told in one message without a traceback. Everything heavy is imported by the
command that needs it, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from skillneurons.arguments import build_parser
from skillneurons.board_command import leaderboard_command
from skillneurons.command_input import checked_config, loaded_registry, opened, say
from skillneurons.errors import SkillNeuronsError, StorageError
from skillneurons.evaluation_commands import predict_command, score_command
from skillneurons.verify_command import verify_command

if TYPE_CHECKING:
    from skillneurons.results import ResultsFolder

SIGNALLED = 128  # a process that a signal ended: 130 for Ctrl-C, 143 for a polite kill


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        from skillneurons import __version__

        print(f"skillneurons {__version__}")
        return 0
    if arguments.command is None:
        parser.print_help()
        return 2
    try:
        return _COMMANDS[arguments.command](arguments)
    except SkillNeuronsError as error:
        return _told_error(error, arguments)
    except KeyboardInterrupt as stopped:
        return _told_interruption(stopped, sys.argv[1:] if argv is None else argv, arguments)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe went away; there is nobody left to tell
        return 1


def _told_error(error: SkillNeuronsError, arguments: argparse.Namespace) -> int:
    if not getattr(arguments, "follows", False) or isinstance(
        error, StorageError
    ):  # else the first rank has the same, and tells it
        registry = getattr(arguments, "registry", None)  # who knows which plugin it came from
        told = registry.told(error) if registry is not None else error
        print(f"skillneurons: error: {told}", file=sys.stderr)
    return 2


def _told_interruption(stopped: KeyboardInterrupt, argv: Sequence[str], arguments: argparse.Namespace) -> int:
    """Say how far it came and what continues it; return the exit code of the signal."""
    import shlex

    from skillneurons.store_errors import without_password

    said = f"interrupted; {stopped}" if str(stopped) else "interrupted"
    begin = getattr(arguments, "begin", "skillneurons")
    if not getattr(arguments, "follows", False):
        say([said, f"continue with: {begin} {without_password(shlex.join(argv))}"])
    return SIGNALLED + int(getattr(stopped, "signum", 2))


def _run(arguments: argparse.Namespace) -> int:
    if arguments.dry_run or arguments.json or arguments.machine:
        return _dry_run(arguments)
    from skillneurons.runner import run_config

    config, registry = checked_config(arguments)
    if config.model.tp_plan is not None:
        from skillneurons.ranks import checked_ranks

        ranks = checked_ranks()
        arguments.follows = not ranks.leads
        arguments.begin = f"torchrun --nproc-per-node {ranks.size} -m skillneurons"
    outcome = run_config(config, registry)
    if getattr(arguments, "follows", False):
        return 0  # the first rank tells
    print(outcome.table)
    say(outcome.notes)
    return 1 if outcome.failed or outcome.problems else 0


def _dry_run(arguments: argparse.Namespace) -> int:
    import json

    from skillneurons.dry_run import dry_run, dry_run_json, dry_run_text
    from skillneurons.errors import UserError

    if not arguments.dry_run:
        given = "--json" if arguments.json else "--machine"
        raise UserError(f"{given} belongs to run --dry-run, which says what a run would take; add --dry-run")
    found = dry_run(*checked_config(arguments), arguments.machine)
    print(json.dumps(dry_run_json(found), indent=2, allow_nan=False) if arguments.json else dry_run_text(found))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from skillneurons.compare import compare
    from skillneurons.compare_plot import checked_plot, plot_comparison
    from skillneurons.compare_text import comparison_json, comparison_text

    plot = None if arguments.plot is None else checked_plot(arguments.plot, arguments.models)
    with opened(arguments.dir) as folder:
        found = compare(
            folder,
            arguments.models,
            tasks=arguments.task,
            metrics=arguments.metric,
            n_resamples=arguments.resamples,
            seed=arguments.seed,
        )
    print(comparison_json(found) if arguments.json else comparison_text(found))
    say(found.problems)
    if plot is not None:
        plot_comparison(found, plot)
        say([f"written: {plot}"])
    return 1 if found.problems else 0


def _show(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from skillneurons.show import density_picture, show_cell

    about = {"column": arguments.column, "neuron": arguments.neuron}
    with opened(arguments.dir) as folder:
        if arguments.svg is not None:
            say([f"written: {density_picture(folder, arguments.key, **about, path=Path(arguments.svg))}"])
        print(show_cell(folder, arguments.key, **about, top=arguments.top))
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    from skillneurons.plot import plot_cell

    with opened(arguments.dir) as folder:
        done = plot_cell(
            folder,
            arguments.key,
            column=arguments.column,
            neuron=arguments.neuron,
            figures=arguments.figure,
            formats=arguments.format or ["pdf"],
            out=arguments.output,
        )
    say(done.missing)
    for path in done.shown:
        print(path)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from skillneurons.listing import listing

    complaints: list[str] = []
    print(listing(arguments.what, loaded_registry(arguments), as_json=arguments.json, complaints=complaints))
    say([f"warning: {line}" for line in complaints])
    return 0


def _plugins(arguments: argparse.Namespace) -> int:
    from skillneurons.plugin_commands import plugins_command

    arguments.plugin = [*arguments.plugin, *arguments.more_plugin]
    arguments.no_plugin = [*arguments.no_plugin, *arguments.more_no_plugin]
    arguments.strict_plugins |= arguments.more_strict_plugins
    text, remarks, code = plugins_command(arguments, loaded_registry(arguments))
    print(text)
    say(remarks)
    return code


def _doctor(arguments: argparse.Namespace) -> int:
    from skillneurons.doctor import examine
    from skillneurons.doctor_text import examination_json, examination_text
    from skillneurons.mending import Mended, Watch, mend

    registry = loaded_registry(arguments)
    with opened(arguments.dir) as folder:
        strange = _copied(folder, mend=arguments.mend)
        if arguments.mend:
            done = mend(folder.root, registry, deep=arguments.deep, watch=Watch(say=lambda line: say([line])))
        else:
            done = Mended([], [], examine(folder.root, registry, deep=arguments.deep))
        print(folder.told((examination_json if arguments.json else examination_text)(done.left, done.done)))
    say([*done.failed, *strange])
    return 1 if done.left.complaints or done.failed or strange else 0


def _copied(folder: ResultsFolder, *, mend: bool) -> list[str]:
    """Copy a results folder from a store, to be looked at; return what in it has no name of ours."""
    from skillneurons.errors import UserError

    if folder.mirror is None:
        return []
    if mend:
        place = folder.place
        copies = "aws s3 sync" if place.startswith("s3") else "copy"
        raise UserError(
            f"cannot mend {place}: mending moves and deletes files, which is done on a disk; copy the folder "
            f"({copies} {place} DIR), mend DIR, and copy it back ({copies} --delete DIR {place})"
        )
    folder.mirror.fetch_all()
    return [
        f"{folder.place}: {name!r} is no name of a results file; nothing reads it" for name in folder.mirror.refused
    ]


def _selftest(arguments: argparse.Namespace) -> int:
    from skillneurons.progress import Progress
    from skillneurons.selftest import MODELS, calibrate, recover, report

    registry = loaded_registry(arguments)
    recoveries, calibrations = [], []
    models = arguments.model or MODELS
    with Progress(0) as display:
        with display.work("planted neurons", len(models)) as step:
            for model in models:
                recoveries.append(
                    recover(model, registry, n=arguments.n, permutations=arguments.permutations, seed=arguments.seed)
                )
                step(1)
        if arguments.runs:
            with display.work("unrelated labels", 4) as step:
                calibrations = calibrate(
                    registry,
                    runs=arguments.runs,
                    permutations=arguments.permutations,
                    seed=arguments.seed,
                    progress=step,
                )
    print(report(recoveries, calibrations))
    return 0 if all(one.ok for one in recoveries) and all(one.ok for one in calibrations) else 1


def _validate(arguments: argparse.Namespace) -> int:
    if arguments.schema:
        import json

        from skillneurons.config_schema import config_schema

        print(json.dumps(config_schema(loaded_registry(arguments)), indent=2))
        return 0
    config, registry = checked_config(arguments)
    tasks = [registry.task(name) for name in config.tasks]
    metrics = [registry.metric(name) for name in config.metrics]
    pairs = sum(bool(metric.columns_for(task)) for task in tasks for metric in metrics)
    print(f"ok: {pairs * len(config.models) * len(config.seeds)} cells")
    return 0


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "leaderboard": leaderboard_command,
    "compare": _compare,
    "show": _show,
    "plot": _plot,
    "list": _list,
    "plugins": _plugins,
    "score": score_command,
    "predict": predict_command,
    "doctor": _doctor,
    "verify": verify_command,
    "selftest": _selftest,
    "validate": _validate,
}
