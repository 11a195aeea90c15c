from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from skillneurons.interruption import Interrupted, Interruption


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Let Ctrl-C be heard, also where these tests are run in the background of a script, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_signal_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interruption() as interruption, pytest.raises(Interrupted) as stopped:
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.signum == signal.SIGTERM and interruption.pending
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_inside_deferred_it_waits_for_the_end(signum: int) -> None:
    said: list[str] = []
    done = []
    with Interruption(said.append) as interruption, pytest.raises(Interrupted) as stopped:
        with interruption.deferred():
            with interruption.deferred():
                os.kill(os.getpid(), signum)
                done.append("inner")
            assert interruption.pending
            done.append("outer")
        done.append("never")
    assert done == ["inner", "outer"] and stopped.value.signum == signum
    assert said == ["stopping at the next safe place; once more to stop at once"]


def test_the_second_does_not_wait() -> None:
    done = []
    with Interruption() as interruption, pytest.raises(Interrupted), interruption.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("once")
        os.kill(os.getpid(), signal.SIGINT)
        done.append("twice")
    assert done == ["once"]


def test_an_error_inside_deferred_is_not_hidden_by_the_signal() -> None:
    with Interruption() as interruption, pytest.raises(ValueError, match="no luck"), interruption.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("no luck")


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup, or in the background of a script
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            assert not interruption.pending
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_elsewhere_than_in_the_main_thread_nothing_is_changed() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with Interruption() as interruption, interruption.deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
