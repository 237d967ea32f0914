"""Every fault that temporary files had somewhere, and the test that would catch it here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CAUGHT = {
    "files outside base_dir deleted though replaced since registration": "test_cleanup.test_a_replaced_file_stays",
    "failed removals counted as removed": "test_cleanup.test_a_failure_stops_nothing_and_is_not_counted",
    "base directory 0755": "test_manager.test_everything_is_private_whatever_the_umask",
    "registry empty after restart, files for ever": "test_cleanup.test_files_of_a_killed_process_go",
    "directories not managed": "test_cleanup.test_a_directory_expires_when_it_is_empty",
    "registering a missing file": "test_registry.test_what_is_no_file_is_warned_about",
    "two processes, one deleting the other's files": "test_reliability.test_2000_files_of_four_processes",
    "forked child removing the parent's directory at exit": "test_fork.test_however_a_child_leaves",
    "clock set back making files immortal": "test_cleanup.test_a_clock_set_back_makes_no_file_immortal",
    "relative path, .., trailing slash, duplicate registration": "test_registry.test_other_spellings_of_a_path",
    "symlink in base_dir to /etc": "test_sweep.test_a_link_named_as_an_owner_is_left_alone",
    "symlink swapped during a sweep": "test_sweep.test_a_link_swapped_in_for_an_owner_during_a_sweep",
    "10,000 registrations from 10 threads, exact count": "test_registry.test_ten_threads_register",
    "del and assignment while another thread registers": "test_registry.test_ten_threads_register",
    "with manager.lock around files deadlocking": "test_registry.test_the_lock_is_reentrant",
    "deletion under the lock blocking registration": "test_cleanup.test_deletion_does_not_block_registration",
    "exception in one file stopping the batch": "test_cleanup.test_a_failure_stops_nothing_and_is_not_counted",
    "secure delete through a hard link": "test_background.test_secure_delete",
    "histogram and list growing for ever": "test_background.test_prometheus",
    "manager kept alive by its own thread": "test_background.test_the_thread_does_not_keep_its_manager",
    "interpreter shutdown with the thread running": "test_background.test_the_interpreter_ends_with_the_thread_running",
}


@pytest.mark.parametrize("fault", CAUGHT)
def test_the_fault_has_its_test(fault: str) -> None:
    module, _, name = CAUGHT[fault].partition(".")
    tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
