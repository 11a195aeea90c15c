"""The command ``skillneurons``: arguments (``arguments``) in, one exit code out.

Exit codes: 0 all cells done; 1 some cell failed, the others are done and saved; 2 the user has
something to mend, told in one message without a traceback. Everything heavy is imported by the
command that needs it, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from skillneurons.arguments import build_parser
from skillneurons.errors import SkillNeuronsError

if TYPE_CHECKING:
    from skillneurons.config import Config
    from skillneurons.leaderboard.site.task_page import About
    from skillneurons.registry import Registry
    from skillneurons.types import Example, Task

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
        registry = getattr(arguments, "registry", None)  # who knows which plugin it came from
        told = registry.told(error) if registry is not None else error
        print(f"skillneurons: error: {told}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        return _told_interruption(stopped, sys.argv[1:] if argv is None else argv)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe went away; there is nobody left to tell
        return 1


def _told_interruption(stopped: KeyboardInterrupt, argv: Sequence[str]) -> int:
    """Say how far it came and what continues it; return the exit code of the signal."""
    import shlex

    said = f"interrupted; {stopped}" if str(stopped) else "interrupted"
    _say([said, f"continue with: skillneurons {shlex.join(argv)}"])
    return SIGNALLED + int(getattr(stopped, "signum", 2))


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"skillneurons: {line}", file=sys.stderr)


def _registry(arguments: argparse.Namespace, more: Sequence[str] = ()) -> Registry:
    from skillneurons.registry import load_registry

    registry = load_registry([*more, *arguments.plugin], arguments.no_plugin, arguments.strict_plugins)
    _say([f"warning: {line}" for line in [*registry.warnings, *registry.remarks]])
    arguments.registry = registry
    return registry


def _config(arguments: argparse.Namespace) -> tuple[Config, Registry]:
    """Return the checked config and the plugins it names; every fault at once is one error."""
    from skillneurons.config import load_config, plugins_of

    registry = _registry(arguments, plugins_of(arguments.config, arguments.set, os.environ))
    config = load_config(
        arguments.config,
        arguments.set,
        models=arguments.model,
        tasks=arguments.task,
        metrics=arguments.metric,
        seeds=arguments.seed,
        limit=arguments.limit,
        device=arguments.device,
        output=arguments.output,
        registry=registry,
        environ=os.environ,
    )
    return config.model_copy(update={"plugins": [*config.plugins, *arguments.plugin]}), registry


def _run(arguments: argparse.Namespace) -> int:
    if arguments.dry_run or arguments.json or arguments.machine:
        return _dry_run(arguments)
    from skillneurons.runner import run_config

    config, registry = _config(arguments)
    outcome = run_config(config, registry)
    print(outcome.table)
    _say(outcome.notes)
    return 1 if outcome.failed or outcome.problems else 0


def _dry_run(arguments: argparse.Namespace) -> int:
    import json

    from skillneurons.dry_run import dry_run, dry_run_json, dry_run_text
    from skillneurons.errors import UserError

    if not arguments.dry_run:
        given = "--json" if arguments.json else "--machine"
        raise UserError(f"{given} belongs to run --dry-run, which says what a run would take; add --dry-run")
    found = dry_run(*_config(arguments), arguments.machine)
    print(json.dumps(dry_run_json(found), indent=2) if arguments.json else dry_run_text(found))
    return 0


def _leaderboard(arguments: argparse.Namespace) -> int:
    if (
        "numpy" not in sys.modules
    ):  # a board multiplies no matrices, and starting threads for that takes longer than reading it
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from skillneurons.leaderboard.board import no_collector

    with no_collector():
        return _rebuild(arguments)


def _rebuild(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from skillneurons.errors import ResultsError, UserError
    from skillneurons.leaderboard.ahead import processes_here
    from skillneurons.leaderboard.board import board_text, build_board, check_board, write_board
    from skillneurons.leaderboard.index import NAME, Index
    from skillneurons.leaderboard.sources import URL

    dirs = arguments.dirs or ["runs"]
    if URL in (arguments.output or dirs[0]):
        raise UserError(
            f"the board is written to a local folder, not to {arguments.output or dirs[0]}: give one with -o DIR"
        )
    out = Path(arguments.output or dirs[0])
    formats = tuple(arguments.format) or ("md", "csv", "parquet")
    about = _about_tasks(arguments) if "html" in formats else {}
    index = Index(None if arguments.check else out / NAME)
    board = build_board(dirs, index, processes=processes_here())
    if arguments.check:
        difference = check_board(board, out, formats, about)
        if difference:
            print(difference)
            again = [*map(str, dirs), "-o", str(out), *(f"--format {name}" for name in arguments.format)]
            _say([f"{out} is stale; rebuild it with: skillneurons leaderboard {' '.join(again)}"])
        _say(board.problems)
        return 1 if difference or board.problems else 0
    paths = write_board(board, out, formats, about)
    try:
        index.save()
    except ResultsError as error:
        _say([f"warning: the next build will take longer: {error}"])
    print(board_text(board))
    _say([*board.problems, "written: " + ", ".join(map(str, paths))])
    return 1 if board.problems else 0


def _about_tasks(arguments: argparse.Namespace) -> dict[str, About]:
    """Return what the plugins that are loaded here say of their tasks."""
    from skillneurons.leaderboard.site.task_page import About

    registry = _registry(arguments)
    return {
        name: About(found.value.version, registry.source_hash("task", name), found.value.description)
        for name, found in registry.tasks.items()
    }


def _evaluation(
    arguments: argparse.Namespace, models: Sequence[str] = (), *, grading: bool = True
) -> tuple[Config, Task, list[Example]]:
    """Return the settings, the task with its options applied, and the examples it is evaluated on."""
    from skillneurons.config import load_config, plugins_of
    from skillneurons.errors import UserError
    from skillneurons.evaluation import evaluated_examples
    from skillneurons.task_setup import set_up

    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"--limit {arguments.limit}: at least 1 example is needed")
    registry = _registry(arguments, plugins_of(None, arguments.set, os.environ, blank=True))
    config = load_config(
        overrides=arguments.set,
        models=models,
        tasks=[arguments.task],
        limit=arguments.limit,
        device=getattr(arguments, "device", None),
        registry=registry,
        blank=True,
        environ=os.environ,
    )
    options = config.tasks[arguments.task]
    task = set_up(registry, arguments.task, options, grading=grading).task
    examples = evaluated_examples(task, options, split=arguments.split, limit=config.limit, seed=config.data.seed)
    return config, task, examples


def _score(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from skillneurons.evaluation import score_predictions, scores_json, scores_text, write_graded

    _, task, examples = _evaluation(arguments)
    scores, predictions = score_predictions(task, Path(arguments.predictions), examples, partial=arguments.partial)
    print(scores_json(scores) if arguments.json else scores_text(scores, detail=arguments.detail))
    if arguments.graded:
        write_graded(Path(arguments.graded), predictions)
    scored = len({one.example.id for one in predictions})
    _say([f"{scored} of {len(examples)} examples have a prediction"])
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    config, task, examples = _evaluation(arguments, [arguments.model], grading=False)

    from skillneurons.loading import load_model
    from skillneurons.predict import predict
    from skillneurons.predictions import write_predictions
    from skillneurons.progress import Progress
    from skillneurons.prompt import SoftPrompt

    lm = load_model(arguments.model, device=config.device, **config.model.model_dump(exclude={"too_long"}))
    prompt = SoftPrompt.from_pretrained(arguments.prompt) if arguments.prompt else None
    total = len(examples) * arguments.generations
    with Progress(0) as display, display.work(f"{arguments.task}: answers", total) as step:
        predictions = predict(
            lm,
            task,
            examples,
            prompt,
            generations=arguments.generations,
            temperature=arguments.temperature,
            seed=arguments.seed,
            batch_size=config.attribution.at_once,
            too_long=config.model.too_long,
            progress=step,
        )
    write_predictions(Path(arguments.output), task, predictions)
    _say(
        [
            f"written: {arguments.output} ({len(predictions)} answers); score it with: skillneurons score {arguments.task}"
        ]
    )
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from skillneurons.compare import compare
    from skillneurons.compare_plot import checked_plot, plot_comparison
    from skillneurons.compare_text import comparison_json, comparison_text

    plot = None if arguments.plot is None else checked_plot(arguments.plot, arguments.models)
    found = compare(
        arguments.dir,
        arguments.models,
        tasks=arguments.task,
        metrics=arguments.metric,
        n_resamples=arguments.resamples,
        seed=arguments.seed,
    )
    print(comparison_json(found) if arguments.json else comparison_text(found))
    _say(found.problems)
    if plot is not None:
        plot_comparison(found, plot)
        _say([f"written: {plot}"])
    return 1 if found.problems else 0


def _show(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from skillneurons.show import density_picture, show_cell

    if arguments.svg is not None:
        written = density_picture(arguments.dir, arguments.key, arguments.column, arguments.neuron, Path(arguments.svg))
        _say([f"written: {written}"])
    print(show_cell(arguments.dir, arguments.key, column=arguments.column, neuron=arguments.neuron, top=arguments.top))
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    from skillneurons.plot import plot_cell

    done = plot_cell(
        arguments.dir,
        arguments.key,
        column=arguments.column,
        neuron=arguments.neuron,
        figures=arguments.figure,
        formats=arguments.format or ["pdf"],
        out=arguments.output,
    )
    _say(done.missing)
    for path in done.paths:
        print(path)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from skillneurons.listing import listing

    complaints: list[str] = []
    print(listing(arguments.what, _registry(arguments), as_json=arguments.json, complaints=complaints))
    _say([f"warning: {line}" for line in complaints])
    return 0


def _plugins(arguments: argparse.Namespace) -> int:
    from skillneurons.plugin_commands import plugins_command

    arguments.plugin = [*arguments.plugin, *arguments.more_plugin]
    arguments.no_plugin = [*arguments.no_plugin, *arguments.more_no_plugin]
    arguments.strict_plugins |= arguments.more_strict_plugins
    text, remarks, code = plugins_command(arguments, _registry(arguments))
    print(text)
    _say(remarks)
    return code


def _doctor(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from skillneurons.doctor import examine
    from skillneurons.doctor_text import examination_json, examination_text
    from skillneurons.mending import Mended, mend

    folder, registry = Path(arguments.dir), _registry(arguments)
    if arguments.mend:
        done = mend(folder, registry, deep=arguments.deep)
    else:
        done = Mended([], [], examine(folder, registry, deep=arguments.deep))
    print((examination_json if arguments.json else examination_text)(done.left, done.done))
    _say(done.failed)
    return 1 if done.left.complaints or done.failed else 0


def _selftest(arguments: argparse.Namespace) -> int:
    from skillneurons.progress import Progress
    from skillneurons.selftest import MODELS, calibrate, recover, report

    registry = _registry(arguments)
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

        print(json.dumps(config_schema(_registry(arguments)), indent=2))
        return 0
    config, registry = _config(arguments)
    tasks = [registry.task(name) for name in config.tasks]
    metrics = [registry.metric(name) for name in config.metrics]
    pairs = sum(bool(metric.columns_for(task)) for task in tasks for metric in metrics)
    print(f"ok: {pairs * len(config.models) * len(config.seeds)} cells")
    return 0


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "leaderboard": _leaderboard,
    "compare": _compare,
    "show": _show,
    "plot": _plot,
    "list": _list,
    "plugins": _plugins,
    "score": _score,
    "predict": _predict,
    "doctor": _doctor,
    "selftest": _selftest,
    "validate": _validate,
}
