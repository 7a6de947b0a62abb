"""The rules of the HTTP behaviour and the traps around it: each has a test.

A test names a rule in its own name (``test_k1_…``) or in the id of a parameter (``K1-…``). Here
are also the tests of rules and traps that have no better place.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

RULES = {
    "K1": "Header names match in any case; all places are read, and two that disagree get 400.",
    "K2": "A quoted key is a String (RFC 9651), decoded; parameters are ignored, faults get 400.",
    "K3": "A bare key is taken as it is, of visible ASCII without four characters.",
    "K4": "In strict mode a key is a String and nothing else.",
    "K5": "Empty, blank, too long, control, non-ASCII and repeated keys get 400.",
    "K6": "Spaces and tabs around a key are not part of it.",
    "K7": "A key in the form or the query follows the rules of a bare one.",
    "K8": "A log line at INFO or above never holds a whole key.",
    "K9": "A key or scope function may return an int or a UUID; another type is a TypeError.",
    "K10": "Whatever body comes, looking for its key is no 500.",
    "K11": "A key that the browser itself made does not count where another differs from it.",
    "W1": "All methods but GET, HEAD, OPTIONS and TRACE are tracked; others count as without key.",
    "W2": "Routing errors and preflights claim nothing and stay as they are.",
    "W3": "Where a key is required, a request without one gets 400.",
    "W4": "A body is read and checked before anything is claimed, in pieces when it is large.",
    "W5": "Where GET is tracked it is never refused for its key, which may come along a redirect.",
    "W6": "307 and 308 are passed through: the same request runs elsewhere, under the same key.",
    "F1": "The fingerprint covers method, path, query, media type and body, and nothing else.",
    "F2": "Of a multipart form its parts count, not its boundary, nor fields that are ignored.",
    "F3": "The view sees its request as if nobody had looked.",
    "F4": "The same key with another request gets 422, also while the first runs.",
    "F5": "The same key on another path or method gets 422; another key is another operation.",
    "F6": "Two callers with one key are two operations; a scope that fails stops the request.",
    "F7": "No combination of key, scope, path and body collides with another.",
    "C1": "A duplicate waits up to its timeout, then gets 409 with Retry-After.",
    "C2": "A retry after completion gets the first result, byte for byte.",
    "C3": "Our own errors, routing errors and what before_request answers are never stored.",
    "C4": "store_if decides what is stored; what is not stored is released.",
    "C5": "After expire the key is new, and no record is without an end.",
    "C6": "Preconditions are the view's affair.",
    "C7": "After a failed validation a corrected request may use the key.",
    "C8": "A view, or dont_keep, says that its answer is not kept.",
    "C9": "After max_run a view's lease is renewed no more; an operator takes a claim for good.",
    "C10": "A duplicate that waits starves nobody.",
    "E1": "Errors are problem documents (RFC 9457), or HTML where the client prefers it.",
    "E2": "Retry-After stands where another try makes sense, no-store everywhere.",
    "E3": "Errors pass after_request and the application's own handlers.",
    "E4": "HEAD, 204 and 304 have no body.",
    "E5": "What is the client's is escaped in HTML.",
    "E7": "Problems keep their type through REST frameworks, where it is registered as said.",
    "R1": "A replay has the kept headers in order and repetition, without those of one answer.",
    "R2": "Replays alone are marked.",
    "R3": "The first response is what it would be without us.",
    "R4": "The response is captured inside compression and session saving.",
    "R5": "Every kind of response replays equal.",
    "R6": "206, 304, 307 and 308 are passed through and never stored.",
    "R7": "Without its store the view does not run; after it the caller gets the response.",
    "R8": "A replay is made without the constructor of the application's response class.",
    "R9": "Where the view looked at the session, the replay varies by the cookie too.",
    "R10": "What a resource returns is written by its framework, or the first request says why.",
}
#: What went wrong elsewhere, and the tests that it does not here.
TRAPS = {
    "a lost reply, sent again, finds its own claim": [
        "stores/redis/test_lost_replies.py::test_claim",
        "stores/redis/test_lost_replies.py::test_complete",
        "stores/redis/test_lost_replies.py::test_release",
    ],
    "a waiter gets another payload's response after a take-over": [
        "engine/test_waiting.py::test_other_payload_after_take_over"
    ],
    "a waiter whose patience ends deletes the owner's record": [
        "web/test_traps.py::test_impatient_waiter_leaves_the_owner_alone"
    ],
    "a 422 is stored over the good record": ["web/test_run_and_replay.py::test_other_request"],
    "after a release waiters are refused instead of taking over": [
        "web/test_in_progress.py::test_one_of_many_takes_over"
    ],
    "a record that is gone is a 500 to its waiters": [
        "web/test_traps.py::test_waiter_whose_record_is_gone_runs"
    ],
    "a completed record has lost its fingerprint": ["engine/test_engine.py::test_other_payload"],
    "a renewal overwrites a completed record": [
        "engine/test_renewal.py::test_settled_claim_is_never_renewed",
        "../flask_idempotent/testing/contract/waiting.py::test_renewal_of_a_completed_key",
    ],
    "a failed renewal makes a success a 500": [
        "web/test_traps.py::test_failed_renewal_spoils_no_success",
        "engine/test_renewal.py::test_failed_renewal",
    ],
    "a new token fences its own owner out": [
        "engine/test_renewal.py::test_slow_view_keeps_its_claim"
    ],
    "a response over the limit is cut off, run again, or replayed empty": [
        "web/test_streaming.py::test_over_max_body_is_not_kept",
        "web/test_large_bodies.py::test_r3_c2_arrives_at_once_and_runs_once",
    ],
    "of two equal headers one is lost": [
        "http/test_responses.py::test_r1_order_and_repetition",
        "web/test_roundtrip.py::test_c2_r1_r5_replay_is_equal",
    ],
    "a cookie is replayed to somebody else": [
        "web/test_responses.py::test_r1_cookies_are_not_replayed"
    ],
    "a replay comes before authentication": [
        "web/test_place_in_the_request.py::test_authentication_precedes_a_replay"
    ],
    "an undecorated GET is replayed to a decorated POST": [
        "web/test_traps.py::test_get_is_never_replayed_to_post"
    ],
    "a message comes before the subscription stands": [
        "stores/redis/test_subscriber.py::test_coming_and_going",
        "stores/redis/test_subscriber.py::test_waiter_that_did_not_wait_is_told",
    ],
    "each waiter holds a connection": ["stores/redis/test_subscriber.py::test_one_for_all"],
    "the listener dies with its connection": [
        "stores/redis/test_subscriber.py::test_killed_connection",
        "stores/redis/test_subscriber.py::test_server_away",
    ],
    "a timeout kills an idle listener": [
        "stores/redis/test_subscriber.py::test_idle_connection_is_kept"
    ],
    "a half-open connection delivers nothing for ever": [
        "stores/redis/test_subscriber.py::test_half_open_connection"
    ],
    "a forked child waits for its parent's thread": [
        "stores/redis/test_subscriber.py::test_child_has_its_own",
        "engine/test_worker.py::test_child_has_its_own",
    ],
    "gevent: an event loop is already running": ["wire/test_problems.py::test_c1_waiter"],
    "a worker's timeout or a client that leaves keeps the key stuck": [
        "web/test_failing_views.py::test_unhandled_exception_releases",
        "web/test_streaming.py::test_broken_stream_is_not_kept",
        "engine/test_completion.py::test_interrupted",
    ],
    "a key in lower case": ["http/test_storage_keys.py::test_case_matters"],
    "a raw key in the store": ["http/test_storage_keys.py::test_k8_nothing_of_the_clients"],
    "fields are hashed without separators": ["test_msgpack.py::test_f7_lists_never_collide"],
    "all request headers are in the fingerprint": [
        "http/test_fingerprints.py::test_f1_no_other_header"
    ],
    "a time of 0 is taken for none": [
        "web/test_traps.py::test_timeout_of_nothing_wins",
        "web/test_in_progress.py::test_c1_at_once",
    ],
    "a time of 1.5 s is rounded": ["web/test_traps.py::test_c5_part_of_a_second_counts"],
    "a timeout of 1 lasts 10": ["web/test_in_progress.py::test_c1_timeout"],
}
FOLDER = Path(__file__).parents[1]


@cache
def names(file: Path) -> tuple[str, ...]:
    """The names of a file's tests and the ids of their parameters."""
    return tuple(_names(ast.parse(file.read_text(), str(file)).body))


def _names(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef) and (
            node.name.startswith("Test") or node.name.endswith("Contract")
        ):
            yield from _names(node.body)
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name
        for part in ast.walk(node):
            if isinstance(part, ast.keyword) and part.arg in ("id", "ids"):
                yield from (str(c.value) for c in ast.walk(part) if isinstance(c, ast.Constant))


class TestComplete:
    @pytest.mark.parametrize("rule", RULES)
    def test_each_rule_has_a_test(self, rule: str) -> None:
        """Every rule is named by at least one test."""
        said = re.compile(rf"(?<![A-Za-z0-9]){rule}(?![A-Za-z0-9])", re.IGNORECASE)
        files = FOLDER.rglob("test_*.py")
        assert any(said.search(name) for file in files for name in names(file)), RULES[rule]

    @pytest.mark.parametrize(
        "test", [pytest.param(test, id=test) for tests in TRAPS.values() for test in tests]
    )
    def test_each_trap_has_a_test(self, test: str) -> None:
        """Every test that stands against a trap is there."""
        file, _, name = test.partition("::")
        assert name in names(FOLDER / file)
