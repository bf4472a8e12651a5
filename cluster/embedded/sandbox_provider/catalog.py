"""Products, prices and coupons of the sandbox."""

from __future__ import annotations

from cluster.embedded.sandbox_provider.errors import ApiError, missing
from cluster.embedded.sandbox_provider.store import Document, Store


class Catalog:
    def __init__(self, store: Store) -> None:
        self._store = store

    def create_product(self, p: Document) -> Document:
        made_id = p.get("id") or self._store.fresh("prod")
        if self._store.get(made_id) is not None:
            raise ApiError(f"Product already exists: {made_id}", code="resource_already_exists", param="id")
        return self._store.add({
            "id": made_id, "object": "product", "active": True, "created": self._store.now(), "description": p.get("description"),
            "livemode": False, "metadata": p.get("metadata", {}), "name": p["name"],
        })

    def create_price(self, p: Document) -> Document:
        if self._store.get(p.get("product", ""), "product") is None:
            raise missing("product", p.get("product", ""), "product")
        if "unit_amount" not in p or p["unit_amount"] < 0:
            raise ApiError("Invalid unit_amount", param="unit_amount")
        key = p.get("lookup_key")
        if key is not None and any(price["lookup_key"] == key for price in self._store.all("price")):
            raise ApiError(f"A price (`{key}`) already uses that lookup key.", param="lookup_key")
        recurring = p.get("recurring")
        return self._store.add({
            "id": self._store.fresh("price"), "object": "price", "active": True, "created": self._store.now(),
            "currency": p["currency"].lower(), "livemode": False, "lookup_key": key, "metadata": p.get("metadata", {}),
            "nickname": p.get("nickname"), "product": p["product"],
            "recurring": recurring and {"interval": recurring["interval"], "interval_count": recurring.get("interval_count", 1), "usage_type": "licensed"},
            "type": "recurring" if recurring else "one_time", "unit_amount": p["unit_amount"],
        })

    def prices(self, p: Document) -> list[Document]:
        keys = p.get("lookup_keys")
        return [price for price in self._store.all("price") if keys is None or price["lookup_key"] in keys]

    def price(self, object_id: str, param: str) -> Document:
        found = self._store.get(object_id, "price")
        if found is None or found["recurring"] is None:
            raise missing("price", object_id, param)
        return found

    def create_coupon(self, p: Document) -> Document:
        made_id = p.get("id") or self._store.fresh("coupon")
        if self._store.get(made_id) is not None:
            raise ApiError(f"Coupon already exists: {made_id}", code="resource_already_exists", param="id")
        if not 0 < p.get("percent_off", 0) <= 100:
            raise ApiError("This sandbox has coupons with percent_off only.", param="percent_off")
        duration = p.get("duration", "once")
        if (duration == "repeating") != ("duration_in_months" in p):
            raise ApiError("duration_in_months goes with duration=repeating.", param="duration_in_months")
        return self._store.add({
            "id": made_id, "object": "coupon", "created": self._store.now(), "duration": duration,
            "duration_in_months": p.get("duration_in_months"), "livemode": False, "metadata": p.get("metadata", {}),
            "percent_off": p["percent_off"], "valid": True,
        })

    def coupon(self, object_id: str) -> Document:
        found = self._store.get(object_id, "coupon")
        if found is None:
            raise missing("coupon", object_id, "discounts[0][coupon]")
        return found
