"""Companies and topics of the invented news, and the words that fill its phrases."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Company:
    """An invented company of the watch list."""

    name: str
    ticker: str
    short: str
    """Short name, which documents use 40% of the time."""
    product: str
    about: str

    @property
    def id(self) -> str:
        return self.name.lower().replace("&", "and").replace(" ", "-").replace("'", "")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the watch list."""

    id: str
    name: str
    aliases: tuple[str, ...]
    description: str


COMPANIES: tuple[Company, ...] = (
    Company("Northvale Steel", "NVST", "Northvale", "flat steel", "Makes flat steel for cars and buildings."),
    Company("Copperline Energy", "CPLN", "Copperline", "solar parks", "Builds and runs solar parks."),
    Company("Halden Foods", "HLDF", "Halden", "frozen meals", "Makes frozen meals and snacks."),
    Company("Brightwater Pharma", "BWPH", "Brightwater", "heart drugs", "Develops drugs for heart disease."),
    Company("Quillon Semiconductor", "QLSC", "Quillon", "power chips", "Makes power chips for cars."),
    Company(
        "Stonebridge Logistics", "STBL", "Stonebridge", "freight services", "Moves freight by road and rail."
    ),
    Company("Verdane Motors", "VRDM", "Verdane", "electric vans", "Builds electric vans."),
    Company("Oakhurst Insurance", "OKHI", "Oakhurst", "home insurance", "Insures homes and small firms."),
    Company(
        "Lumenport Software", "LMPT", "Lumenport", "payroll software", "Sells payroll software to firms."
    ),
    Company("Cinderfield Mining", "CNDF", "Cinderfield", "copper ore", "Mines copper and zinc."),
    Company("Ashgrove Retail", "ASHR", "Ashgrove", "clothing", "Runs clothing shops and a web shop."),
    Company("Tidewater Shipping", "TDWS", "Tidewater", "container transport", "Runs container ships."),
    Company("Kestrel Aerospace", "KSTA", "Kestrel", "aircraft seats", "Makes aircraft seats and cabins."),
    Company("Marrowby Chemicals", "MRRW", "Marrowby", "coatings", "Makes coatings and adhesives."),
    Company("Pinecrest Telecom", "PNCT", "Pinecrest", "mobile plans", "Runs a mobile network."),
    Company("Solbeck Breweries", "SLBK", "Solbeck", "craft beer", "Brews beer and soft drinks."),
    Company("Ferncastle Homes", "FRNC", "Ferncastle", "family houses", "Builds family houses."),
    Company("Wexmoor Robotics", "WXMR", "Wexmoor", "warehouse robots", "Makes warehouse robots."),
    Company("Allbright Stores", "ALL", "Allbright", "groceries", "Runs discount supermarkets."),
    Company("Drayton Airlines", "DRYA", "Drayton", "short flights", "Flies short routes."),
    Company("Meridian Capital", "MRDC", "Meridian", "consumer loans", "Lends to consumers."),
    Company("Meridian Water", "MRDW", "Meridian", "water treatment", "Treats water for towns."),
    Company("Thornbury Media", "THBM", "Thornbury", "streaming series", "Makes series and films."),
    Company("Elmswick Paper", "ELMW", "Elmswick", "packaging", "Makes board and packaging."),
    Company("Granite Peak Cement", "GPCM", "Granite Peak", "cement", "Makes cement and concrete."),
    Company("Novarra Biotech", "NVRB", "Novarra", "gene therapies", "Develops gene therapies."),
    Company("Silverlake Gaming", "SLGM", "Silverlake", "mobile games", "Publishes mobile games."),
    Company("Corvane Batteries", "CRVB", "Corvane", "battery cells", "Makes battery cells."),
    Company("Harrowgate Hotels", "HRGT", "Harrowgate", "hotel rooms", "Runs city hotels."),
    Company("Pellworth Tools", "PLWT", "Pellworth", "power tools", "Makes power tools."),
)

TOPICS: tuple[Topic, ...] = (
    Topic(
        "interest-rates",
        "Interest rates",
        ("interest rates", "rate rises"),
        "Central banks, policy rates and the cost of borrowing.",
    ),
    Topic(
        "trade-tariffs",
        "Trade tariffs",
        ("trade tariffs", "import duties"),
        "Duties on imports, trade disputes and quotas between countries.",
    ),
    Topic(
        "energy-prices",
        "Energy prices",
        ("energy prices", "power prices"),
        "Prices of electricity, gas and oil for homes and industry.",
    ),
    Topic(
        "supply-chains",
        "Supply chains",
        ("supply chains", "chip shortages"),
        "Shortages of parts, late deliveries and freight costs.",
    ),
    Topic(
        "labour-costs",
        "Labour costs",
        ("labour costs", "wage talks"),
        "Wages, strikes and shortages of workers.",
    ),
    Topic(
        "climate-rules",
        "Climate rules",
        ("climate rules", "emission limits"),
        "Rules on emissions, carbon prices and reporting on climate.",
    ),
)

FIRMS = (
    *("Carrow & Pike", "Delmont Securities", "Finchley Research", "Greycoat Partners", "Hollis Brothers"),
    *("Inverlane", "Jasper Street", "Larkfield Bank", "Redhill Equities", "Tolland Markets"),
)
CLIENTS = (
    *("Arden Group", "the city of Calder", "the defence ministry", "Ostrava Rail", "Penrose Holdings"),
    *("a large retailer", "Vantage Cars", "West Harbour Port", "Zephyr Wind", "the health service"),
)
PLACES = (
    *("Calder", "Lisbon", "Ostrava", "Rotterdam", "Singapore", "Toronto", "Vienna", "Leeds", "Houston"),
    *("Gothenburg", "Santiago", "Busan"),
)
PEOPLE = (
    *("Anna Ferris", "Boris Lindqvist", "Carla Mendes", "David Okafor", "Elena Ruiz", "Frank Tan"),
    *("Grace Holloway", "Hiro Tanaka", "Ines Duarte", "Jonas Weber"),
)
SOURCES = ("Calder Wire", "Morning Ledger", "Market Post", "Capital Daily", "Exchange Notices", "The Quay")
POST_SOURCES = ("ticker-talk", "streetchat")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
