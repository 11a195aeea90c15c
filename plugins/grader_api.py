"""The grader ``api``: any OpenAI-compatible endpoint, asked for all points of a text in one JSON object.

The key comes from the environment (``api_key_env`` names the variable) and is never logged or saved. Timeouts,
lost connections, 408, 409, 425, 429 and 5xx are tried again with a doubling wait (or what Retry-After says, up to a
minute; the package's own retry cannot be told how long to wait). Every answer is cached by a hash of its request,
so no grading is paid for twice, and what was graded before a failure stays; a cached grading needs no key.
An answer that does not parse is asked for again (``regrade`` times), then its items are NaN, never 0.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import skillneurons as sn
from skillneurons.plugins.grading_cache import GradingCache
from skillneurons.plugins.grading_prompt import SYSTEM, all_questions

OPTIONS: dict[str, Any] = {
    "model": None,
    "base_url": None,
    "api_key_env": "OPENAI_API_KEY",
    "temperature": 0.0,
    "max_tokens": 256,
    "timeout": 60.0,
    "retries": 5,
    "backoff": 1.0,
    "regrade": 2,
    "cache": "runs/gradings",
}
LONGEST_WAIT = 60.0
PACKAGE_URL = "https://api.openai.com/v1"  # where the package goes by default
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
BUSY = (408, 409, 425, 429)
TO_MEND = (401, 403, 404)  # the same for every text; another 4xx is about this request


class Endpoint:
    """A chat endpoint with its retries and its cache; connected when it is first asked."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.base_url = str(options["base_url"] or os.environ.get("OPENAI_BASE_URL") or PACKAGE_URL).rstrip("/")
        self.cache = GradingCache(options["cache"])
        self.client: Any = None

    def connect(self) -> Any:
        """Return the client; UserError where the package or the key is missing."""
        if self.client is None:
            try:
                import openai
            except ImportError as error:
                raise sn.UserError("grader 'api' needs the package openai: pip install 'skillneurons[api]'") from error
            name = self.options["api_key_env"]
            key = os.environ.get(name)
            if not key:
                raise sn.UserError(
                    f"grader 'api': the environment variable {name} holds no key; set it (any text will do for a "
                    "server that asks for none), or name another one with the option api_key_env"
                )
            if not key.isascii() or not key.isprintable() or " " in key:
                raise sn.UserError(
                    f"grader 'api': the key in the environment variable {name} has white space or characters outside "
                    "ASCII, which no server takes; set it anew"
                )
            self.client = openai.OpenAI(
                api_key=key, base_url=self.base_url, timeout=self.options["timeout"], max_retries=0
            )
        return self.client

    def ask(self, messages: list[dict[str, str]], grading: int, attempt: int) -> str:
        """Return the answer to a request, from the cache where it was asked before."""
        sent = {
            "model": self.options["model"],
            "messages": messages,
            "temperature": float(self.options["temperature"]),  # 0 and 0.0 are one request
            "max_tokens": self.options["max_tokens"],
        }
        request = {**sent, "base_url": self.base_url, "grading": grading, "attempt": attempt}
        known = self.cache.get(request)
        if known is not None:
            return known
        answer = self._request(self.connect(), sent)
        self.cache.put(request, answer)
        return answer

    def _request(self, client: Any, sent: Mapping[str, Any]) -> str:
        import openai

        where = f"grader 'api': {self.base_url} (model {sent['model']!r})"
        tries = self.options["retries"] + 1
        wait = self.options["backoff"]
        for number in range(1, tries + 1):
            try:
                return _content(client.chat.completions.create(**sent))
            except (openai.APIConnectionError, openai.APIStatusError) as error:
                status = getattr(error, "status_code", 0)
                said = _said(error, client.api_key)
                if status in TO_MEND:
                    raise sn.UserError(f"{where} refuses the request: {said}; check address, model and key") from error
                if status and status not in BUSY and status < 500:
                    raise sn.CellError(f"{where} refuses the request: {said}. What was graded is kept") from error
                if number == tries:
                    raise sn.CellError(
                        f"{where} gave no answer in {tries} tries; the last: {said}. What was graded is kept: "
                        "run again when the endpoint answers"
                    ) from error
                time.sleep(min(LONGEST_WAIT, _retry_after(error, wait)))
                wait *= 2
            except (ValueError, openai.APIError) as error:  # not JSON, or not of the promised form
                raise sn.UserError(
                    f"{where} does not answer as an OpenAI-compatible chat endpoint ({error}); check the address"
                ) from error
        raise AssertionError("unreachable")  # the last try returned or raised


def _content(completion: Any) -> str:
    """Return the text of a completion, empty where it has none; ValueError where it is no completion."""
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list):
        raise ValueError("no choices in its answer")
    if choices and getattr(choices[0], "message", None) is None:
        raise ValueError("no message in its answer")
    content = choices[0].message.content if choices else None
    return content if isinstance(content, str) else ""


def _said(error: Exception, key: str) -> str:
    """Return what happened in a line, with the server's own words, but never a part of the key."""
    status, body = getattr(error, "status_code", None), getattr(error, "body", None)
    what = f"{type(error).__name__}{f' (HTTP {status})' if status else ''}"
    words = body.get("message") if isinstance(body, Mapping) else None
    if not isinstance(words, str) or status in (401, 403):  # these may repeat the key, masked or not
        return what
    return f"{what}: {json.dumps(' '.join(words.replace(key, '***').split())[:200], ensure_ascii=False)}"


def _retry_after(error: Exception, wait: float) -> float:
    """Return the seconds that the server asks to wait, else ``wait``."""
    header = getattr(getattr(error, "response", None), "headers", {}).get("retry-after", "")
    try:
        asked = float(header)
    except ValueError:
        try:
            asked = parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:  # absent, or neither seconds nor a date
            return wait
    return max(wait, asked) if math.isfinite(asked) else wait


def parse_points(answer: str, items: Mapping[str, str]) -> dict[str, float] | None:
    """Return the points of the one JSON object in an answer; None where it is not exactly the items, each 0 or 1."""
    objects = _objects(answer)
    if len(objects) != 1 or set(objects[0]) != set(items):
        return None
    found = objects[0]
    if not all(isinstance(point, bool | int | float) and point in (0, 1) for point in found.values()):
        return None
    return {item: float(found[item]) for item in items}


def _objects(answer: str) -> list[dict[str, Any]]:
    """Return the JSON objects in a text, in their order; braces that open none are text."""
    decoder = json.JSONDecoder(object_pairs_hook=_named_once)
    found, start = [], answer.find("{")
    while start >= 0:
        try:
            one, end = decoder.raw_decode(answer, start)
            found.append(one)
        except (ValueError, RecursionError):  # no JSON, a number without end, or nested without end
            end = start + 1
        start = answer.find("{", end)
    return found


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def make(**options: Any) -> Callable[[sn.Example, str, Mapping[str, str], int], dict[str, float]]:
    """Return the function that grades; nothing is asked before the first text."""
    _check(options)
    endpoint = Endpoint(options)

    def grade(example: sn.Example, text: str, rubric: Mapping[str, str], grading: int) -> dict[str, float]:
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": all_questions(example, text, rubric)},
        ]
        for attempt in range(options["regrade"] + 1):
            points = parse_points(endpoint.ask(messages, grading, attempt), rubric)
            if points is not None:
                return points
        return dict.fromkeys(rubric, math.nan)

    return grade


def _check(options: Mapping[str, Any]) -> None:
    _check_places(options)
    if not isinstance(options["model"], str) or not options["model"]:
        raise sn.UserError(
            "grader 'api' needs the option model, the name that the endpoint knows "
            "(tasks.skillmix.grader_options: {model: ..., base_url: ...})"
        )
    for name in ("retries", "regrade", "max_tokens"):
        value = options[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < (name == "max_tokens"):
            raise sn.UserError(
                f"grader 'api': {name} {value!r} must be a whole number of at least {int(name == 'max_tokens')}"
            )
    for name in ("timeout", "backoff", "temperature"):
        value = options[name]
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
            raise sn.UserError(f"grader 'api': {name} {value!r} must be a number of at least 0")
    if options["timeout"] == 0:
        raise sn.UserError("grader 'api': timeout 0 leaves no time to answer; give the seconds to wait")


def _check_places(options: Mapping[str, Any]) -> None:
    name, url, cache = options["api_key_env"], options["base_url"], options["cache"]
    if not isinstance(name, str) or not VARIABLE.fullmatch(name):  # not repeated: it may be the key itself
        raise sn.UserError(
            "grader 'api': api_key_env must be the name of an environment variable (such as OPENAI_API_KEY) that holds "
            "the key, never the key itself"
        )
    if url is not None and (not isinstance(url, str) or not url.startswith(("http://", "https://"))):
        raise sn.UserError(f"grader 'api': base_url {url!r} must begin with http:// or https://")
    if cache is not None and (not isinstance(cache, str) or not cache):
        raise sn.UserError(f"grader 'api': cache {cache!r} must be a folder, or null for none")


def identity(*, base_url: str | None, **options: Any) -> dict[str, str]:
    """Return the address that is asked, which the environment may give (OPENAI_BASE_URL)."""
    return {"base_url": base_url or os.environ.get("OPENAI_BASE_URL", "")}


@sn.hookimpl
def register_graders(register: Any) -> None:
    register(
        sn.Grader("api", make, options=OPTIONS, description="an OpenAI-compatible endpoint, cached", identity=identity)
    )
