"""The shop: where it runs, what it is made of, what it sells and who buys. Constants, and choices made from them."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Region:
    """share: of all requests. utc_offset: hours to local time, which the shop's day follows. network: of its nodes."""

    name: str
    share: float
    utc_offset: int
    network: str


@dataclass(frozen=True, slots=True)
class Service:
    """One service as it is deployed. version: at the beginning. changes: what its next versions bring."""

    name: str
    version: tuple[int, int, int]
    replicas: int
    changes: tuple[str, ...] = ()


EUROPE = Region("eu-west-1", 0.65, 1, "10.20")
AMERICA = Region("us-east-1", 0.35, -5, "10.40")
REGIONS = (EUROPE, AMERICA)

SERVICES = (
    Service("gateway", (5, 2, 1), 3, ("Add HTTP/3 to edge listeners", "Log the upstream's name with every error")),
    Service("storefront", (8, 14, 0), 3, ("Show delivery date on product pages", "Lazy-load product images",
                                          "Translate the size chart to Dutch")),
    Service("catalog", (3, 7, 2), 2, ("Sort categories by popularity", "Cache category trees for 10 minutes")),
    Service("search", (2, 31, 5), 2, ("Accept plural forms", "Boost products in stock")),
    Service("recommendation", (1, 9, 0), 2, ("Roll out model m-2026-47", "Leave out products bought already")),
    Service("cart", (4, 4, 3), 2, ("Keep carts for 30 days", "Merge guest carts at sign-in")),
    Service("checkout", (6, 0, 8), 2, ("Show the total before taxes", "Validate postal codes by country")),
    Service("payment", (2, 13, 3), 2),
    Service("inventory", (3, 22, 1), 2, ("Count returns at once", "Read stock of the new warehouse")),
    Service("shipping", (2, 8, 6), 2, ("Print labels in A6", "Add parcel shops in Belgium")),
    Service("notification", (1, 17, 4), 2, ("New template for order confirmations", "Send push before e-mail")),
    Service("identity", (7, 1, 0), 2, ("Shorten password reset links", "Rotate signing keys weekly")),
    Service("nginx", (1, 29, 3), 2),
    Service("postgres", (17, 6, 0), 1),
    Service("redis", (8, 2, 1), 1),
)  # fmt: skip

USERS = 5_000
PRODUCTS = 800
CATEGORIES = ("chairs", "tables", "lamps", "rugs", "shelves", "kitchen", "garden", "textiles", "outlet")
WORDS = ("oak", "desk", "lamp", "led", "rug", "wool", "chair", "shelf", "kids", "garden", "pillow", "cup", "sofa",
         "blue", "white", "drawer", "mirror", "plant")  # fmt: skip
CARRIERS = ("DHL", "UPS", "PostNL")
CARDS = ("visa", "mastercard", "amex")
WAREHOUSES = {EUROPE: ("ROT1", "LEJ2"), AMERICA: ("EWR4",)}
BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 Version/18.6 Mobile Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
)
_FLATTEN = 30
"""Zipf–Mandelbrot: without it one user would make a tenth of all requests."""


def rank(rng: Random, count: int) -> int:
    """A number below `count`, where the small ones are the frequent ones: Zipf–Mandelbrot with exponent 1."""
    return int(_FLATTEN * ((count + _FLATTEN) / _FLATTEN) ** rng.random()) - _FLATTEN


def user_id(rng: Random) -> str:
    """Who makes a request. Being frequent does not show in the number."""
    return f"u{10_000 + rank(rng, USERS) * 3_301 % USERS}"


def product(rng: Random) -> str:
    """An article number."""
    return f"P{1_000 + rank(rng, PRODUCTS) * 307 % PRODUCTS}"
