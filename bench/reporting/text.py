"""Names, titles and other text from outside, as the formats of a report show them: as text, whatever is in it."""

import re
import unicodedata

from bench.text import printable

__all__ = ["code_span", "figure_text", "latex_text", "markdown_text", "without_zero"]

# Of Markdown as GitHub reads it what acts within a line: emphasis, code, links, HTML and entities, tables, formulas. An
# underscore within a word is one, as are < before a space, and brackets that are neither a link's nor a footnote's.
_MARKDOWN = re.compile(r"[\\`*|~$]|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|&(?=#?\w+;)|\](?=[(\[:])|\[(?=\^)|#+$")
_ENTITIES = {"<": "&lt;", "&": "&amp;"}
# signs of formulas, by their commands, which every engine and font knows
_SIGNS = {
    "≥": "geq", "≤": "leq", "≠": "neq", "≈": "approx", "≅": "cong", "≡": "equiv", "∼": "sim", "∝": "propto", "≪": "ll",
    "≫": "gg", "∞": "infty", "√": "surd", "∑": "sum", "∏": "prod", "∫": "int", "∂": "partial", "∇": "nabla",
    "∈": "in", "∉": "notin", "∩": "cap", "∪": "cup", "⊂": "subset", "⊆": "subseteq", "∅": "emptyset", "∀": "forall",
    "∃": "exists", "∧": "wedge", "∨": "vee", "←": "leftarrow", "→": "to", "↑": "uparrow", "↓": "downarrow",
    "↔": "leftrightarrow", "⇒": "Rightarrow", "⇔": "Leftrightarrow", "↦": "mapsto", "⋅": "cdot", "∘": "circ",
    "⊕": "oplus", "⊗": "otimes", "∗": "ast", "⋯": "cdots", "∥": "parallel", "⟨": "langle", "⟩": "rangle",
    "ℓ": "ell", "♯": "sharp", "♭": "flat", "♮": "natural",
}  # fmt: skip
# in Unicode's order; letters that Latin has, too, are written so
_GREEK = {
    "α": "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi o pi rho varsigma sigma tau "
    "upsilon varphi chi psi omega",
    "Α": "A B Gamma Delta E Z H Theta I K Lambda M N Xi O Pi P - Sigma T Upsilon Phi X Psi Omega",
}
_ACCENTS = {"\u0301": "acute", "\u0308": "ddot"}


def _commands() -> dict[str, str]:
    """Return what LaTeX writes otherwise than by the character itself."""
    signs = {sign: rf"\{name}" for sign, name in _SIGNS.items()}
    for first, names in _GREEK.items():
        for place, name in enumerate(names.split()):
            letter, command = chr(ord(first) + place), name if len(name) == 1 else rf"\{name}"
            signs[letter] = command if command.startswith("\\") else rf"\mathrm{{{command}}}"
            for accent, over in _ACCENTS.items():
                signs[unicodedata.normalize("NFC", letter + accent)] = rf"\{over}{{{signs[letter]}}}"
    # of letters without an accented form there are two characters, which stay apart
    return {sign: rf"\ensuremath{{{command}}}" for sign, command in signs.items() if len(sign) == 1}


_LATEX = str.maketrans(_commands() | {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}", "±": r"$\pm$", "→": r"$\to$",
    "†": r"\textdagger{}", "‡": r"\textdaggerdbl{}", "<": r"$<$", ">": r"$>$", "−": "$-$", "‐": "-", "‑": "-",
})  # fmt: skip
# What pdflatex has, beside ASCII, with no more than inputenc and fontenc: most of Latin, and a text's signs. On any
# other character it would stop.
_UNKNOWN_TO_LATEX = re.compile(
    "[^\n -~\u00a0-\u0125\u0128-\u0137\u0139-\u013e\u0141-\u0148\u014a-\u0165\u0168-\u017e\u0218-\u021b"
    "\u2013\u2014\u2018-\u201a\u201c-\u201e\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122]+"
)


def markdown_text(text: str) -> str:
    """Return a text that Markdown shows as it is, within a line: no heading, link, table, HTML or formula."""
    return _MARKDOWN.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), printable(text))


def code_span(text: str) -> str:
    """Return a text as code in Markdown, in as many backticks as it takes."""
    text = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def latex_text(text: str) -> str:
    """Return a text for pdflatex and xelatex: -> is an arrow, a hyphen before a number a minus, between spaces a dash.

    Letters of Greek and common signs are commands; other characters that either lacks are numbers: [U+4E2D U+6587].
    """
    composed = unicodedata.normalize("NFC", printable(text)).replace("->", "→")
    known = _UNKNOWN_TO_LATEX.sub(_numbers, composed.translate(_LATEX))
    # after a line's end, these two would be taken as its options
    start = "{}" if known[:1] in ("[", "*") else ""
    return start + re.sub(r"(?<![\w.])-(?=\.?\d)", "$-$", known.replace(" - ", " -- "))


def _numbers(found: re.Match[str]) -> str:
    return f"[{' '.join(f'U+{ord(character):04X}' for character in found[0])}]"


def without_zero(text: str) -> str:
    """Return numbers without the zero before their point, as the field prints scores: .379, -.017, 1.2."""
    return re.sub(r"(?<![\d.])0(?=\.\d)", "", text)


def figure_text(text: str, length: int = 60) -> str:
    """Return a name or a title for a figure: of a long one, which would leave no room, without its middle."""
    text, half = printable(text), (length - 3) // 2
    if len(text) > length:
        text = f"{text[:half]}...{text[-half:]}"
    # legends leave out what begins with an underscore
    return f" {text}" if text.startswith("_") else text
