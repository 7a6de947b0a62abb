"""Forms of Flask-WTF and WTForms that carry an idempotency key (extra ``forms``)."""

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
    """A hidden field with a new key each time it is rendered.

    Its name in the page is ``IDEMPOTENT_FIELD``, whatever the prefix of the form.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = self.id = field_name()
        # Templates of other extensions skip hidden fields by this name.
        self.type = "HiddenField"

    def _value(self) -> str:
        # Not the key that was sent: a form that is shown again will be sent with other data.
        return new_key()

    def populate_obj(self, obj: object, name: str) -> None:
        """Do nothing: the key is not part of the object's data."""


class IdempotentForm:
    """A mixin for forms: ``class OrderForm(IdempotentForm, FlaskForm)``.

    ``form.hidden_tag()`` renders the key.
    """

    idempotent_key = IdempotentKeyField()

    def __delitem__(self, name: str) -> None:
        # Flask-Admin deletes fields of its lists by their names in the page.
        form: Any = self
        if "idempotent_key" in form and name == form["idempotent_key"].name:
            name = "idempotent_key"
        super().__delitem__(name)  # type: ignore[misc]
