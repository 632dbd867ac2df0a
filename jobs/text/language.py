"""Detects the language of a text, and handles language tags.

It uses lingua 2.1 (n-gram models, offline). All its 75 languages in low-accuracy mode (trigrams only) load in
0.4 s and take 65 MB. The full models load in 5.6 s and take 900 MB, and their results differ only for texts
of less than about 120 characters.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from threading import Lock

from lingua import IsoCode639_1, Language, LanguageDetector, LanguageDetectorBuilder

from jobs.errors import InputError

_TAG = re.compile(
    r"(?P<language>[a-z]{2,3})(?P<script>-[a-z]{4})?(?P<region>-(?:[a-z]{2}|\d{3}))?(?P<variants>(?:-[a-z0-9]{5,8})*)",
    re.IGNORECASE,
)
"""Matches a language tag as in RFC 5646, section 2.1, but without extensions, private use and the reserved
languages of 4 to 8 letters."""

_LOCK = Lock()


class LanguageTagError(InputError):
    """The text is not a language tag of BCP 47."""

    code = "language_tag_invalid"


def normal_tag(tag: str) -> str:
    """Return a language tag in the case that RFC 5646, section 2.1.1, recommends. Raises LanguageTagError.

    >>> normal_tag("pt-br"), normal_tag("ZH-hant-tw")
    ('pt-BR', 'zh-Hant-TW')
    """
    match = _TAG.fullmatch(tag.strip().replace("_", "-"))
    if match is None:
        names = {language.name.lower(): language.iso_code_639_1.name.lower() for language in Language.all()}
        hint = names.get(tag.strip().lower(), "en")
        raise LanguageTagError(f"{tag[:40]!r} is not a BCP 47 language tag: write {hint!r}, for example")
    script, region = match["script"] or "", match["region"] or ""
    return f"{match['language'].lower()}{script.title()}{region.upper()}{match['variants'].lower()}"


@lru_cache(maxsize=1_000)
def language_name(tag: str) -> str:
    """Return the English name of a tag's language, or the tag itself if lingua does not know the language.

    >>> language_name("pt-BR"), language_name("tlh")
    ('Portuguese', 'tlh')
    """
    primary = tag.partition("-")[0].upper()
    for language in Language.all():
        if primary in (language.iso_code_639_1.name, language.iso_code_639_3.name):
            return language.name.title()
    return tag


def detect_language(text: str) -> str | None:
    """Return the ISO 639-1 code of the most likely language, or None for a text without words. Thread-safe.

    >>> detect_language("Le pain demande de la farine, de l'eau, du sel et surtout beaucoup de temps.")
    'fr'
    """
    with _LOCK:  # the first caller loads the models; the others wait for it
        detector = _detector()
    language = detector.detect_language_of(text)
    return language.iso_code_639_1.name.lower() if language is not None else None


def language_confidence(text: str, code: str) -> float:
    """Return the probability that the text is in the language with this ISO 639-1 code. Thread-safe.

    The probability is 0 for a text without three consecutive letters, because the models consist of trigrams.

    >>> language_confidence("bread needs time", "en") > 0.9, language_confidence("pane e tempo", "en") < 0.1
    (True, True)
    """
    with _LOCK:
        detector = _detector()
    language = Language.from_iso_code_639_1(IsoCode639_1.from_str(code))
    return detector.compute_language_confidence(text, language)


@cache
def _detector() -> LanguageDetector:
    return LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()
