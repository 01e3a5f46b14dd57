"""The words of the grammar (see ``grammar.md``): number words, units, and what moves a value."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from fractions import Fraction


def word_set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _numbered(words: str, start: int, step: int = 1) -> dict[str, int]:
    return {word: start + step * index for index, word in enumerate(words.split())}


SMALL = _numbered(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen",
    0,
)
SMALL |= _numbered("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10)
SCALES = {
    "tens": 10, "hundreds": 100, "thousands": 10**3,
    "hundred": 100, "dozen": 12, "dozens": 12, "thousand": 10**3, "lakh": 10**5, "lakhs": 10**5,
    "million": 10**6, "millions": 10**6, "crore": 10**7, "crores": 10**7, "billion": 10**9,
    "trillion": 10**12, "score": 20, "gross": 144, "mil": 10**6, "k": 10**3, "mn": 10**6,
    "bn": 10**9, "grand": 10**3,
}  # fmt: skip
SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "bn": 10**9}
SMALL |= {"nought": 0}
PARTS = {"half": 2, "quarter": 4, "fifteenth": 15, "sixteenth": 16, "twentieth": 20}
PARTS |= _numbered("third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth", 3)
PARTS |= {"hundredth": 100, "thousandth": 1000, "millionth": 10**6}
PLURAL_PARTS = {word + "s": number for word, number in PARTS.items()} | {"halves": 2}
"""A "second" is a unit and "halfs" no word; "quarters" are fourths, not coins."""

UNITS: dict[str, tuple[str, Fraction]] = {}
"""Unit of measure -> its dimension and its size in the smallest one."""
for _dimension, _units in {
    "time": "second,sec,s 1; minute,min 60; hour,hr,h 3600; day 86400; week 604800",
    "years": "month 1; year,yr 12",
    "length": "inch,in 1; foot,feet,ft 12; yard,yd 36; mile,mi 63360",
    "metric": "millimeter,mm 1; centimeter,cm 10; meter,metre,m 1000; kilometer,km 1000000",
    "weight": "ounce,oz 1; pound,lb 16; ton 32000",
    "mass": "milligram,mg 1; gram,g 1000; kilogram,kg,kilo 1000000",
    "volume": "milliliter,ml 1; liter,litre,l 1000",
    "money": "cent,¢,penny,pennie,pence,p,c 1; dollar,$,buck,usd,euro,€,eur,£ 100",
}.items():
    for _unit in _units.split("; "):
        _names, _size = _unit.split(" ")
        UNITS |= {name: (_dimension, Fraction(_size)) for name in _names.split(",")}


def unit_of(word: str) -> str:
    """A unit of measure in the singular, "" for any other word."""
    forms = (word, word.removesuffix("s"), word.removesuffix("es"))
    return next((form for form in forms if form in UNITS), "")


CURRENCY = frozenset({"$", "€", "£", "¥", "₹", "\\$"})
NEGATIVE = word_set("negative minus")
MULTIPLES = {"twice": 2, "double": 2, "thrice": 3, "triple": 3, "quadruple": 4}
PERCENT = word_set("% \\% percent percentage pct")

FILLERS = word_set(
    "given by about approximately approx around roughly exactly only just equal to equals is are "
    "be was that a an the of total number sum amount value simply therefore thus clearly hence "
    "then so indeed also now obviously equivalent precisely actually probably likely currently "
    "found rs usd eur gbp us inr cad i think believe it its it's he she they we there will would "
    "should must"
)
"""Words before a value that say nothing about it."""

BOUNDS = word_set(
    "≥ ≤ \\ge \\le \\geq \\leq than between least most over under above below beyond either "
    "neither nor not never almost nearly upto isn't wasn't without except besides instead root "
    "log square cube √ \\sqrt \\log \\ln \\pm ±"
)
"""Words before a value that make it a bound, an alternative or an argument."""

OPERATORS: dict[str, tuple[str, Callable[[Fraction, Fraction], Fraction] | None]] = {
    "times": ("", operator.mul),
    "multiplied": ("by", operator.mul),
    "plus": ("", operator.add),
    "minus": ("", operator.sub),
    "divided": ("by", operator.truediv),
    "over": ("", operator.truediv),
    "out": ("of", operator.truediv),
}
OPERATORS |= {word: ("than", None) for word in ("more", "greater", "less", "fewer")}
OPERATORS |= {
    word: ("", None)
    for word in word_set(
        "above below of to through by and or nor versus vs mod modulo until till r remainder"
    )
}
"""Between two values: the word that must follow, and what they make together (None: no value)."""

SIGNS = word_set("‰ + * / ^ ** × x ± \\pm \\times \\cdot \\div")
CHANGED: dict[str, Callable[[Fraction], Fraction]] = {
    "squared": lambda value: value**2,
    "cubed": lambda value: value**3,
    "doubled": lambda value: value * 2,
    "tripled": lambda value: value * 3,
    "trebled": lambda value: value * 3,
    "quadrupled": lambda value: value * 4,
    "halved": lambda value: value / 2,
    "negated": lambda value: -value,
}
"""Behind a value: what becomes of it."""

ALTERNATIVE = word_set("or and maybe perhaps possibly alternatively else even")
HEDGES = ALTERNATIVE | word_set(
    "might may could can be is are was it it's that's that this probably likely just about around "
    "exactly actually rather we they you get say as"
)
"""Between an "or" and a second value, or a comma and one: they make it no less an alternative."""

MODIFIED_BEHIND = re.compile(
    r"(?:[\s-]\s?\w+)?\s+(?:at\s+(?:the\s+)?(?:very\s+)?(?:most|least|minimum|maximum)\b"
    r"|(?:or|and|&)\s+(?:(?:even|any|many|much|a\s+bit|slightly|some)\s+)?"
    r"(?:more|less|fewer|greater|above|below|over|under|up|upwards?|beyond|higher|lower|bigger"
    r"|larger|smaller|beneath|longer|shorter|older|younger|later|earlier|better|worse|so\s+more)\b"
    r"|(?:minimum|maximum|max|min|upwards?)\b(?!\s+of)"
    r"|(?:short|shy|ahead|north|south)\s+of\b|away\s+from\b|off\s+(?:of\s+)?[$\d]|choose\s"
    r"|factorial\b|take\s+away\b"
    r"|(?:subtracted|deducted|removed|taken|added|raised|reduced|increased|decreased|multiplied"
    r"|divided|lowered)\s+(?:away\s+)?(?:from|to|by|with)\b"
    r"|(?:plus|minus|mod|modulo)\b(?!\s+(?:or\s+minus\s+)?\d)|less\s+(?:the|a|tax|\w+ty|\d|\w+teen)\b"
    r"|times\s+(?:that|the|what|this|his|her|its|their)\b|(?:more|fewer|less)\s+than\s+(?:what|that|the|his|her|last|he|she|they)\b"
    r"|multiples?\b|in\s+(?:binary|octal|hex\w*|base)\b|base\s+\d)"
    r"|\s?\+(?=\s*(?:$|[.,;!]|\w))|-ish\b|-odd\b|r\d",
    re.IGNORECASE,
)
"""Behind a value, with or without its noun: words that bound or change it."""

MODIFIED_BEFORE = re.compile(
    r"(?:\b(?:multiples?|factors?|divisors?|reciprocal|inverse|opposite|complement|supplement"
    r"|conjugate|negation|logarithm|sine|cosine|tangent|factorial|square|cube|roots?|powers?"
    r"|digits?|remainder|permutations?|neighbou?rs?|successor|predecessor|some(?:thing)?|part|any)\s+of"
    r"(?:\s+(?:the\s+)?(?:numbers?|value))?"
    r"|\bup\s+to|\bas\s+(?:many|much|few|little|high|low|large|small|long)\s+as"
    r"|\b(?:anything|everything|all)\s+but|\bdiffer(?:s|ent)\s+from|\bunequal\s+to"
    r"|\bnowhere\s+near|\bnothing\s+like|\bfar\s+from|\bdivisible\s+by|\bcoprime\s+to"
    r"|\b(?:\w+n't|not|never|cannot)\s+(?:(?:be|equal|exactly|really|simply|just|necessarily|the\s+case\s+that.*)\s*)*"
    r"|\bone\s+of|\b(?:north|south|short|shy|upwards?|ahead)\s+of"
    r"|\b(?:multiplied|divided|reduced|increased|decreased|raised)\s+(?:by|to)"
    r"|≠|!=|\\neq?|<=|>=|\bsin|\bcos|\btan|\blog|\bln|\bexp|\bmod|\bor\s+equal\s+to"
    r"|\b(?:next|prior|previous|subsequent)\s+to)\s*[$(\\ ]*$"
    r"|\b(?:unknown|undefined|undetermined|indeterminate|unclear|unsure|uncertain|impossible"
    r"|whether|not\s+(?:sure|certain|enough|known|clear|determined)|n(?:o|ot\s+a)\s+(?:number|value)"
    r"|can(?:not|'t|\s+not)\s+(?:be\s+)?(?:tell|told|know|known|determined?|say|said|decided?))\b",
    re.IGNORECASE,
)
"""Words before a value, up to it, that bound or change it or leave it open."""

CONCLUDED = re.compile(
    r"(?:\b(?:so|thus|hence|therefore|namely|i\.e|that\s+is|giving|making|which\s+(?:is|equals|makes|gives"
    r"|comes\s+to|rounds\s+(?:up\s+|down\s+)?to))\b|(?<![<>!])=)[\s,.:]*(?:(?:it|that|this|there|he|she|they|we)\s+(?:is|are|has|have|get|gets)\s+)?",
    re.IGNORECASE,
)
"""Before the value that a sentence ends in, after one that was only on the way there."""

NOTHING = word_set("null none nothing unknown undefined undetermined unclear indeterminate")
"""A statement that begins so has no value, whatever follows."""

GIVING_UP = re.compile(
    r"\bI(?:\s+am|'m)?\s+(?:really\s+|just\s+)?(?:can(?:not|'t)|could(?:n't|\s+not)|don't|do\s+not|give\s+up|unable|not\s+(?:sure|able|certain))"
    r"\s*(?:(?:work|figure|solve|find|tell|know|determine|say|decide|to)\b|$)"
    r"|\b(?:not\s+enough|insufficient)\s+(?:information|data|to)\b|\bimpossible\s+to\b"
    r"|\bcan(?:not|'t|\s+not)\s+be\s+(?:determined|known|solved|found|answered|computed|calculated)\b",
    re.IGNORECASE,
)
"""A sentence that commits to no value it holds."""

CORRECTING = re.compile(
    r"[\s,;(-]*(?:no,?\s+)?(?:(?:or\s+)?rather|(?:or\s+)?I\s+(?:mean|meant)|make\s+(?:that|it)|(?:no|nope),?|scratch\s+that"
    r"|correction|sorry|oops|wait|actually|that\s+should\s+be|should\s+be)\b",
    re.IGNORECASE,
)
"""Behind a comma: the next value replaces this one."""
CONCLUDING = word_set("so thus therefore hence leaving giving making =")
EXPLAINING = word_set("because since if when although though while whereas given")
BOUNDARY = CONCLUDING | EXPLAINING | word_set(
    "as to which but unless considering not rather instead where who after before due meaning i.e "
    "namely for per each every with in from on at without assuming including"
)  # fmt: skip
"""A clause begins here that leaves the value before it as it is."""

VERBS = word_set(
    "fail fails is are was were remain remains left will would has have had can could does do did "
    "isn't aren't wasn't cannot can't doesn't don't didn't won't seems makes make exceeds gives "
    "leaves ignores"
)
REFUTING = word_set(
    "fail fails too wrong incorrect impossible not isn't wasn't doesn't cannot can't don't never "
    "unlikely invalid insufficient"
)
ADVERBS = word_set("far way also still just simply clearly much obviously a the be")

SKIPPED = CURRENCY | set("\"'`()[]{}<>~≈=:,*_|#…") | word_set(
    "\\( \\) \\[ \\] \\{ \\} \\approx \\, \\; \\! \\: \\sim \\text \\mathrm \\textbf \\textit "
    "\\mathbf \\boxed \\left \\right \\quad \\qquad \\mbox \\displaystyle \\colon \\implies "
    "\\therefore \\bf \\rm"
) | {"\\ "}  # fmt: skip
"""Marks before a value that carry no meaning."""
