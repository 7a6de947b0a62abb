"""Checks: what the responses to a request say about its view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flask_idempotent.testing.comparison import differences
from flask_idempotent.testing.failures import Failure

if TYPE_CHECKING:
    from flask_idempotent.testing.results import Result
    from flask_idempotent.testing.target import Target

_WITH_KEY = "with_key=lambda key: {'headers': {'X-Order': key}}"


def check_first(result: Result, key: str, target: Target) -> Failure | None:
    """The view ran under the key that was sent, and its response is kept."""
    signals = result.signals
    claimed = signals.get("claimed")
    if claimed is None:
        return of_unclaimed(result, target)
    if claimed["key"] != key:
        return Failure(
            f"it ran under the key {claimed['key']!r}, not under the one that was sent",
            f"Say where the view's key goes: {_WITH_KEY}.",
        )
    if "released" in signals:
        return _of_released(result)
    if "completed" not in signals:
        return Failure(
            "its response was not stored when the request had ended",
            "A streamed response was replaced after the view, as by an after_request function. "
            "Let that function return the response that it is given.",
        )
    if not signals["completed"]["kept"]:
        return Failure(
            f"its body is not kept, so every retry gets 409: it broke off, is larger than the "
            f"{target.settings.max_body} bytes of max_body, or has a header that cannot be sent",
            "Answer with less, such as the address of the result, or allow more with max_body=; "
            "the log names a header that cannot be sent.",
        )
    if target.settings.replay_header in result.response.headers:
        return Failure(
            f"its first response has the header {target.settings.replay_header}",
            "Something above the view sets it. Only the library may set it, to mark replays.",
        )
    return None


def of_unclaimed(result: Result, target: Target) -> Failure:
    """Say why a request has not claimed its key."""
    if "rejected" in result.signals:
        return _of_problem(result.signals["rejected"], "it")
    if target.failure is not None:
        return target.failure
    if target.settings.key is not None and result.response.status_code < 400:
        return Failure(
            "its key= function found no key in the request, so every retry runs the view again",
            f"Say where the view's key goes: {_WITH_KEY}.",
        )
    return Failure(
        f"it was answered {result.response.status} before its key was checked",
        "A before_request function, or a decorator above @idempotent, answered. Give the client "
        "what that asks for: a login, a token, a valid body.",
        result.summary,
    )


def _of_problem(rejected: dict[str, Any], which: str) -> Failure:
    return Failure(
        f"{which} was answered with the problem {rejected['problem']!r}",
        "Each check sends a key of its own in a header: leave others out of the request. "
        f"Where the key goes elsewhere, say where: {_WITH_KEY}.",
    )


def _of_released(result: Result) -> Failure:
    status = result.response.status
    what = f"its response {status} is not stored, so every retry runs the view again"
    if result.signals["released"]["reason"] == "failed":
        return Failure(what, "An exception left the view. Set app.testing = True to see it.")
    if status.startswith(("206", "304")):
        return Failure(what, "Parts of a response and 304 are never stored. Ask for the whole.")
    if status.startswith(("307", "308")):
        return Failure(
            what,
            "307 and 308 are never stored, as they ask for the same request elsewhere. Name "
            "the path that they lead to, or answer with 303.",
        )
    return Failure(
        what,
        "Make the view succeed with this request; or let store_if= keep such an answer. Unless "
        "it says otherwise, 401, 403, 407, 408, 425, 429 and everything from 500 is left for a "
        "retry to fix.",
        result.summary,
    )


def check_retry(result: Result, first: Result) -> Failure | None:
    """A retry got a replay."""
    signals = result.signals
    if "claimed" in signals:
        return _of_second_run(signals["claimed"], first.signals["claimed"])
    if "rejected" in signals and signals["rejected"]["problem"] == "key-reused":
        return Failure(
            "a retry has another fingerprint, so it got the problem 'key-reused'",
            "fingerprint= must give two equal requests the same value.",
        )
    if "rejected" in signals:
        return _of_problem(signals["rejected"], "a retry")
    if "replayed" not in signals:
        return Failure(
            f"a retry was answered {result.response.status} before its key was checked",
            "A before_request function, or a decorator above @idempotent, let the first request "
            "pass and not the second. What counts requests, or what may be used once, must "
            "allow for retries, or stand below @idempotent.",
            result.summary,
        )
    return None


def check_replay(result: Result, first: Result, target: Target) -> Iterator[Failure]:
    """A replay is marked, and equal to the first response."""
    if result.response.headers.get(target.settings.replay_header) != "true":
        yield Failure(
            f"a replay lacks the header {target.settings.replay_header}: true",
            "An after_request function or a decorator above @idempotent removes it, or makes "
            "a response of its own. Let the header pass.",
        )
    yield from differences(first.response, result.response, target.settings)


def check_cookies(
    result: Result, first: Result, session_cookie: str, target: Target
) -> Failure | None:
    """A retry sets the cookies that the first response set, and changes the same session entries.

    :param session_cookie: the name of the session's cookie.
    """
    lost = first.cookies - result.cookies - {session_cookie}
    repeated = result.session_changes.union(target.settings.replay_session, {"_flashes"})
    lost_entries = first.session_changes - repeated
    entries = ""
    if lost_entries and session_cookie in first.cookies:
        # The replay may set the cookie too, with other entries.
        lost.add(session_cookie)
        entries = f" ({', '.join(sorted(lost_entries))})"
    if not lost:
        return None
    return Failure(
        f"the first response sets the cookie {', '.join(sorted(lost))}, and its replay does not "
        "repeat it",
        "A client that missed the first response never gets it, nor what the view wrote to the "
        f"session{entries}. Keep that elsewhere, as in the database, or name the session's entries "
        "in replay_session; exempt a view that logs in or out. Where it does no harm, "
        "cookies=False skips this check.",
    )


def _of_second_run(claimed: dict[str, Any], first: dict[str, Any]) -> Failure:
    if claimed["storage_key"] != first["storage_key"]:
        return Failure(
            "a retry ran the view again, because it belongs to another caller or has another key",
            "scope= and key= must give two equal requests the same value.",
        )
    return Failure(
        "a retry ran the view again, because the record of the first is gone",
        "Nothing may delete records while the check runs.",
    )


def check_race(results: Sequence[Result], target: Target) -> Iterator[Failure]:
    """Of many requests at once one ran the view, and the others got its response."""
    runs = [result for result in results if "claimed" in result.signals]
    if len(runs) > 1:
        yield Failure(
            f"{len(results)} requests at once with one key ran the view {len(runs)} times",
            "scope= and key= must give equal requests the same value.",
        )
    elif not runs:
        yield of_unclaimed(results[0], target)
    else:
        for result in results:
            if result is not runs[0]:
                yield from _check_racer(result, runs[0], target)


def _check_racer(result: Result, run: Result, target: Target) -> Iterator[Failure]:
    rejected, settings = result.signals.get("rejected", {}), target.settings
    if rejected.get("problem") != "in-progress":
        yield from check_duplicate(result, run, target)
    elif settings.timeout > 0 and settings.max_waiters is None:  # Else they need not wait.
        yield Failure(
            f"a duplicate waited for {settings.timeout:g} s and got the problem 'in-progress'",
            "The view takes longer than its timeout=. Allow more, or make the view faster.",
        )


def check_duplicate(result: Result, first: Result, target: Target) -> Iterator[Failure]:
    """A retry got the first response."""
    failure = check_retry(result, first)
    if failure is not None:
        yield failure
    else:
        yield from check_replay(result, first, target)


def check_reuse(result: Result, target: Target) -> Failure | None:
    """Another request with the key was refused."""
    signals = result.signals
    if signals.get("rejected", {}).get("problem") == "key-reused":
        return None
    if "claimed" in signals:
        return Failure(
            "a changed request with the same key ran the view again",
            "scope= and key= must not depend on what is asked, or every change is an operation.",
        )
    if "rejected" in signals:
        return _of_problem(signals["rejected"], "a changed request")
    if "replayed" not in signals:
        return Failure(
            f"a changed request was answered {result.response.status} before its key was checked",
            "Say what may change so that the view's own checks still pass: "
            "changed={'json': {...}}.",
            result.summary,
        )
    what = "a changed request with the same key got the first one's response"
    return Failure(what, _unseen_change(target))


def _unseen_change(target: Target) -> str:
    if target.settings.fingerprint is False:
        return (
            "The body is not fingerprinted because of fingerprint=False: remove that. If it "
            "is meant, skip this check with changed=False."
        )
    if target.settings.fingerprint is not None:
        return (
            "The view's own fingerprint= does not see the change. Say what it should see: "
            "changed={'json': {...}}; and if that makes no difference, fix fingerprint=."
        )
    return (
        "The change is not part of the fingerprint. Say what makes it another request: "
        "changed={'json': {...}}."
    )


def check_crash(result: Result, target: Target) -> Failure | None:
    """The view ran before its owner crashed."""
    return None if "claimed" in result.signals else of_unclaimed(result, target)


def check_rerun(result: Result, lost: Result, target: Target) -> Failure | None:
    """After an owner crashed, the view ran again, or its committed answer was found."""
    signals, now, before = result.signals, result.response.status, lost.response.status
    if "replayed" in signals and target.settings.transaction is not None:
        # The view's own database has kept its answer, so nothing ran again.
        return None
    held = signals.get("rejected", {}).get("problem") == "outcome-unknown"
    if target.settings.on_crash == "hold" and not held:
        return Failure(
            "the view ran again after its owner crashed, despite on_crash='hold'",
            "The record was gone with the lease. Let hold_for= be longer than lease=.",
        )
    if held or callable(target.settings.on_crash):
        return None
    if "claimed" not in signals:
        return of_unclaimed(result, target)
    if now != before:
        return Failure(
            f"run again after its owner crashed, the view answered {now} instead of {before}",
            FIX_OF_STEPS if lost.steps else _FIX_OF_RERUN,
        )
    return None


_FIX_OF_RERUN = (
    "The first run may have done its work. Let the second find that: current_claim.attempt is "
    "above 1 there. If it must not run twice, use transaction= or on_crash='hold'; crash=False "
    "skips this check."
)
FIX_OF_STEPS = (
    "Steps that have ended are not called again. Take what the view needs from what step() "
    "returns, and make steps of what must not be repeated. crash=False skips this check."
)
