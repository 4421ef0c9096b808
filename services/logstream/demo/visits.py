"""Requests of people who look around: pages, products, searches, carts, accounts."""

from collections.abc import Callable
from random import Random

from logstream.demo.shop import CARRIERS, CATEGORIES, WAREHOUSES, WORDS, product
from logstream.demo.sink import Request

_PAGES = (("/", "/"), ("/sale", "/sale"), ("/category/{name}", "/category/"))


def browse(r: Request) -> None:
    """A page with many products."""
    rng = r.rng
    route, path = _PAGES[int(rng.random() * 3)]
    category = rng.choice(CATEGORIES)
    if route.endswith("}"):
        path += category
    listing, page = r.took(14), r.took(38)
    _cached(r, f"category:{category}", 3)
    r.write(4 + listing, "catalog", "info", f"Listed {rng.randint(3, 48)} products of category {category}",
            latency_ms=f"{listing:.1f}", category=category)  # fmt: skip
    if rng.random() < 0.4:
        _recommend(r, 5 + listing)
    total = listing + page
    r.write(total, "storefront", "info", f"Rendered page {route} in {page:.0f} ms", latency_ms=f"{page:.1f}",
            route=route)  # fmt: skip
    r.answer(total + 3, "GET", route, path)


def look(r: Request) -> None:
    """The page of one product; now and then of one that is no longer sold."""
    rng = r.rng
    sku = product(rng)
    found = rng.random() > 0.015
    loading, page = r.took(9), r.took(30)
    _cached(r, f"product:{sku}", 2)
    if not found:
        r.write(3 + loading, "catalog", "info", f"Product {sku} is not sold any more", product_id=sku)
        r.answer(loading + 8, "GET", "/product/{id}", f"/product/{sku}", 404)
        return
    r.write(3 + loading, "catalog", "info", f"Loaded product {sku} in {loading:.0f} ms", latency_ms=f"{loading:.1f}",
            product_id=sku)  # fmt: skip
    stock = max(0, int(rng.gauss(60, 40)))
    warehouse = rng.choice(WAREHOUSES[r.region])
    r.write(6 + loading, "inventory", "info", f"Stock of {sku} in {warehouse}: {stock}", product_id=sku,
            warehouse=warehouse)  # fmt: skip
    if rng.random() < 0.4:
        _recommend(r, 7 + loading)
    total = 8 + loading + page
    r.write(total, "storefront", "info", f"Rendered page /product/{{id}} in {page:.0f} ms", latency_ms=f"{page:.1f}",
            route="/product/{id}", product_id=sku)  # fmt: skip
    r.answer(total + 3, "GET", "/product/{id}", f"/product/{sku}")


def search(r: Request) -> None:
    """A full-text search."""
    rng = r.rng
    words = " ".join(rng.sample(WORDS, rng.choice((1, 1, 2, 2, 3))))
    took = r.took(45, 0.7)
    hits = 0 if rng.random() < 0.06 else rng.randint(1, 400)
    if hits:
        message = f'Query "{words}" matched {hits} products in {took:.0f} ms'
        r.write(3 + took, "search", "info", message, latency_ms=f"{took:.1f}", hits=str(hits))
    else:
        r.write(3 + took, "search", "info", f'No products for "{words}"', latency_ms=f"{took:.1f}", hits="0")
        r.write(5 + took, "search", "debug", f'Suggesting "{words[:-1]}" instead')
    r.answer(took + 12, "GET", "/search", f"/search?q={words.replace(' ', '+')}")


def cart(r: Request) -> None:
    """Something goes into the cart, or out of it."""
    rng = r.rng
    sku, count, took = product(rng), rng.choice((1, 1, 1, 2, 4)), r.took(16)
    number = f"c{int(r.user[1:]) * 31 % 99_991:05d}"
    if rng.random() < 0.8:
        r.write(3 + took / 2, "inventory", "debug", f"Checked stock of {sku}: enough for {count}", product_id=sku)
        r.write(3 + took, "cart", "info", f"Added {count} x {sku} to cart {number}", cart_id=number, product_id=sku,
                latency_ms=f"{took:.1f}")  # fmt: skip
        r.answer(took + 7, "POST", "/cart/items", "/cart/items", 201)
    else:
        r.write(3 + took, "cart", "info", f"Removed {sku} from cart {number}", cart_id=number, product_id=sku,
                latency_ms=f"{took:.1f}")  # fmt: skip
        r.answer(took + 6, "DELETE", "/cart/items/{id}", f"/cart/items/{sku}", 204)


def sign_in(r: Request) -> None:
    """With a password, mostly the right one, or by a token that is about to end."""
    rng = r.rng
    chance = rng.random()
    if chance < 0.45:
        r.write(9, "identity", "info", f"Refreshed access token of user {r.user}, valid for 900 s")
        r.answer(14, "POST", "/token", "/token")
        return
    hashing = r.took(85, 0.2)
    if chance < 0.55:
        r.write(hashing, "identity", "warn", f"Sign-in of user {r.user} failed: wrong password "
                f"(attempt {rng.choice((1, 1, 1, 2, 2, 3))} of 5)", reason="wrong_password")  # fmt: skip
        r.answer(hashing + 5, "POST", "/sign-in", "/sign-in", 401)
        return
    r.write(hashing, "identity", "info", f"User {r.user} signed in from {r.client}", latency_ms=f"{hashing:.1f}")
    r.write(hashing + 2, "identity", "debug", f"Issued access token for user {r.user}, scopes cart orders profile")
    r.answer(hashing + 6, "POST", "/sign-in", "/sign-in")


def orders(r: Request) -> None:
    """Where is my parcel?"""
    rng = r.rng
    took, carrier = r.took(60, 0.6), rng.choice(CARRIERS)
    order = f"A{rng.randrange(10**6, 10**7)}"
    r.write(4, "identity", "debug", f"Verified access token of user {r.user}")
    r.write(8 + took, "shipping", "info", f"Parcel of order {order} is "
            f"{rng.choice(('in transit', 'delivered', 'out for delivery'))}",
            latency_ms=f"{took:.1f}", carrier=carrier, order_id=order)  # fmt: skip
    r.answer(took + 20, "GET", "/orders/{id}", f"/orders/{order}")


def pick(rng: Random) -> Callable[[Request], None]:
    """What somebody who does not buy does."""
    chance = rng.random()
    for limit, visit in _VISITS:
        if chance < limit:
            return visit
    return orders


_VISITS: tuple[tuple[float, Callable[[Request], None]], ...] = (
    (0.40, browse), (0.67, look), (0.80, search), (0.90, cart), (0.96, sign_in),
)  # fmt: skip


def _cached(r: Request, key: str, after: float) -> None:
    chance = r.rng.random()
    if chance < 0.10:
        r.write(after, "redis", "debug", f"GET {key} hit")
    elif chance < 0.13:
        r.write(after, "redis", "debug", f"GET {key} miss, loading it took {r.took(12):.1f} ms")


def _recommend(r: Request, after: float) -> None:
    took = r.took(20, 0.6)
    r.write(after + took, "recommendation", "info",
            f"Recommended {r.rng.randint(4, 12)} products to user {r.user}, model m-2026-46",
            latency_ms=f"{took:.1f}")  # fmt: skip
