"""The URL of a place in a store: whether it is one, and the driver that opens it.

Options of a driver (endpoint, profile, anonymous) come from the user's environment and fsspec's own configuration, never from a config of ours.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skillneurons.errors import UserError
from skillneurons.store_errors import S3, store_error, without_password

URL = "://"
CONNECT, READ = 5, 30  # s, until a server that says nothing is given up
_EXTRAS = {"s3fs": "'skillneurons[s3]'"}


def is_url(place: object) -> bool:
    """Whether a place is a URL, not a path on this disk."""
    return URL in str(place)


def path_of(place: str | Path) -> Path | None:
    """Return the path of a place that is on this disk (``file://`` is, too); None for a URL of another store."""
    text = str(place)
    if isinstance(place, Path) or not is_url(text):
        return Path(place)
    return Path(text.partition(URL)[2]) if text.lower().startswith(("file://", "local://")) else None


def opened(url: str, first: str) -> tuple[Any, str]:
    """Return the driver of a URL, whose ``first`` protocol is this, and the place in it; raise UserError where there is none."""
    import fsspec  # type: ignore[import-untyped]

    shown = without_password(url)
    known = {*fsspec.available_protocols(), *fsspec.registry}
    for name in (part.partition(URL)[0] for part in url.split("::")):
        if name.lower() not in known:
            near = difflib.get_close_matches(name.lower(), sorted(known), n=1)
            told = f"no protocol named {name!r} is known" + (f" (did you mean {near[0]!r}?)" if near else "")
            raise UserError(f"cannot open {shown}: {told}; give a folder, or a URL as in s3://bucket/run")
    options: dict[str, Any] = {"use_listings_cache": False}
    if first in S3:
        options |= _s3_options(fsspec.config.conf.get("s3", {}))
    try:
        system, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        raise UserError(
            f"cannot open {shown}: the package {_package(first, error)} is not installed; "
            f"install it with: pip install {_EXTRAS.get(_package(first, error), _package(first, error))}"
        ) from error
    except Exception as error:
        raise store_error("open", shown, error, first, "") from error
    if first in S3:
        system.retries = 1  # its own, on top of which ours would take minutes
    return system, str(root).rstrip("/")


def _s3_options(configured: Mapping[str, Any]) -> dict[str, Any]:
    """Return how long a server is waited for, and what the user's configuration of fsspec says instead.

    A file is asked for at once, not for its size first: that halves the requests, and large files come in one piece, of one version.
    """
    ours = {"connect_timeout": CONNECT, "read_timeout": READ, "retries": {"mode": "standard", "total_max_attempts": 1}}
    return {
        "config_kwargs": {**ours, **configured.get("config_kwargs", {})},
        "max_concurrency": configured.get("max_concurrency", 1),
    }


def _package(protocol: str, error: ImportError) -> str:
    """Return the package whose absence keeps a protocol from being used."""
    known = importlib.import_module("fsspec.registry").known_implementations  # fsspec.registry itself is a mapping
    package = str(known.get(protocol, {}).get("class", "")).partition(".")[0]
    if package in ("", "fsspec") or importlib.util.find_spec(package) is not None:
        return error.name or package or protocol
    return package
