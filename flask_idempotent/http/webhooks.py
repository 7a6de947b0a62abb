"""Webhooks: what a delivery of a webhook says of its event and its endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask_idempotent._json_pointer import JSONPointer
from flask_idempotent.http.keys import UnusableKey, parse_header
from flask_idempotent.problems import KeyInvalid, KeyMissing

if TYPE_CHECKING:
    from werkzeug.wrappers import Request, Response


def is_acknowledgement(response: Response) -> bool:
    """Whether a response tells the sender that its event has arrived."""
    return 200 <= response.status_code <= 299


@dataclass(frozen=True, slots=True)
class EndpointScope:
    """The scope of a sender's events at one endpoint, such as ``stripe /webhooks/stripe``.

    :param sender: the sender's name.
    """

    sender: str

    def __call__(self, request: Request) -> str:
        """Return the sender, and the path with the host where the route is for one."""
        rule = getattr(request, "url_rule", None)
        is_of_host = rule is not None and bool(rule.host or rule.subdomain)
        host = request.host.lower() if is_of_host else ""
        return f"{self.sender} {host}{request.root_path}{request.path}"


@dataclass(frozen=True, slots=True)
class IdInHeader:
    """Finds the id of a delivery's event in its headers.

    :param sender: the sender's name.
    :param names: the headers that may have the id.
    """

    sender: str
    names: tuple[str, ...]

    def __call__(self, request: Request) -> str:
        """Return the id.

        :raises Problem: with the status 400, where there is none that can be used.
        """
        ids = list(self._ids(request))
        return _agreed(self.sender, ids, "the header " + " or ".join(self.names))

    def _ids(self, request: Request) -> Iterator[tuple[str, str]]:
        for name in self.names:
            value = request.headers.get(name)
            if value is not None:
                place = f"the header {name}"
                yield place, self._parse(place, value.strip(" \t"))

    def _parse(self, place: str, value: str) -> str:
        if not value:
            raise KeyInvalid(_EMPTY.format(self.sender, place))
        try:
            return parse_header(value, len(value))
        except UnusableKey:
            raise KeyInvalid(_NO_ID.format(self.sender, place)) from None


@dataclass(frozen=True, slots=True)
class IdInJSON:
    """Finds the id of a delivery's event in its body.

    :param sender: the sender's name.
    :param pointers: the places that may have the id.
    """

    sender: str
    pointers: tuple[JSONPointer, ...]

    def __call__(self, request: Request) -> str:
        """Return the id.

        :raises Problem: with the status 400, where there is none that can be used.
        """
        try:
            document = json.loads(request.get_data())
        except (ValueError, RecursionError):
            raise KeyInvalid(_NOT_JSON.format(self.sender)) from None
        ids = list(self._ids(document))
        return _agreed(self.sender, ids, " or ".join(self.pointers) + " of the JSON body")

    def _ids(self, document: object) -> Iterator[tuple[str, str]]:
        for pointer in self.pointers:
            try:
                value = pointer.value_in(document)
            except LookupError:
                continue
            if value is None:
                continue
            place = f"{pointer} of the JSON body"
            if not isinstance(value, str):
                raise KeyInvalid(_NOT_A_STRING.format(self.sender, place))
            if not value:
                raise KeyInvalid(_EMPTY.format(self.sender, place))
            yield place, value


def _agreed(sender: str, ids: list[tuple[str, str]], where: str) -> str:
    """Return the id on which all places agree.

    A signature may cover only one of them, and anybody could add the other to a copied delivery.
    """
    if not ids:
        raise KeyMissing(_MISSING.format(sender, where))
    if len({event_id for _, event_id in ids}) > 1:
        raise KeyInvalid(_DIFFERENT.format(sender, " and ".join(place for place, _ in ids)))
    return ids[0][1]


_MISSING = (
    "A webhook of {} has the id of its event in {}, and this request has none. The id must be a "
    "string, the same in each attempt to deliver the event."
)
_EMPTY = "A webhook of {} has the id of its event in {}, which is empty here."
_NO_ID = (
    "A webhook of {} has the id of its event in {}. Here this is not one id of visible ASCII "
    "characters without quotes, commas, semicolons and backslashes."
)
_NOT_A_STRING = "A webhook of {} has the id of its event in {}, which is not a string here."
_NOT_JSON = "A webhook of {} has the id of its event in a JSON body, and this body is not JSON."
_DIFFERENT = "This webhook of {} has different ids of its event in {}. Send one."
