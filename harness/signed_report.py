"""Reports of verifications as files: what is signed, who signed it, and which cells a trusted report stands for.

A file holds ``{"report": ..., "signature": {"public_key", "signature"} | null}``. Signed (Ed25519) are the bytes ``PREFIX`` and the canonical
JSON of the report; keys are those of OpenSSH (``ssh-keygen -t ed25519``), private ones also PEM. A report lists every file of a cell by
its SHA-256, so it stands for nothing that was changed since.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillneurons.atomic import make_folder, write_atomic
from skillneurons.errors import ResultsError, UserError
from skillneurons.results import canonical_json

SCHEMA_VERSION = 1
FOLDER = "verification"
PREFIX = b"skillneurons verification report 1\n"
GOOD = ("consistent", "recomputed")
PASS_FILES = ("examples.parquet", "heldout.safetensors", "neurons.safetensors", "scores.safetensors")
PROMPT_FILES = ("adapter_config.json", "adapter_model.safetensors", "history.json", "placement.json")
LARGEST = 1 << 26  # bytes of a report
_KIND = "ssh-ed25519"


def cell_files(key: str, prompt: str | None) -> list[str]:
    """Return the files that a cell's figures are made from and shown with, as they are called in its folder."""
    files = [f"cells/{key}.json", f"cells/{key}.run.json", f"cards/{key}.json"]
    files += [f"passes/{key}/{name}" for name in PASS_FILES]
    return files + [f"prompts/{prompt}/{name}" for name in PROMPT_FILES if prompt is not None]


def across_file(key: str) -> str:
    """Return the file of a comparison across tasks by its key."""
    return f"across/{key}.json"


def hashes_of(files: Iterable[str], fetch: Callable[[str], bytes | None]) -> dict[str, str]:
    """Return the SHA-256 of the files that are there."""
    found = {name: fetch(name) for name in files}
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(found.items()) if data is not None}


def signed_bytes(report: Mapping[str, Any]) -> bytes:
    """Return the bytes that a signature is over."""
    return PREFIX + canonical_json(report).encode("ascii")


def report_name(report: Mapping[str, Any]) -> str:
    """Return the file name of a report, which follows from its content."""
    return f"report-{hashlib.sha256(signed_bytes(report)).hexdigest()[:16]}.json"


def write_report(path: Path, report: Mapping[str, Any], key_file: Path | None = None) -> None:
    """Write a report, signed where a private key is given."""
    signature = sign(report, key_file) if key_file is not None else None
    content = {"report": json.loads(canonical_json(report)), "signature": signature}
    make_folder(path.parent)
    write_atomic(path, f"{json.dumps(content, sort_keys=True, indent=2, allow_nan=False)}\n".encode("ascii"))


def sign(report: Mapping[str, Any], key_file: Path) -> dict[str, str]:
    """Return the signature of a report by the private key in a file."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = private_key(key_file)
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
    return {"public_key": public, "signature": base64.b64encode(key.sign(signed_bytes(report))).decode("ascii")}


def private_key(path: Path) -> Any:
    """Return the Ed25519 private key of a file; raise UserError where there is none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    try:
        data = path.read_bytes()
        load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else load_pem_private_key
        key = load(data, None)
    except OSError as error:
        raise UserError(f"--sign {path}: cannot be read ({error.strerror}); {_REMEDY}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError(f"--sign {path}: no private key without a passphrase ({error}); {_REMEDY}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"--sign {path}: it is no Ed25519 key; {_REMEDY}")
    return key


_REMEDY = "make one with: ssh-keygen -t ed25519 -N '' -f FILE, or skillneurons verify --new-key FILE"


def new_key(path: Path) -> str:
    """Write a new private key that only its owner may read, and ``PATH.pub`` beside it; return the public line."""
    import os

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(opened, "wb") as file:  # noqa: PTH123 - a descriptor that nobody else may read
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    except OSError as error:
        raise UserError(f"--new-key {path}: {(error.strerror or str(error)).lower()}; give a new file") from error
    write_atomic(path.with_name(f"{path.name}.pub"), f"{public}\n".encode("ascii"))
    return public


def read_trusted(path: Path) -> frozenset[str]:
    """Return the public keys of a file, one OpenSSH line each; empty lines and those that begin with # are passed over."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--trust {path}: cannot be read ({error}); give a file of public keys, one a line") from error
    keys = set()
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        if len(parts) < 2 or _public_key(" ".join(parts[:2])) is None:
            raise UserError(
                f"--trust {path}:{number}: it is no Ed25519 public key; write a line such as `{_KIND} AAAA... NAME`"
            )
        keys.add(parts[1])
    return frozenset(keys)


def _public_key(text: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    try:
        key = load_ssh_public_key(text.encode("utf-8"))
    except (ValueError, UnsupportedAlgorithm, binascii.Error):
        return None
    return key if isinstance(key, Ed25519PublicKey) else None


@dataclass(frozen=True, slots=True)
class TrustedReport:
    """What a trusted key signed: by key, the files with their hashes of the cells that nothing was found about, and of those
    that something was ``found`` about; ``across`` are the hashes of comparisons across tasks.
    """

    cells: Mapping[str, Mapping[str, str]]
    found: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    across: Mapping[str, str] = field(default_factory=dict)


def parse_report(data: bytes, trusted: frozenset[str]) -> tuple[TrustedReport | None, str]:
    """Return what a file says that a trusted key signed, or None and why it stands for nothing."""
    try:
        return _accepted(_checked(data, trusted)), ""
    except ResultsError as error:
        return None, str(error)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return None, f"it is no report ({type(error).__name__})"


def _checked(data: bytes, trusted: frozenset[str]) -> Mapping[str, Any]:
    """Return the report of a file; raise ResultsError where no trusted key signed it."""
    from cryptography.exceptions import InvalidSignature

    if len(data) > LARGEST:
        raise ResultsError(f"it has {len(data)} bytes: no report is that large")
    content = json.loads(data)
    report: Mapping[str, Any] = content["report"]
    signature = content["signature"]
    if report["schema_version"] != SCHEMA_VERSION:
        raise ResultsError("it was written by another version of skillneurons")
    if signature is None:
        raise ResultsError("it is not signed")
    public, signed = str(signature["public_key"]), base64.b64decode(signature["signature"], validate=True)
    key = _public_key(public)
    if key is None or public.split()[1] not in trusted:
        raise ResultsError("it is signed by a key that is not trusted here")
    try:
        key.verify(signed, signed_bytes(report))
    except InvalidSignature as error:
        raise ResultsError("its signature is not that of its content: it was changed after it was signed") from error
    return report


def _accepted(report: Mapping[str, Any]) -> TrustedReport:
    """Return the cells of which nothing was found."""
    findings = [list(one["cells"]) for one in report["findings"]]
    if not all(findings):
        raise ResultsError("something was found that concerns the whole folder")
    about = {key for cells in findings for key in cells}
    files = {key: dict(one["files"]) for key, one in report["cells"].items()}
    good = {key for key, one in report["cells"].items() if one["verdict"] in GOOD and key not in about}
    return TrustedReport(
        {key: one for key, one in files.items() if key in good},
        {key: one for key, one in files.items() if key in about},
        {str(key): str(digest) for key, digest in report["across"].items()},
    )
