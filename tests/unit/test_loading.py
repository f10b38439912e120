"""Something is loaded on a thread of its own, and what goes wrong there arrives."""

import threading

import pytest

from worker.loading import Loading


def test_the_result_is_what_was_loaded_on_another_thread():
    loading = Loading(threading.get_ident)
    loading.start()
    assert loading.result() != threading.get_ident()
    assert not loading.under_way


@pytest.mark.parametrize("error", [ImportError("no torch"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failure_is_raised_where_the_result_is_asked_for(error):
    def fail():
        raise error

    loading = Loading(fail)
    loading.start()
    with pytest.raises(type(error)) as caught:
        loading.result()
    assert caught.value is error


def test_a_failure_is_seen_without_waiting_and_only_once_it_has_happened():
    gate = threading.Event()

    def fail():
        gate.wait()
        raise ValueError("wrong directory")

    loading = Loading(fail)
    loading.start()
    loading.failed_early()
    assert loading.under_way
    gate.set()
    with pytest.raises(ValueError, match="wrong directory"):
        loading.result()
    with pytest.raises(ValueError, match="wrong directory"):
        loading.failed_early()


def test_what_is_never_loaded_does_not_hold_up_the_end_of_the_process():
    loading = Loading(threading.Event().wait)
    assert not loading.under_way
    loading.start()
    assert loading._thread.daemon
    assert loading.under_way
