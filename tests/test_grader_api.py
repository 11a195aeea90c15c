"""The grader ``api`` against a real server around a real small model, and against one that misbehaves."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import skillneurons as sn
from api_servers import answer, free_port, scripted, transformers_serve
from conftest import build_model
from skillneurons.plugins.grader_api import LONGEST_WAIT, _retry_after, parse_points
from skillneurons.plugins.grading_cache import GradingCache
from skillneurons.plugins.grading_prompt import SYSTEM, all_questions

pytest.importorskip("openai", reason="the grader api needs the package openai")

EXAMPLE = sn.Example("e1", "Write about knots.", "t")
RUBRIC = {"metaphor": "Does it show a metaphor?", "topic": "Is it on knots?"}
GOOD = '{"metaphor": 1, "topic": 0}'


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")


def api(url: str, cache: Path | None, **options: Any) -> Callable[..., dict[str, float]]:
    grader = sn.get_grader("api")
    given = {"model": "m", "base_url": url, "cache": str(cache) if cache else None, "backoff": 0.01}
    return grader.make(**{**grader.options, **given, **options})  # type: ignore[return-value]


def test_points_are_asked_once_and_kept(tmp_path: Path) -> None:
    with scripted(lambda number, request: answer(GOOD)) as (url, asked):
        for _ in range(2):  # a second grader object reads the same folder
            grade = api(url, tmp_path / "cache")
            assert grade(EXAMPLE, "A rope is time.", RUBRIC, 0) == {"metaphor": 1.0, "topic": 0.0}
        assert len(asked) == 1
        grade(EXAMPLE, "A rope is time.", RUBRIC, 1)  # another grading
        grade(EXAMPLE, "Another text.", RUBRIC, 0)
        assert len(asked) == 3
    first = asked[0]
    assert (first["model"], first["temperature"], first["max_tokens"]) == ("m", 0.0, 256)
    assert first["path"] == "/v1/chat/completions" and first["authorization"] == "Bearer secret-key"
    assert [m["content"] for m in first["messages"]] == [SYSTEM, all_questions(EXAMPLE, "A rope is time.", RUBRIC)]
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 3 and all(file.suffix == ".json" for file in files)
    assert not any("secret" in file.read_text() for file in files)


@pytest.mark.parametrize(
    ("text", "points"),
    [
        (GOOD, {"metaphor": 1.0, "topic": 0.0}),
        ('Sure!\n```json\n{"topic": true, "metaphor": false}\n```', {"metaphor": 0.0, "topic": 1.0}),
        ("Each {item} is worth a point: " + GOOD, {"metaphor": 1.0, "topic": 0.0}),
        ('<think>{"item": 0 or 1}?</think>' + GOOD + " {done}", {"metaphor": 1.0, "topic": 0.0}),
        ('{"metaphor": 1, "metaphor": 0, "topic": 0}', None),
        ('{"points": ' + GOOD + "}", None),
        ('{"metaphor": ' + "1" * 5000 + ', "topic": 0}', None),
        ('{"a":' * 3000 + "}", None),
        ("I like it.", None),
        ("", None),
        ('{"metaphor": 1}', None),
        ('{"metaphor": 1, "topic": 0, "sense": 1}', None),
        ('{"metaphor": 1, "topic": 0.5}', None),
        ('{"metaphor": 1, "topic": "yes"}', None),
        ('{"metaphor": 1, "topic": null}', None),
        ('{"metaphor": 1, "topic": 0} or {"metaphor": 0, "topic": 0}', None),
        ("[1, 0]", None),
    ],
)
def test_parsing_is_strict(text: str, points: dict[str, float] | None) -> None:
    assert parse_points(text, RUBRIC) == points


def test_nonsense_is_graded_again_and_then_nan(tmp_path: Path) -> None:
    with scripted(lambda number, request: answer("Lovely text!" if number < 3 else GOOD)) as (url, asked):
        assert api(url, tmp_path)(EXAMPLE, "x", RUBRIC, 0)["metaphor"] == 1.0
        assert len(asked) == 3
    with scripted(lambda number, request: answer("Lovely text!")) as (url, asked):
        for _ in range(2):
            points = api(url, tmp_path, regrade=1)(EXAMPLE, "x", RUBRIC, 0)
            assert list(points) == ["metaphor", "topic"] and all(math.isnan(value) for value in points.values())
        assert len(asked) == 2  # the unusable answers are kept too: not paid for twice


def test_a_busy_server_is_waited_for(tmp_path: Path) -> None:
    def reply(number: int, request: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        return {1: (429, {"Retry-After": "0.3"}, "{}"), 2: (503, {}, "down"), 3: (500, {}, "")}.get(
            number, answer(GOOD)
        )

    with scripted(reply) as (url, asked):
        started = time.monotonic()
        assert api(url, tmp_path)(EXAMPLE, "x", RUBRIC, 0)["metaphor"] == 1.0
        assert len(asked) == 4 and time.monotonic() - started > 0.3


def test_a_server_that_stays_busy_is_named_and_what_was_graded_stays(tmp_path: Path) -> None:
    with scripted(lambda number, request: answer(GOOD) if number == 1 else (429, {}, "{}")) as (url, asked):
        grade = api(url, tmp_path, retries=2)
        grade(EXAMPLE, "first", RUBRIC, 0)
        with pytest.raises(sn.CellError) as error:
            grade(EXAMPLE, "second", RUBRIC, 0)
        assert str(error.value) == (
            f"grader 'api': {url} (model 'm') gave no answer in 3 tries; the last: RateLimitError (HTTP 429). "
            "What was graded is kept: run again when the endpoint answers"
        )
        assert len(asked) == 4
        assert grade(EXAMPLE, "first", RUBRIC, 0)["metaphor"] == 1.0 and len(asked) == 4


def test_a_server_that_never_answers_times_out(tmp_path: Path) -> None:
    def reply(number: int, request: dict[str, Any]) -> tuple[int, dict[str, str], str]:
        time.sleep(0.6)
        return answer(GOOD)

    with scripted(reply) as (url, _), pytest.raises(sn.CellError, match=r"in 2 tries; the last: APITimeoutError\."):
        api(url, tmp_path, retries=1, timeout=0.1)(EXAMPLE, "x", RUBRIC, 0)


def test_an_endpoint_that_is_down_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(sn.CellError) as error:
        api(url, tmp_path, retries=0)(EXAMPLE, "x", RUBRIC, 0)
    assert f"{url} (model 'm') gave no answer in 1 tries; the last: APIConnectionError." in str(error.value)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((401, {}, "{}"), "refuses the request: AuthenticationError (HTTP 401); check address, model and key"),
        ((404, {}, "{}"), "refuses the request: NotFoundError (HTTP 404); check address, model and key"),
        (
            (200, {"Content-Type": "text/html"}, "<html>hi</html>"),
            "does not answer as an OpenAI-compatible chat endpoint",
        ),
        ((200, {"Content-Type": "application/json"}, '{"error": 3}'), "does not answer as an OpenAI-compatible chat"),
        (
            (200, {"Content-Type": "application/json"}, '{"choices": [{}]}'),
            "does not answer as an OpenAI-compatible chat endpoint (no message in its answer); check the address",
        ),
        ((200, {"Content-Type": "application/json"}, "{nonsense"), "does not answer as an OpenAI-compatible chat"),
    ],
)
def test_what_the_user_must_mend(tmp_path: Path, reply: tuple[int, dict[str, str], str], message: str) -> None:
    with scripted(lambda number, request: reply) as (url, asked):
        with pytest.raises(sn.UserError) as error:
            api(url, tmp_path)(EXAMPLE, "x", RUBRIC, 0)
        assert message in str(error.value) and url in str(error.value) and len(asked) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": None}, "grader 'api' needs the option model, the name that the endpoint knows"),
        ({"retries": -1}, "grader 'api': retries -1 must be a whole number of at least 0"),
        ({"max_tokens": 0}, "grader 'api': max_tokens 0 must be a whole number of at least 1"),
        ({"timeout": "long"}, "grader 'api': timeout 'long' must be a number of at least 0"),
        ({"timeout": 0}, "grader 'api': timeout 0 leaves no time to answer; give the seconds to wait"),
        ({"base_url": "localhost:8000"}, "grader 'api': base_url 'localhost:8000' must begin with http:// or https://"),
        ({"cache": False}, "grader 'api': cache False must be a folder, or null for none"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    grader = sn.get_grader("api")
    with pytest.raises(sn.UserError) as error:
        grader.make(**{**grader.options, "model": "m", **options})
    assert str(error.value).startswith(message)


def test_what_another_request_may_not_meet_ends_the_cell_alone(tmp_path: Path) -> None:
    """A text that the endpoint refuses (too long, filtered) is no fault of the set-up; its words are passed on."""
    words = json.dumps({"error": {"message": "This text\nis too long; your key: secret-key", "type": "x"}})
    with scripted(lambda number, request: (400, {"Content-Type": "application/json"}, words)) as (url, asked):
        with pytest.raises(sn.CellError) as error:
            api(url, tmp_path)(EXAMPLE, "x", RUBRIC, 0)
        assert str(error.value) == (
            f"grader 'api': {url} (model 'm') refuses the request: BadRequestError (HTTP 400): "
            '"This text is too long; your key: ***". What was graded is kept'
        )
        assert len(asked) == 1


@pytest.mark.parametrize("status", [408, 409, 425, 502])
def test_a_passing_fault_is_tried_again(tmp_path: Path, status: int) -> None:
    with scripted(lambda number, request: (status, {}, "{}") if number == 1 else answer(GOOD)) as (url, asked):
        assert api(url, tmp_path)(EXAMPLE, "x", RUBRIC, 0)["metaphor"] == 1.0
        assert len(asked) == 2


def test_the_wait_that_the_server_asks_for() -> None:
    class Refused(Exception):
        def __init__(self, header: str | None) -> None:
            self.response = type("Response", (), {"headers": {} if header is None else {"retry-after": header}})()

    waits = {None: 1.0, "7": 7.0, "0.2": 1.0, "-5": 1.0, "nan": 1.0, "inf": 1.0, "soon": 1.0}
    assert {header: _retry_after(Refused(header), 1.0) for header in waits} == waits
    assert 28 < _retry_after(Refused(formatdate(time.time() + 30, usegmt=True)), 1.0) <= 30
    assert _retry_after(Refused(formatdate(time.time() - 30, usegmt=True)), 1.0) == 1.0
    assert LONGEST_WAIT == 60.0


def test_waits_double_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("skillneurons.plugins.grader_api.time.sleep", waits.append)
    replies = {3: (429, {"Retry-After": "7"}, "{}"), 4: (429, {"Retry-After": "3600"}, "{}")}
    with scripted(lambda number, request: replies.get(number, (500, {}, ""))) as (url, asked):
        with pytest.raises(sn.CellError, match="in 9 tries; the last: InternalServerError"):
            api(url, None, retries=8, backoff=1)(EXAMPLE, "x", RUBRIC, 0)
        assert len(asked) == 9
    assert waits == [1, 2, 7, 60, 16, 32, 60, 60]


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    grader = sn.get_grader("api")
    with scripted(lambda number, request: answer(GOOD)) as (url, asked):
        monkeypatch.setenv("OPENAI_BASE_URL", url + "/")
        grade = grader.make(**{**grader.options, "model": "m", "cache": str(tmp_path)})
        assert grade(EXAMPLE, "x", RUBRIC, 0)["metaphor"] == 1.0 and len(asked) == 1
        monkeypatch.delenv("OPENAI_API_KEY")  # what is cached needs no key; 0 and 0.0 are one temperature
        assert api(url, tmp_path, temperature=0)(EXAMPLE, "x", RUBRIC, 0)["metaphor"] == 1.0 and len(asked) == 1


def test_the_key_itself_is_never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(sn.UserError) as error:
        api("http://127.0.0.1:1/v1", None, api_key_env="sk-secret")
    assert str(error.value) == (
        "grader 'api': api_key_env must be the name of an environment variable (such as OPENAI_API_KEY) that holds "
        "the key, never the key itself"
    )
    for damaged in ("secret\n", "sec ret", "clé"):
        monkeypatch.setenv("OPENAI_API_KEY", damaged)
        with pytest.raises(sn.UserError, match="the environment variable OPENAI_API_KEY has white space or") as error:
            api("http://127.0.0.1:1/v1", None)(EXAMPLE, "x", RUBRIC, 0)
        assert damaged not in str(error.value)


def test_a_missing_package_names_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(sn.UserError) as error:
        api("http://127.0.0.1:1/v1", None)(EXAMPLE, "x", RUBRIC, 0)
    assert str(error.value) == "grader 'api' needs the package openai: pip install 'skillneurons[api]'"


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    grade = api("http://127.0.0.1:1/v1", None)
    with pytest.raises(sn.UserError, match="the environment variable OPENAI_API_KEY holds no key"):
        grade(EXAMPLE, "x", RUBRIC, 0)
    with pytest.raises(sn.UserError, match="the environment variable MY_KEY holds no key"):
        api("http://127.0.0.1:1/v1", None, api_key_env="MY_KEY")(EXAMPLE, "x", RUBRIC, 0)


def test_a_damaged_answer_in_the_cache_is_named(tmp_path: Path) -> None:
    with scripted(lambda number, request: answer(GOOD)) as (url, _):
        grade = api(url, tmp_path)
        grade(EXAMPLE, "x", RUBRIC, 0)
        (file,) = tmp_path.iterdir()
        for damage in ("{", '{"answer": 3}', "[]"):
            file.write_text(damage)
            with pytest.raises(sn.UserError, match=r"not a saved grading .*; delete the file and run again") as error:
                grade(EXAMPLE, "x", RUBRIC, 0)
            assert str(error.value).startswith(str(file))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(sn.UserError, match=r"cannot write .*file.*; set the grader's option cache to a folder"):
        GradingCache(tmp_path / "file").put({"a": 1}, "x")
    assert GradingCache(None).get({"a": 1}) is None


def train_to_answer(lm: Any, tokenizer: Any, dialogue: str, content: str) -> None:
    """Overfit a tiny model until it answers one dialogue with one text."""
    import torch

    start, tail = tokenizer(dialogue)["input_ids"], [*tokenizer(content)["input_ids"], tokenizer.eos_token_id]
    ids = torch.tensor([start + tail])
    labels = torch.tensor([[-100] * len(start) + tail])
    optimizer = torch.optim.AdamW(lm.parameters(), lr=3e-3)
    for _ in range(200):
        loss = lm(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.01:
            return
    raise AssertionError(f"the tiny model did not learn its answer: loss {loss.item()}")


@pytest.fixture(scope="module")
def served(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Serve a tiny Llama model with a chat template that knows how to grade one text; yields base URL and folder."""
    pytest.importorskip("fastapi", reason="transformers serve needs fastapi")
    pytest.importorskip("uvicorn", reason="transformers serve needs uvicorn")
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("served") / "model"
    tokenizer = AutoTokenizer.from_pretrained(model_folder("llama"))
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}[go]"
    model = build_model("llama", len(tokenizer), max_position_embeddings=1024)
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": all_questions(EXAMPLE, "A rope is time.", RUBRIC)},
    ]
    dialogue = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    train_to_answer(model, tokenizer, dialogue, GOOD)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with transformers_serve(folder, folder.with_name("serve.log")) as url:
        yield url, folder


def test_a_real_server_around_a_real_model(served: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = served
    grade = api(url, tmp_path, model=str(folder), max_tokens=24, regrade=0)
    assert grade(EXAMPLE, "A rope is time.", RUBRIC, 0) == {"metaphor": 1.0, "topic": 0.0}
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["answer"] == GOOD
    other = grade(sn.Example("e2", "Something else entirely, twice.", "t"), "zzz 123", {"sense": "Does it?"}, 0)
    assert list(other) == ["sense"] and len(list(tmp_path.iterdir())) == 2
