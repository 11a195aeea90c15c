"""The command ``skillneurons verify``: verify a stranger's folder, tell what was found, and sign a report of it."""

from __future__ import annotations

import argparse

from skillneurons.command_input import loaded_registry, say


def verify_command(arguments: argparse.Namespace) -> int:
    """Return 0 where nothing was found, 1 where something was; raise UserError where nothing can be verified."""
    from pathlib import Path

    from skillneurons.errors import UserError
    from skillneurons.remade_request import given_options
    from skillneurons.signed_report import FOLDER, new_key, private_key, report_name, write_report
    from skillneurons.verification_text import report_of, verification_json, verification_text
    from skillneurons.verify import Terms, open_submission, verify

    if arguments.new_key is not None:
        print(new_key(Path(arguments.new_key)))
        say(
            [
                f"written: {arguments.new_key} (keep it to yourself), {arguments.new_key}.pub (for a file of trusted keys)"
            ]
        )
        if arguments.dir is None:
            return 0
    if arguments.dir is None:
        raise UserError("verify needs the results folder: skillneurons verify DIR")
    signing = None if arguments.sign is None else Path(arguments.sign)
    if signing is not None:
        private_key(signing)  # before the work
    folder = open_submission(arguments.dir)
    terms = Terms(
        sample=_sample(arguments.sample),
        seed=_seed(arguments.seed),
        device=arguments.device or "auto",
        models=tuple(arguments.model),
        given=given_options(arguments.set),
        retune=arguments.retune,
    )
    found = verify(folder, loaded_registry(arguments), terms, say=lambda line: say([line]))
    print(folder.told((verification_json if arguments.json else verification_text)(found)))
    if arguments.report is not None or signing is not None:
        report = report_of(found)
        path = Path(arguments.report) if arguments.report is not None else folder.root / FOLDER / report_name(report)
        if arguments.report is None and path.parent.is_symlink():
            raise UserError(f"{path.parent} is a symbolic link, and none is followed; give --report FILE")
        write_report(path, report, signing)
        if arguments.report is None:
            folder.publish(path)
        say([f"written: {folder.told(str(path))}{' (signed)' if signing is not None else ''}"])
    return 0 if found.accepted else 1


def _sample(text: str) -> int:
    from skillneurons.errors import UserError
    from skillneurons.verify import ALL

    if text == "all":
        return ALL
    if not text.isdecimal():
        raise UserError(f"--sample {text}: it must be a number of cells, 0 for none, or all")
    return int(text)


def _seed(seed: int | None) -> int:
    """Return the seed that was given, or one that nobody can know before: who sends results in must not know what is drawn."""
    import secrets

    return secrets.randbelow(1 << 31) if seed is None else seed
