"""The page of each command, from the parser that also prints ``--help``.

The text of ``--help`` is laid out a little differently by each version of Python, so it is not copied as it stands:
usage, texts, names and choices are the parser's own, and a test compares them with what the command prints.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping

from skillneurons.arguments import build_parser

from making.blocks import table

WIDTH = 88
HELP = argparse._HelpAction


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of every command by name, in the order of ``--help``."""
    return dict(_below(build_parser()))


def parts(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands inside a command (``plugins new``), by name."""
    return dict(_below(parser))


def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield what can be given to a parser and to the commands inside it, ``--help`` left out."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in dict.fromkeys(action.choices.values()):
                yield from options(inner)
        elif _is_shown(action):
            yield action


def command(name: str) -> str:
    """Return the block of one command: what it does, its usage, and every argument and option."""
    return "\n".join(_lines(commands()[name], 2))


def command_index() -> str:
    """Return the table of all commands, each with its page."""
    rows = [(f"[`{name}`]({name}.md)", _text(parser.description)) for name, parser in commands().items()]
    return table(("command", "what it does"), rows)


def exit_codes() -> str:
    """Return what the exit codes mean, as every ``--help`` ends with."""
    title, _, codes = (build_parser().epilog or "").partition(": ")
    rows = [tuple(code.strip().split(" ", 1)) for code in codes.split(";")]
    return table((title.removesuffix("s"), "meaning"), [(f"`{code}`", meaning) for code, meaning in rows])


def new_page(name: str) -> str:
    """Return a page for a command that has none yet."""
    return f"# skillneurons {name}\n\n<!-- generated: command {name} -->\n<!-- end of generated -->\n"


def _below(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _lines(parser: argparse.ArgumentParser, level: int) -> list[str]:
    lines = [_sentence(_text(parser.description)), "", "```text", *_usage(parser), "```"]
    for group in _groups(parser):
        shown = [action for action in group._group_actions if _is_shown(action)]
        named = [one for one in shown if one.option_strings]
        positional = [one for one in shown if not one.option_strings]
        if positional:
            lines += ["", table(("argument", "what it is"), [(_names(one), _told(one)) for one in positional])]
        if named:
            title = "option" if group.title == "options" else f"option ({group.title})"
            lines += ["", table((title, "what it does"), [(_names(one), _told(one)) for one in named])]
    more = (parser.epilog or "").removesuffix(build_parser().epilog or "").rstrip("; ")
    if more:
        lines += ["", _sentence(_text(more))]
    for name, inner in parts(parser).items():
        lines += ["", f"{'#' * level} {name}", "", *_lines(inner, level + 1)]
    return lines


def _groups(parser: argparse.ArgumentParser) -> list[argparse._ArgumentGroup]:
    """Return the groups of arguments as ``--help`` has them: the parser's own, then those with a title."""
    return list(parser._action_groups)


def _is_shown(action: argparse.Action) -> bool:
    return not isinstance(action, (HELP, argparse._SubParsersAction)) and action.help is not argparse.SUPPRESS


def _usage(parser: argparse.ArgumentParser) -> list[str]:
    """Return ``usage: ...`` wrapped between options, never inside one."""
    actions = [action for group in _groups(parser) for action in group._group_actions]
    actions = [one for one in actions if _is_shown(one) or isinstance(one, argparse._SubParsersAction)]
    given = [_given(action) for action in sorted(actions, key=lambda one: not one.option_strings)]
    lines, start = [], f"{parser.prog} "
    for word in given:
        if lines and len(start) + len(lines[-1]) + 1 + len(word) <= WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    text = textwrap.indent("\n".join(lines), " " * len(start)).removeprefix(" " * len(start))
    return (start + text).rstrip().splitlines()


def _given(action: argparse.Action) -> str:
    value = _value(action)
    if not action.option_strings:
        return {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} [{value} ...]"}.get(str(action.nargs), value)
    text = f"{action.option_strings[0]} {value}".rstrip()
    return text if action.required else f"[{text}]"


def _value(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):
        return f"{{{','.join(action.choices)}}} ..."
    if action.nargs == 0:
        return ""
    metavar = action.metavar if isinstance(action.metavar, str) else None
    if metavar is None and action.choices is not None:
        return f"{{{','.join(map(str, action.choices))}}}"
    return metavar or action.dest.upper()


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest.upper()}`"
    value = "" if isinstance(action.choices, Mapping | tuple | list) else _value(action)
    return ", ".join(f"`{f'{name} {value}'.rstrip()}`" for name in action.option_strings)


def _told(action: argparse.Action) -> str:
    """Return the help text, what may be chosen, and whether it must be given or may be given again."""
    told = [_text(action.help)]
    if action.choices is not None and not all(str(one) in told[0] for one in action.choices):
        told.append("one of " + ", ".join(f"`{one}`" for one in action.choices))
    if isinstance(action, argparse._AppendAction) and "again" not in told[0]:
        told.append("may be given again")
    if action.option_strings and action.required:
        told.append("must be given")
    return "; ".join(one for one in told if one)


def _text(text: str | None) -> str:
    """Return a help text with ``%%`` as one sign and nothing that Markdown would take for HTML."""
    return (text or "").replace("%%", "%").replace("<", "&lt;")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text and not text.endswith(".") else text
