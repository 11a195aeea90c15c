"""The grader ``api``: any OpenAI-compatible endpoint, asked for all points of a text in one JSON object.

The key comes from the environment (``api_key_env`` names the variable) and is never logged or saved. Timeouts,
lost connections, 429 and 5xx are tried again with a doubling wait (or what Retry-After says); every answer is
cached by a hash of its request, so no grading is paid for twice, and what was graded before a failure stays.
An answer that does not parse is asked for again (``regrade`` times), then its items are NaN, never 0.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
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


class Endpoint:
    """A chat endpoint with its retries and its cache; connected when it is first asked."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
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
            self.client = openai.OpenAI(
                api_key=key, base_url=self.options["base_url"], timeout=self.options["timeout"], max_retries=0
            )
        return self.client

    def ask(self, messages: list[dict[str, str]], grading: int, attempt: int) -> str:
        """Return the answer to a request, from the cache where it was asked before."""
        sent = {
            "model": self.options["model"],
            "messages": messages,
            "temperature": self.options["temperature"],
            "max_tokens": self.options["max_tokens"],
        }
        client = self.connect()
        request = {**sent, "base_url": str(client.base_url), "grading": grading, "attempt": attempt}
        known = self.cache.get(request)
        if known is not None:
            return known
        answer = self._request(client, sent)
        self.cache.put(request, answer)
        return answer

    def _request(self, client: Any, sent: Mapping[str, Any]) -> str:
        import openai

        where = f"grader 'api': {client.base_url} (model {sent['model']!r})"
        tries = self.options["retries"] + 1
        wait = self.options["backoff"]
        for number in range(1, tries + 1):
            try:
                choices = getattr(client.chat.completions.create(**sent), "choices", None)
                if not isinstance(choices, list):
                    raise ValueError("no choices in its answer")
                return str((choices[0].message.content if choices else None) or "")
            except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
                if number == tries:
                    raise sn.CellError(
                        f"{where} gave no answer in {tries} tries; the last: {_said(error)}. What was graded is kept: "
                        "run again when the endpoint answers"
                    ) from error
                time.sleep(min(LONGEST_WAIT, _retry_after(error, wait)))
                wait *= 2
            except openai.APIStatusError as error:
                raise sn.UserError(
                    f"{where} refuses the request: {_said(error)}; check address, model and key"
                ) from error
            except (ValueError, openai.APIError) as error:  # not JSON, or not of the promised form
                raise sn.UserError(
                    f"{where} does not answer as an OpenAI-compatible chat endpoint ({error}); check the address"
                ) from error
        raise AssertionError("unreachable")  # the last try returned or raised


def _said(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    return f"{type(error).__name__}{f' (HTTP {status})' if status else ''}"


def _retry_after(error: Exception, wait: float) -> float:
    """Return the seconds that the server asks to wait, else ``wait``."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        asked = float(headers.get("retry-after", ""))
    except ValueError:  # absent, or a date
        return wait
    return max(wait, asked) if math.isfinite(asked) else wait


def parse_points(answer: str, items: Mapping[str, str]) -> dict[str, float] | None:
    """Return the points of the one JSON object in an answer; None where it is not exactly the items, each 0 or 1."""
    start, end = answer.find("{"), answer.rfind("}")
    try:
        found = json.loads(answer[start : end + 1]) if 0 <= start < end else None
    except json.JSONDecodeError:
        return None
    if not isinstance(found, dict) or set(found) != set(items):
        return None
    if not all(isinstance(point, bool | int | float) and point in (0, 1) for point in found.values()):
        return None
    return {item: float(found[item]) for item in items}


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


@sn.hookimpl
def register_graders(register: Any) -> None:
    register(sn.Grader("api", make, options=OPTIONS, description="an OpenAI-compatible endpoint, cached"))
