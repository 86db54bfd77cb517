"""A shop: filters, facets, and stock that can't be sold twice."""

import threading

import vectordb
from vectordb import F, Float, Int, Keyword, PreconditionError, Schema, Sparse, Text

PRODUCTS = [
    ("T-100", "Light tent for two people, waterproof", "Fernway", 189.0, 3, ["tent", "summer"]),
    ("T-200", "Roomy tent for five people", "Fernway", 420.0, 0, ["tent", "family"]),
    ("S-100", "Warm sleeping bag for winter nights", "Polaris", 260.0, 5, ["sleep", "winter"]),
    ("S-200", "Thin sleeping bag for summer nights", "Fernway", 59.9, 40, ["sleep", "summer"]),
    ("L-100", "Waterproof head lamp", "Lumen", 38.0, 61, ["light"]),
]


def make(db):
    products = db.create_collection(
        "products",
        Schema(
            vectors={"words": Sparse(encoder="bm25", source="text")},
            attributes={"text": Text(), "brand": Keyword(), "price": Float(), "stock": Int(), "tags": Keyword(array=True)},
        ),
    )
    ids, *columns = map(list, zip(*PRODUCTS, strict=True))
    products.upsert(ids=ids, attributes=dict(zip(("text", "brand", "price", "stock", "tags"), columns, strict=True)))
    return products


def facet(products, field, condition):
    """value → how many products that match the condition have it."""
    values = set()
    for point in products.iterate(filter=condition, with_attributes=[field]):
        value = point.attributes.get(field, [])
        values.update(value if isinstance(value, list) else [value])
    return {value: products.count(condition & F(field).isin([value])) for value in sorted(values)}


def sell(products, sku):
    """Take one of the stock; False when there is none."""
    while True:
        point = products.get(sku)
        if not point.attributes["stock"]:
            return False
        try:
            products.update([{"id": sku, "attributes": {"stock": point.attributes["stock"] - 1}}], if_version=point.version)
            return True
        except PreconditionError:
            continue  # somebody else bought one meanwhile


def main():
    with vectordb.open(":memory:") as db:
        products = make(db)
        there = F("stock") > 0
        for hit in products.search(text="waterproof tent", filter=there & (F("price") < 300)):
            print(f"{hit.score:5.2f}  {hit.id}  {hit.attributes['text']}")
        print("brands:", facet(products, "brand", there))
        print("tags:  ", facet(products, "tags", there))

        sold = []
        buyers = [threading.Thread(target=lambda: sold.append(sell(products, "T-100"))) for _ in range(5)]
        for buyer in buyers:
            buyer.start()
        for buyer in buyers:
            buyer.join()
        print(f"5 buyers, 3 tents: {sum(sold)} sold, {products.get('T-100').attributes['stock']} left")


if __name__ == "__main__":
    main()
