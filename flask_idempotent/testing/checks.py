"""Verdicts: what the answers to a request say about its view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flask_idempotent.testing.comparison import differences
from flask_idempotent.testing.failures import Fault

if TYPE_CHECKING:
    from flask_idempotent.testing.results import Answer
    from flask_idempotent.testing.target import View

_WITH_KEY = "with_key=lambda key: {'headers': {'X-Order': key}}"


def of_first(answer: Answer, key: str, view: View) -> Fault | None:
    """The view ran under the key that was sent, and its response is kept."""
    told = answer.told
    claimed = told.get("claimed")
    if claimed is None:
        return _of_unclaimed(answer, view)
    if claimed["key"] != key:
        return Fault(
            f"it ran under the key {claimed['key']!r}, not under the one that was sent",
            f"Say where the view's key goes: {_WITH_KEY}.",
        )
    if "released" in told:
        return _of_released(answer)
    if "completed" not in told:
        return Fault(
            "its response was not stored when the request had ended",
            "A streamed response was replaced after the view, as by an after_request function. "
            "Let that function return the response that it is given.",
        )
    if not told["completed"]["kept"]:
        return Fault(
            f"its body is not kept, so every retry gets 409: it broke off, is larger than the "
            f"{view.settings.max_body} bytes of max_body, or has a header that cannot be sent",
            "Answer with less, such as the address of the result, or allow more with max_body=; "
            "the log names a header that cannot be sent.",
        )
    if view.settings.replay_header in answer.response.headers:
        return Fault(
            f"its first answer has the header {view.settings.replay_header}",
            "Something above the view sets it. It marks replays: leave it to the library.",
        )
    return None


def _of_unclaimed(answer: Answer, view: View) -> Fault:
    if "rejected" in answer.told:
        return _of_problem(answer.told["rejected"], "it")
    if view.fault is not None:
        return view.fault
    if view.settings.key is not None and answer.response.status_code < 400:
        return Fault(
            "its key= function found no key in the request, so every retry runs the view again",
            f"Say where the view's key goes: {_WITH_KEY}.",
        )
    return Fault(
        f"it was answered {answer.response.status} before its key was looked at",
        "A before_request function, or a decorator above @idempotent, answered. Give the client "
        "what that asks for: a login, a token, a valid body.",
        answer.shown,
    )


def _of_problem(rejected: dict[str, Any], which: str) -> Fault:
    return Fault(
        f"{which} was answered with the problem {rejected['problem']!r}",
        "Each check sends a key of its own in a header: leave others out of the request. "
        f"Where the key goes elsewhere, say where: {_WITH_KEY}.",
    )


def _of_released(answer: Answer) -> Fault:
    status = answer.response.status
    what = f"its answer {status} is not stored, so every retry runs the view again"
    if answer.told["released"]["reason"] == "failed":
        return Fault(what, "An exception left the view. Set app.testing = True to see it.")
    if status.startswith(("206", "304")):
        return Fault(what, "Parts of a response and 304 are never stored. Ask for the whole.")
    if status.startswith(("307", "308")):
        return Fault(
            what,
            "307 and 308 are never stored, as they ask for the same request elsewhere. Name "
            "the path that they lead to, or answer with 303.",
        )
    return Fault(
        what,
        "Make the view succeed with this request; or let store_if= keep such an answer. Unless "
        "it says otherwise, 401, 403, 407, 408, 425, 429 and everything from 500 is left for a "
        "retry to mend.",
        answer.shown,
    )


def of_retry(answer: Answer, first: Answer) -> Fault | None:
    """A retry got a replay."""
    told = answer.told
    if "claimed" in told:
        return _of_second_run(told["claimed"], first.told["claimed"])
    if "rejected" in told and told["rejected"]["problem"] == "key-reused":
        return Fault(
            "a retry has another fingerprint, so it got the problem 'key-reused'",
            "fingerprint= must give two equal requests the same value.",
        )
    if "rejected" in told:
        return _of_problem(told["rejected"], "a retry")
    if "replayed" not in told:
        return Fault(
            f"a retry was answered {answer.response.status} before its key was looked at",
            "A before_request function, or a decorator above @idempotent, let the first request "
            "pass and not the second. What counts requests, or what may be used once, must "
            "allow for retries, or stand below @idempotent.",
            answer.shown,
        )
    return None


def of_replay(answer: Answer, first: Answer, view: View) -> Iterator[Fault]:
    """A replay is marked, and equal to the first answer."""
    if answer.response.headers.get(view.settings.replay_header) != "true":
        yield Fault(
            f"a replay lacks the header {view.settings.replay_header}: true",
            "An after_request function or a decorator above @idempotent takes it off, or makes "
            "a response of its own. Let the header pass.",
        )
    yield from differences(first.response, answer.response, view.settings)


def of_cookies(answer: Answer, first: Answer, session_cookie: str) -> Fault | None:
    """A retry sets the cookies that the first answer set, but for that of a flashed message.

    :param session_cookie: the name of the session's cookie.
    """
    lost = first.cookies - answer.cookies
    written = first.written - {"_flashes"}
    if not written:
        lost.discard(session_cookie)
    if not lost:
        return None
    entries = f" ({', '.join(sorted(written))})" if written and session_cookie in lost else ""
    return Fault(
        f"the first answer sets the cookie {', '.join(sorted(lost))}, and its replay does not",
        "A client that lost the first answer never gets it, nor what the view wrote to the "
        f"session{entries}. Keep that elsewhere, as in the database; or exempt a view that logs "
        "in or out. Where it does no harm, cookies=False leaves this check out.",
    )


def _of_second_run(claimed: dict[str, Any], first: dict[str, Any]) -> Fault:
    if claimed["storage_key"] != first["storage_key"]:
        return Fault(
            "a retry ran the view again, because it belongs to another caller or has another key",
            "scope= and key= must give two equal requests the same value.",
        )
    return Fault(
        "a retry ran the view again, because the record of the first is gone",
        "Nothing may delete records meanwhile.",
    )


def of_race(answers: Sequence[Answer], view: View) -> Iterator[Fault]:
    """Of many requests at once one ran the view, and the others got its answer."""
    runs = [answer for answer in answers if "claimed" in answer.told]
    if len(runs) > 1:
        yield Fault(
            f"{len(answers)} requests at once with one key ran the view {len(runs)} times",
            "scope= and key= must give equal requests the same value.",
        )
    elif not runs:
        yield _of_unclaimed(answers[0], view)
    else:
        for answer in answers:
            if answer is not runs[0]:
                yield from _of_racer(answer, runs[0], view)


def _of_racer(answer: Answer, run: Answer, view: View) -> Iterator[Fault]:
    rejected, settings = answer.told.get("rejected", {}), view.settings
    if rejected.get("problem") != "in-progress":
        yield from of_answer(answer, run, view)
    elif settings.timeout > 0 and settings.max_waiters is None:  # Else they are not to wait.
        yield Fault(
            f"a duplicate waited for {settings.timeout:g} s and got the problem 'in-progress'",
            "The view takes longer than its timeout=. Allow more, or make the view faster.",
        )


def of_answer(answer: Answer, first: Answer, view: View) -> Iterator[Fault]:
    """A retry got the first answer."""
    fault = of_retry(answer, first)
    if fault is not None:
        yield fault
    else:
        yield from of_replay(answer, first, view)


def of_reuse(answer: Answer, view: View) -> Fault | None:
    """Another request with the key was refused."""
    told = answer.told
    if told.get("rejected", {}).get("problem") == "key-reused":
        return None
    if "claimed" in told:
        return Fault(
            "a changed request with the same key ran the view again",
            "scope= and key= must not depend on what is asked, or every change is an operation.",
        )
    if "rejected" in told:
        return _of_problem(told["rejected"], "a changed request")
    if "replayed" not in told:
        return Fault(
            f"a changed request was answered {answer.response.status} before its key was looked at",
            "Say what may change so that the view's own checks still pass: "
            "changed={'json': {...}}.",
            answer.shown,
        )
    return Fault("a changed request with the same key got the first one's answer", _unseen(view))


def _unseen(view: View) -> str:
    if view.settings.fingerprint is False:
        return (
            "The body is in no fingerprint, because of fingerprint=False: take that off. If it "
            "is meant, leave this check out with changed=False."
        )
    if view.settings.fingerprint is not None:
        return (
            "The view's own fingerprint= does not see the change. Say what it should see: "
            "changed={'json': {...}}; and if that makes no difference, mend fingerprint=."
        )
    return (
        "What was sent differs in nothing that counts. Say what makes it another request: "
        "changed={'json': {...}}."
    )


def of_crash(answer: Answer, view: View) -> Fault | None:
    """The view ran before its owner died."""
    return None if "claimed" in answer.told else _of_unclaimed(answer, view)


def of_rerun(answer: Answer, lost: Answer, view: View) -> Fault | None:
    """After an owner died, the view ran again and its answer is kept."""
    told, now, before = answer.told, answer.response.status, lost.response.status
    held = told.get("rejected", {}).get("problem") == "outcome-unknown"
    if view.settings.on_crash == "hold" and not held:
        return Fault(
            "the view ran again after its owner died, in spite of on_crash='hold'",
            "The record was gone with the lease. Let expire= be longer than lease=.",
        )
    if held:
        return None
    if "claimed" not in told:
        return _of_unclaimed(answer, view)
    if now != before:
        return Fault(
            f"run again after its owner died, the view answered {now} instead of {before}",
            "The first run may have done its work. Let the second find that: "
            "current_claim.attempt is above 1 there. If it must not run twice, use "
            "on_crash='hold'; crash=False leaves this check out.",
        )
    return None
