"""What the shop sells, and what counts as an order."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 9


@dataclass(frozen=True, slots=True)
class Product:
    """A product; its picture is ``templates/art/<slug>.svg``."""

    slug: str
    name: str
    note: str
    price: int


SHELF = (
    Product("teapot", "Teapot", "Stoneware, four cups", 38),
    Product("mug", "Mug", "Sits well in one hand", 14),
    Product("lamp", "Desk lamp", "Warm light, quiet switch", 64),
    Product("plant", "Plant", "Forgives a late watering", 22),
    Product("notebook", "Notebook", "Dotted, opens flat", 12),
    Product("candle", "Candle", "Beeswax, thirty hours", 18),
)
PRODUCTS = {product.slug: product for product in SHELF}


class Unfit(ValueError):
    """The order cannot be placed as it was sent."""


def check(product: object, quantity: object) -> tuple[Product, int]:
    """Return the product and the quantity, or raise `Unfit` with a sentence for the customer."""
    if not isinstance(product, str) or product not in PRODUCTS:
        raise Unfit(f"Choose one of these products: {', '.join(PRODUCTS)}.")
    # True is an int to Python, never to a customer.
    if not isinstance(quantity, int) or isinstance(quantity, bool) or not 1 <= quantity <= MOST:
        raise Unfit(f"The quantity is a whole number from 1 to {MOST}.")
    return PRODUCTS[product], quantity
