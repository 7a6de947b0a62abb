"""``current_claim``: what a view sees of its claim."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, cast

from flask import has_request_context
from werkzeug.local import LocalProxy

from flask_idempotent.web.flask_compat import current_request
from flask_idempotent.web.request_state import request_state

if TYPE_CHECKING:
    from flask_idempotent.engine.claims import Claim


@dataclass(frozen=True, slots=True)
class CurrentClaim:
    """The claim of the running request, as its view sees it."""

    _claim: Claim = field(repr=False)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<claim, attempt {self.attempt}, {'held' if self.held else 'lost'}>"

    @property
    def key(self) -> str:
        """The client's own key."""
        return self._claim.key

    @property
    def owner(self) -> str:
        """A random token of 32 hexadecimal digits, new for each run of the view."""
        return self._claim.owner

    @property
    def attempt(self) -> int:
        """The number of this run: 1 for the first, higher after a crash.

        It is also higher after a failure of a view with steps, and for a corrected request. It
        never goes back while an earlier run may be alive, so a system that remembers the highest
        number that it has seen can refuse that run: a fencing token. It is 0 where the store
        has failed, and the view runs because ``on_store_error`` is ``"run"`` and the view has a
        ``transaction``.
        """
        return self._claim.attempt

    @property
    def held(self) -> bool:
        """False once the lease is known to be lost; then another run may have begun."""
        return self._claim.held

    def key_for(self, name: str, number: int = 1) -> str:
        """Make an idempotency key for a service that the view calls; the store is not asked.

        It is the same in every run of the view, so a run after a crash repeats the call and not
        its effect. Another caller, key, payload or name makes another one::

            stripe.Charge.create(..., idempotency_key=current_claim.key_for("stripe"))

        :param name: what the key is for: another name for each call of the view that has an effect.
        :param number: counts the tries: 2 after a definite refusal, which the service would repeat
            for the same key.
        :returns: 22 letters, digits, ``-`` and ``_``.
        :raises ValueError: when the name is empty, or the number is not 1 or more.
        """
        return self._claim.key_for(name, number)

    def release(self) -> None:
        """Give up the key: the view's response will not be stored, and the next request runs.

        For a view that finds that it has nothing to do. The results of its steps stay.
        """
        self._claim.release()


class _NoClaim:
    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<no claim>"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"current_claim has no {name} here, because nothing is claimed: the request carries no "
            "key, or its view is not protected, has answered, or runs without its store. Test for "
            "it first: if current_claim: ..."
        )


_NO_CLAIM = _NoClaim()


def _find_claim() -> CurrentClaim | _NoClaim:
    if not has_request_context():
        return _NO_CLAIM
    claim = request_state(current_request()).claim
    return _NO_CLAIM if claim is None or claim.settled else CurrentClaim(claim)


#: The claim of the running request; false where nothing is claimed, and without attributes there::
#:
#:     if current_claim:
#:         ledger.write(order, fencing_token=current_claim.attempt)
current_claim: CurrentClaim = cast("CurrentClaim", LocalProxy(_find_claim))
