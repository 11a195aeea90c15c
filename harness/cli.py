"""The command ``skillneurons``: arguments in, one exit code out.

Exit codes: 0 all cells done; 1 some cell failed, the others are done and saved; 2 the user has
something to mend, told in one message without a traceback. Everything heavy is imported by the
command that needs it, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from skillneurons.errors import SkillNeuronsError

if TYPE_CHECKING:
    from skillneurons.config import Config
    from skillneurons.leaderboard.site.task_page import About
    from skillneurons.registry import Registry
    from skillneurons.types import Example, Task

EPILOG = "exit codes: 0 done; 1 some cell failed; 2 something to mend in the input"
INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each sets ``handler``."""
    parser = argparse.ArgumentParser(
        prog="skillneurons",
        description="Find, prove and compare the skill neurons of language models.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    plugins = _plugin_options()

    def command(name: str, handler: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, parents=[plugins], epilog=EPILOG)
        made.set_defaults(handler=handler)
        return made

    run = command("run", _run, "run a benchmark and print its table (default config: demo)")
    _config_options(run)
    run.add_argument("--dry-run", action="store_true", help="list the cells, finished or to do, and stop")
    board = command("leaderboard", _leaderboard, "compile the table of one or many run folders")
    board.add_argument("dirs", nargs="*", metavar="DIR", help="run folders, or URLs that fsspec knows (default: runs)")
    board.add_argument("-o", "--output", metavar="DIR", help="where to write (default: the first DIR)")
    board.add_argument(
        "--format",
        action="append",
        default=[],
        choices=("md", "csv", "parquet", "html"),
        help="may be given again (default: md, csv, parquet); html is a site: index.html and site/",
    )
    board.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 with a diff if what is there is stale"
    )
    _compare_options(command("compare", _compare, "compare models on the examples and groups that they share"))
    _show_options(command("show", _show, "show a finished cell and its neurons"))
    _plot_options(command("plot", _plot, "write the figures of a finished cell for a paper"))
    listing = command("list", _list, "list what is there")
    listing.add_argument("what", choices=("tasks", "metrics", "attributions", "graders", "models"))
    listing.add_argument("--json", action="store_true", help="as JSON, with every detail")
    plugin = command("plugins", _plugins, "list the plugins and where they come from")
    plugin.add_argument("what", choices=("list",))
    plugin.add_argument("--json", action="store_true", help="as JSON, with every detail")
    score = command("score", _score, "score a predictions file as the task's authors do, without any model")
    score.add_argument("task", metavar="TASK", help="a task, or a part of one")
    score.add_argument("predictions", metavar="PREDICTIONS", help="a CSV, or JSON Lines (.jsonl)")
    _evaluation_options(score)
    score.add_argument("--partial", action="store_true", help="score what is there where predictions are missing")
    score.add_argument("--detail", action="store_true", help="the figures of small parts too")
    score.add_argument("--json", action="store_true", help="as JSON, with every detail")
    score.add_argument("--graded", metavar="FILE", help="write what the grader said about each text (JSON Lines)")
    predict = command("predict", _predict, "write a model's answers to a predictions file")
    predict.add_argument("task", metavar="TASK", help="a task, or a part of one")
    predict.add_argument("-m", "--model", required=True, metavar="MODEL", help="'pocket', a hub id, or a folder")
    predict.add_argument("-o", "--output", required=True, metavar="FILE", help="a CSV, or JSON Lines (.jsonl)")
    predict.add_argument("--prompt", metavar="DIR", help="a tuned prompt, as in runs/prompts/KEY (default: none)")
    _evaluation_options(predict)
    predict.add_argument(
        "--generations", type=int, default=1, metavar="N", help="texts per example (default: 1, greedy)"
    )
    predict.add_argument("--temperature", type=float, metavar="T", help="of drawn texts (default: 0.7 for several)")
    predict.add_argument("--seed", type=int, default=0, metavar="S", help="of drawn texts (default: 0)")
    predict.add_argument("--device", metavar="D", help="auto, cpu, cuda or cuda:N")
    _selftest_options(command("selftest", _selftest, "plant neurons of known strength, find them again"))
    validate = command("validate", _validate, "check a config and name every fault at once")
    _config_options(validate)
    return parser


def _plugin_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("plugins")
    group.add_argument(
        "-p", "--plugin", action="append", default=[], metavar="PLUGIN", help="a file, a folder or a module"
    )
    group.add_argument("--no-plugin", action="append", default=[], metavar="NAME", help="leave a plugin out")
    group.add_argument("--strict-plugins", action="store_true", help="exit 2 if a plugin cannot be loaded")
    return options


def _evaluation_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--split", default="all", choices=("all", "discovery", "heldout"), help="of what is evaluated (default: all)")
    add("--limit", type=int, metavar="N", help="at most N examples of each split")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, as in tasks.hans.path=FILE")


def _compare_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dir", metavar="DIR", help="run folder")
    add("models", nargs="+", metavar="MODEL", help="two models or more: a name, or NAME@REVISION")
    add("-t", "--task", action="append", default=[], metavar="TASK", help="these tasks only")
    add("-M", "--metric", action="append", default=[], metavar="METRIC", help="these metrics only")
    add("--seed", type=int, default=0, metavar="S", help="of resamples and permutations (default: 0)")
    add("--resamples", type=int, default=9999, metavar="N", help="resamples and permutations (default: 9999)")
    add("--json", action="store_true", help="as JSON, with every figure")


def _show_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dir", metavar="DIR", help="run folder")
    add("key", metavar="KEY", help="a cell's key, or how it begins")
    add("--column", metavar="C", help="one column only")
    add("--neuron", metavar="N", help="one neuron's card, as in L03.N0127")
    add("--svg", metavar="FILE", help="write the density of the neuron's activation by metric value there")
    add("--top", type=int, default=10, metavar="N", help="how many neurons (default: 10)")


def _plot_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dir", metavar="DIR", help="run folder")
    add("key", metavar="KEY", help="a cell's key, or how it begins")
    add("--column", metavar="C", help="the column (default: the one that causes were tested on, or the first)")
    add("--neuron", metavar="N", help="whose density, as in L03.N0127 (default: the column's strongest)")
    names = "histogram, map, doses, steering, seeds or density"
    add("--figure", action="append", default=[], metavar="F", help=f"{names}; may be given again (default: all)")
    add("--format", action="append", default=[], metavar="F", help="pdf, png or svg; may be given again (default: pdf)")
    add("-o", "--output", metavar="DIR", help="where to write (default: DIR/plots)")


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
    add("-m", "--model", action="append", default=[], metavar="MODEL", help="'pocket', a hub id, or a folder")
    add("-t", "--task", action="append", default=[], metavar="TASK", help="run these tasks only")
    add("-M", "--metric", action="append", default=[], metavar="METRIC", help="run these metrics only")
    add("-o", "--output", metavar="DIR", help="run folder (default: the config's, runs)")
    add("--limit", type=int, metavar="N", help="at most N examples of each split")
    add("--seed", action="append", type=int, default=[], metavar="S", help="prompt seed; may be given again")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, as in prompt.steps=100")
    add("--device", metavar="D", help="auto, cpu, cuda or cuda:N")


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
        code: int = arguments.handler(arguments)
        return code
    except SkillNeuronsError as error:
        print(f"skillneurons: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "skillneurons: interrupted; finished cells are saved, the same command goes on from there", file=sys.stderr
        )
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe went away; there is nobody left to tell
        return 1


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(f"skillneurons: {line}", file=sys.stderr)


def _registry(arguments: argparse.Namespace, more: Sequence[str] = ()) -> Registry:
    from skillneurons.registry import load_registry

    registry = load_registry([*more, *arguments.plugin], arguments.no_plugin, arguments.strict_plugins)
    _say([f"warning: {line}" for line in registry.warnings])
    return registry


def _config(arguments: argparse.Namespace) -> tuple[Config, Registry]:
    """Return the checked config and the plugins it names; every fault at once is one error."""
    from skillneurons.config import load_config, plugins_of

    registry = _registry(arguments, plugins_of(arguments.config, arguments.set))
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
    )
    return config, registry


def _run(arguments: argparse.Namespace) -> int:
    from skillneurons.runner import run_config

    config, registry = _config(arguments)
    outcome = run_config(config, registry, dry_run=arguments.dry_run)
    print(outcome.table)
    _say(outcome.notes)
    return 1 if outcome.failed or outcome.problems else 0


def _leaderboard(arguments: argparse.Namespace) -> int:
    from skillneurons.leaderboard.board import no_collector

    with no_collector():
        return _rebuild(arguments)


def _rebuild(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from skillneurons.errors import UserError
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
            _say([f"{out} is stale; rebuild it with: skillneurons leaderboard {' '.join(map(str, dirs))} -o {out}"])
        _say(board.problems)
        return 1 if difference or board.problems else 0
    paths = write_board(board, out, formats, about)
    index.save()
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
    from skillneurons.config import load_config
    from skillneurons.errors import UserError
    from skillneurons.evaluation import evaluated_examples
    from skillneurons.task_setup import set_up

    if arguments.limit is not None and arguments.limit < 1:
        raise UserError(f"--limit {arguments.limit}: at least 1 example is needed")
    registry = _registry(arguments)
    device = getattr(arguments, "device", None)
    config = load_config(
        overrides=arguments.set, models=models, tasks=[arguments.task], device=device, registry=registry, blank=True
    )
    options = config.tasks[arguments.task]
    task = set_up(registry, arguments.task, options, grading=grading).task
    examples = evaluated_examples(task, options, split=arguments.split, limit=arguments.limit, seed=config.data.seed)
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
    from skillneurons.compare_text import comparison_json, comparison_text

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

    print(listing(arguments.what, _registry(arguments), as_json=arguments.json))
    return 0


def _plugins(arguments: argparse.Namespace) -> int:
    from skillneurons.listing import plugin_listing

    print(plugin_listing(_registry(arguments), as_json=arguments.json))
    return 0


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
    config, registry = _config(arguments)
    tasks = [registry.task(name) for name in config.tasks]
    metrics = [registry.metric(name) for name in config.metrics]
    pairs = sum(bool(metric.columns_for(task)) for task in tasks for metric in metrics)
    print(f"ok: {pairs * len(config.models) * len(config.seeds)} cells")
    return 0
