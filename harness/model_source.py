"""Where a model comes from and which revision it is, told without torch.

A model is ``pocket`` or ``pocket-small`` (embedded), a folder saved by ``save_pretrained``, or a hub id. The resolved
revision of a folder is a hash over its configuration, weights and tokenizer; a hub id's is the commit.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from skillneurons.errors import ModelError

POCKET = "pocket"
SMALL = "pocket-small"
EMBEDDED = (POCKET, SMALL)
INSTRUCTED = re.compile(r"chat|instruct|(^|[-_])it($|[-_])", re.IGNORECASE)


def pocket_folder(name: str = POCKET) -> Path:
    """Return the folder of an embedded model."""
    folder = Path(__file__).parent / "pocket"
    return folder / "small" if name == SMALL else folder


def no_folder(name: str) -> str:
    """Return what is wrong with a name that only a folder can have where there is none, or nothing."""
    if (name.startswith((".", "/", "~")) or name.count("/") > 1) and not Path(name).is_dir():
        return f"model {name!r}: no such folder; give a folder saved by save_pretrained, a hub id, 'pocket' or 'pocket-small'"
    return ""


def model_fault(name: str) -> str:
    """Return what is wrong with a model's name, or with the folder of that name, or nothing."""
    folder = Path(name)
    if name in EMBEDDED or not folder.is_dir():
        return no_folder(name)
    try:
        _check_folder(name, folder)
    except ModelError as error:
        return str(error)
    return ""


def resolve_model(name: str, revision: str | None = None) -> tuple[str, str]:
    """Return (where to load from, resolved revision) of a model name, without loading torch weights.

    A folder's revision is the hash of its content; a hub id's is the commit it points to.
    """
    folder = pocket_folder(name) if name in EMBEDDED else Path(name)
    if folder.is_dir():
        _check_folder(name, folder)
        return str(folder), "sha256:" + _folder_hash(folder)
    if fault := no_folder(name):
        raise ModelError(fault)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        snapshot = snapshot_download(name, revision=revision, allow_patterns=["config.json"])
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(
            f"model {name!r}: no such folder, and the hub gives no model of that id"
            f"{f' at revision {revision!r}' if revision else ''} ({type(error).__name__}); "
            "known without a hub: 'pocket', 'pocket-small', or a folder saved by save_pretrained"
        ) from error
    return name, Path(snapshot).name


def model_files(name: str, revision: str) -> Path:
    """Return the folder of the files of a resolved model that are here: all of an embedded one or of a folder, of a hub id
    at least its ``config.json``.
    """
    folder = pocket_folder(name) if name in EMBEDDED else Path(name)
    if folder.is_dir():
        return folder
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(found, str):
        raise ModelError(f"model {name!r}: its config.json is not in the local cache; load it once, or name a folder")
    return Path(found).parent


def is_instructed(name: str) -> bool:
    """Tell whether a model's name says that it was tuned on instructions."""
    return bool(INSTRUCTED.search(Path(name).name))


def _check_folder(name: str, folder: Path) -> None:
    files = {path.name for path in folder.iterdir()}
    if "config.json" not in files:
        raise ModelError(f"model {name!r}: the folder has no config.json; save the model there with save_pretrained")
    if not any(file.endswith(".safetensors") for file in files):
        pickled = [file for file in sorted(files) if file.endswith((".bin", ".pt", ".pth"))]
        found = f" (found {pickled[0]}, but pickled weights are never loaded)" if pickled else ""
        raise ModelError(f"model {name!r}: the folder has no *.safetensors weights{found}; save_pretrained writes them")
    if not files & {"tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json"}:
        raise ModelError(f"model {name!r}: the folder has no tokenizer; save it there with tokenizer.save_pretrained")


def _folder_hash(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".model"))
    stats = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _content_hash(stats)


@lru_cache(maxsize=64)
def _content_hash(stats: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, _, _ in stats:
        path = Path(name)
        if path.name == "training.json":
            continue  # the record of a training, not part of the model
        with path.open("rb") as stream:
            digest.update(path.name.encode() + b"\0" + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:40]
