"""Flask-WTF and WTForms: a form that carries an idempotency key (extra ``forms``)."""

from __future__ import annotations

from typing import Any

try:
    from wtforms import HiddenField
except ImportError as error:  # pragma: no cover - proved by a test in a process of its own
    raise ImportError(
        "flask_idempotent.forms needs WTForms: pip install 'flask-idempotent[forms]'"
    ) from error

from flask_idempotent.web.templating import field_name, new_key


class IdempotentKeyField(HiddenField):
    """A hidden field with a fresh key at every rendering.

    Its name in the page is ``IDEMPOTENT_FIELD``, whatever the form's prefix.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = self.id = field_name()

    def _value(self) -> str:
        # Never the one that was sent: a form shown again is for another try with other data.
        return new_key()

    def populate_obj(self, obj: object, name: str) -> None:
        """Leave the object alone: the key is no data of its own."""


class IdempotentForm:
    """Mixin: ``class OrderForm(IdempotentForm, FlaskForm)``, rendered by ``form.hidden_tag()``."""

    idempotent_key = IdempotentKeyField()
