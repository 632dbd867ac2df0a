"""Makers of the goods, their colours and lines, and the personas of shoppers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Brand:
    """A maker."""

    name: str
    level: float
    """Price level; 1 is usual."""
    categories: tuple[str, ...]


COLOURS: dict[str, tuple[str, ...]] = {
    "outdoor": ("moss green", "slate grey", "rust", "navy", "sand", "charcoal", "deep red", "petrol blue"),
    "bright": ("signal orange", "lime", "sky blue", "red", "yellow", "black", "white"),
    "home": ("oatmeal", "off-white", "sage", "terracotta", "dusty rose", "ink blue", "mustard", "graphite"),
    "natural": ("natural", "honey", "walnut brown", "black", "white"),
    "metal": ("silver", "matt black", "copper", "graphite"),
    "plain": ("black", "grey", "white", "olive"),
}

BRANDS: tuple[Brand, ...] = (
    Brand("Halden", 1.35, ("tents", "sleeping bags", "backpacks", "jackets")),
    Brand("Tarnvik", 1.0, ("tents", "sleeping bags", "camp kitchen", "camp furniture")),
    Brand("Lowmoor", 0.7, ("tents", "sleeping bags", "backpacks", "camp furniture", "lighting")),
    Brand("Brackenfell", 1.1, ("backpacks", "jackets", "boots", "base layers")),
    Brand("Stenberg & Ask", 1.5, ("jackets", "boots", "base layers")),
    Brand("Corrie", 0.8, ("jackets", "boots", "base layers", "backpacks")),
    Brand("Vetle", 1.2, ("boots", "base layers", "climbing")),
    Brand("Kestrel Works", 1.3, ("climbing", "lighting", "backpacks")),
    Brand("Arete", 1.0, ("climbing", "base layers")),
    Brand("Ember & Co", 1.15, ("camp kitchen", "lighting", "barbecue")),
    Brand("Pinch of Salt", 0.75, ("camp kitchen", "kitchenware", "barbecue")),
    Brand("Velour Cycles", 1.25, ("cycling",)),
    Brand("Spoke & Mile", 0.85, ("cycling", "lighting")),
    Brand("Ridgeway", 1.0, ("cycling", "backpacks", "jackets")),
    Brand("Greenhithe", 1.0, ("garden tools", "planters", "garden furniture")),
    Brand("Old Orchard", 1.3, ("garden tools", "planters", "barbecue")),
    Brand("Sprout", 0.7, ("garden tools", "planters")),
    Brand("Marlowe Home", 1.2, ("blankets and cushions", "lamps", "storage", "garden furniture")),
    Brand("Fennel & Flax", 1.0, ("blankets and cushions", "kitchenware", "storage")),
    Brand("Hygg", 0.8, ("blankets and cushions", "lamps", "storage", "kitchenware")),
    Brand("Castell Foundry", 1.4, ("kitchenware", "barbecue")),
    Brand("Oskar Lind", 1.5, ("lamps", "garden furniture", "storage")),
    Brand("Daybreak", 0.75, ("camp furniture", "garden furniture", "lamps", "camp kitchen")),
    Brand("Wayfarer Supply", 0.95, ("camp furniture", "camp kitchen", "lighting", "sleeping bags")),
)

LINES: tuple[str, ...] = (
    "Fjell", "Juniper", "Loch", "Marten", "Solstice", "Heron", "Alder", "Drift", "Granite",
    "Meadow", "Tern", "Harbour", "Birch", "Nomad", "Quarry", "Willow", "Pass", "Beacon", "Cairn",
    "Thistle", "Dune", "Lark", "Ferry", "Orrin", "Sorrel", "Tansy", "Ravine", "Osprey", "Hollow",
    "Kelda",
)  # fmt: skip
"""Names of makers' product lines. Shoppers look for the lines that they like."""

PERSONAS: dict[str, dict[str, float]] = {
    "hiker": {"boots": 5, "backpacks": 4, "jackets": 4, "base layers": 3, "camp kitchen": 2, "lighting": 1},
    "camper": {
        "tents": 5,
        "sleeping bags": 5,
        "camp kitchen": 4,
        "camp furniture": 4,
        "lighting": 3,
        "barbecue": 1,
    },
    "climber": {"climbing": 8, "jackets": 2, "base layers": 2, "backpacks": 2, "lighting": 1},
    "cyclist": {"cycling": 8, "jackets": 2, "lighting": 1, "backpacks": 1, "base layers": 1},
    "gardener": {"garden tools": 6, "planters": 6, "garden furniture": 2, "barbecue": 1, "storage": 1},
    "cook": {"kitchenware": 7, "barbecue": 3, "camp kitchen": 1, "planters": 1, "storage": 1},
    "nester": {"blankets and cushions": 5, "lamps": 5, "storage": 4, "planters": 2, "kitchenware": 2},
    "terrace": {"garden furniture": 5, "barbecue": 4, "lamps": 2, "planters": 2, "blankets and cushions": 2},
}
"""Weights of the categories that each persona looks at; a shopper combines one or two personas."""
