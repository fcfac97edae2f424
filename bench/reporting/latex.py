"""LaTeX for papers: tables to \\input, the captions of tables and figures, and a document that shows all of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.reporting.analysis import Analysis
from bench.reporting.marks import KINDS, Footnote, footnotes
from bench.reporting.notes import reading_notes
from bench.reporting.tables.printed import Emphasis, Printed
from bench.reporting.tables.table import Column, Record
from bench.reporting.text import latex_text, without_zero
from bench.text import printable

__all__ = ["latex_files"]

# lines that a page holds: a longer table breaks over pages, which no float does
_LINES = 58
_NUMBER = re.compile(r"[+-]?[\d,]*\.?\d+")
_INTERVAL = re.compile(r"([+-]?[\d.]+) to ([+-]?[\d.]+)")
_MARKS = re.compile("( [†‡§]+)$")
# characters: of a text that takes no share of a table's width, of a name that may be broken, of LaTeX for a long name
_SHORT, _UNBROKEN, _LONG = 8, 16, 40
_BREAK = r"\allowbreak{}"
_SISETUP = (
    r"\sisetup{print-zero-integer=false, retain-explicit-plus, reset-text-series=false, text-series-to-math=true}%"
)
_RAGGED = r">{\raggedright\arraybackslash}"
_PREAMBLE = r"""% pdflatex report.tex, or xelatex report.tex
\documentclass{article}
\usepackage{iftex}
\ifpdftex
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\else
\usepackage{fontspec}
\fi
\usepackage{booktabs,graphicx,longtable,siunitx,tabularx}
\usepackage[width=6.9in,height=9.4in]{geometry}
\setlength{\belowcaptionskip}{4pt}
\setcounter{topnumber}{9}\setcounter{totalnumber}{9}
\renewcommand{\topfraction}{.99}\renewcommand{\textfraction}{.01}\renewcommand{\floatpagefraction}{.6}
\makeatletter\setlength{\@fptop}{0pt}\makeatother
\input{captions}
\sloppy
\begin{document}"""


def latex_files(analysis: Analysis, tables: Sequence[Printed], figures: Mapping[str, str]) -> dict[str, str]:
    """Return file name to text: table_NAME.tex each, captions.tex (of figures, file stem to caption), report.tex."""
    files = {f"table_{table.name}.tex": _fragment(table) for table in tables}
    captions = {f"table_{table.name}": table.caption for table in tables} | dict(figures)
    return {**files, "captions.tex": _captions(captions), "report.tex": _document(analysis, tables, list(figures))}


# --- captions


def _captions(captions: Mapping[str, str]) -> str:
    r"""Return a macro a caption; \def, since those of another results folder may be read behind them."""
    lines = ["% Captions of tables and figures: \\caption{\\captionTableScores} behind \\input{captions}"]
    lines += [rf"\def{_macro(name)}{{{latex_text(caption)}}}" for name, caption in captions.items()]
    return "\n".join(lines) + "\n"


def _macro(stem: str) -> str:
    r"""Return the name of a caption's macro: map_vs_macs -> \captionMapVsMacs. It takes letters alone."""
    return r"\caption" + "".join(part.capitalize() for part in re.findall("[A-Za-z]+", stem))


# --- a table


@dataclass(frozen=True)
class _Set:
    """A column as LaTeX sets it: its kind, and a cell for each record."""

    header: str
    kind: str
    cells: list[str]


def _fragment(table: Printed) -> str:
    """Return a table to \\input: as wide as the line, without caption and label; of many lines, one over pages."""
    columns = [each for column in table.columns for each in _set(column, table.records, table.emphasis)]
    body = _body(table, columns)
    is_long = _is_long(table)
    if table.is_wide and not is_long:
        columns = _first_as_it_is(columns)
    environment = "longtable" if is_long else "tabularx"
    needs = f"booktabs, {environment}, siunitx 3"
    place = "between paragraphs, in one column" if is_long else "table*" if table.is_wide else "table"
    lines = [
        f"% needs {needs}; belongs {place if is_long else f'into {place}'}",
        rf"\begingroup\footnotesize\setlength{{\tabcolsep}}{{{4 if table.is_wide else 3}pt}}%",
        _SISETUP,
        *(_over_pages(columns) if is_long else _on_a_page(columns)),
        *body,
        r"\bottomrule",
        rf"\end{{{environment}}}",
    ]
    # which counts as a table by itself, whoever captions it
    return "\n".join([*lines, *([r"\addtocounter{table}{-1}%"] if is_long else []), r"\endgroup"]) + "\n"


def _first_as_it_is(columns: list[_Set]) -> list[_Set]:
    """Return columns of which the first, of names that are not long, leaves the line to other texts."""
    first, *others = columns
    texts = any(column.kind.endswith("X") for column in others)
    is_short = max((len(cell.replace(_BREAK, "")) for cell in first.cells), default=0) <= _LONG
    return [replace(first, kind="l"), *others] if texts and is_short else columns


def _is_long(table: Printed) -> bool:
    # a heading with the space before it takes a line and a half
    return len(table.records) + 1.5 * len(table.groups) > _LINES


def _on_a_page(columns: Sequence[_Set]) -> list[str]:
    kinds = "".join(column.kind for column in columns)
    return [rf"\begin{{tabularx}}{{\linewidth}}{{@{{}}{kinds}@{{}}}}", r"\toprule", _header(columns), r"\midrule"]


def _over_pages(columns: Sequence[_Set]) -> list[str]:
    """Return a longtable's beginning; texts share some of the line, since it has no X."""
    texts = sum(column.kind.endswith("X") for column in columns)
    part = rf"{_RAGGED}p{{{0.6 / max(texts, 1):.2f}\linewidth}}"
    kinds = "".join(part if column.kind.endswith("X") else column.kind for column in columns)
    begin = rf"\begin{{longtable}}{{@{{}}{kinds}@{{}}}}"
    return [begin, r"\toprule", _header(columns), r"\midrule", r"\endhead"]


def _header(columns: Sequence[_Set]) -> str:
    cells, rest = [], list(columns)
    while rest:
        column = rest.pop(0)
        if rest and rest[0].header == column.header:
            rest.pop(0)
            cells.append(rf"\multicolumn{{2}}{{c}}{{{column.header}}}")
        else:
            cells.append(f"{{{column.header}}}")
    return " & ".join(cells) + r" \\"


def _body(table: Printed, columns: Sequence[_Set]) -> list[str]:
    lines, number = [], 0
    for place, (heading, records) in enumerate(table.groups):
        if place:
            lines.append(r"\addlinespace")
        if heading:
            lines.append(rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{\emph{{{latex_text(heading)}}}}} \\")
        for _ in records:
            lines.append(" & ".join(column.cells[number] for column in columns) + r" \\")
            number += 1
    return lines


def _set(column: Column, records: Sequence[Record], emphasis: Emphasis) -> list[_Set]:
    """Return a column as LaTeX sets it; of means and standard deviations two."""
    header = latex_text(column.header)
    texts = [printable(column.text(record)) for record in records]
    if not column.numeric:
        is_short = max(map(len, texts)) <= _SHORT
        return [_Set(header, "l" if is_short else f"{_RAGGED}X", [_words(text) for text in texts])]
    if any(" ± " in text for text in texts):
        means, spreads = zip(*(text.partition(" ± ")[::2] for text in texts), strict=True)
        looks = [emphasis(column.field, record) for record in records]
        first = _Set(header, _aligned(means) + r"@{\,}", _numbers(means, looks))
        return [first, _Set(header, "l", [rf"$\pm$\,{_plain(text)}" if text else "" for text in spreads])]
    if all(_NUMBER.fullmatch(text) or _is_no_number(text) for text in texts):
        return [_Set(header, _aligned(texts), _numbers(texts, [emphasis(column.field, record) for record in records]))]
    if all(_INTERVAL.fullmatch(text) or not text for text in texts):
        return [_Set(header, "c", [_brackets(text) for text in texts])]
    return [_Set(header, "r", _marked(texts))]


def _is_no_number(text: str) -> bool:
    return text in ("", "-") or text.startswith("< ")


def _aligned(texts: Sequence[str]) -> str:
    """Return a column of siunitx that holds these numbers."""
    known = [_digits(text) for text in texts if _NUMBER.fullmatch(text)]
    parts = [text.lstrip("+-").partition(".") for text in known]
    whole, decimals = (max((len(part[place]) for part in parts), default=0) for place in (0, 2))
    sign = "+" if any(text[0] in "+-" for text in known) else ""
    return f"S[table-format={sign}{whole or ''}{f'.{decimals}' if decimals else ''}]"


def _numbers(texts: Sequence[str], looks: Sequence[str]) -> list[str]:
    return [_number(text, look) for text, look in zip(texts, looks, strict=True)]


def _number(text: str, look: str) -> str:
    """Return a cell of a column of siunitx; in braces what is no number to it."""
    if not _NUMBER.fullmatch(text):
        return f"{{{'--' if text == '-' else _plain(text)}}}" if text else ""
    if look == "underlined":
        return rf"{{\underline{{{_plain(text)}}}}}"
    return rf"\bfseries {_digits(text)}" if look == "bold" else _digits(text)


def _digits(text: str) -> str:
    """Return a number as siunitx reads it; no number begins with a zero before its point."""
    return without_zero(text.replace(",", ""))


def _plain(text: str) -> str:
    return latex_text(without_zero(text))


def _brackets(text: str) -> str:
    return _INTERVAL.sub(lambda found: f"[{_plain(found[1])}, {_plain(found[2])}]", text)


def _marked(texts: Sequence[str]) -> list[str]:
    """Return texts that end in figures, those without marks with as much space as the widest marks take."""
    marks = max((found[0] for text in texts if (found := _MARKS.search(text))), key=len, default="")
    cells = []
    for text in texts:
        found = _MARKS.search(text)
        space = rf"\phantom{{{latex_text(marks)}}}" if marks and text and not found else ""
        cells.append(_plain(text) + space)
    return cells


def _words(text: str) -> str:
    """Return a text that may be broken within long names, and not before its marks."""
    found = _MARKS.search(text)
    if found:
        return f"{_words(text[: found.start()])}~{latex_text(found[0].strip())}"
    # words that are not long stay together with the signs between them
    words = re.split(rf"(\S{{{_UNBROKEN + 1},}})", text)
    return "".join(_broken(latex_text(word)) if place % 2 else latex_text(word) for place, word in enumerate(words))


def _broken(name: str) -> str:
    return re.sub(r"(\\_|[=/:,])(?=[\w\\])", lambda found: found[0] + _BREAK, name)


# --- a document


def _document(analysis: Analysis, tables: Sequence[Printed], figures: Sequence[str]) -> str:
    """Return a document with all tables, figures, notes and footnotes."""
    lines = [_PREAMBLE, rf"\section*{{{latex_text(analysis.results.title)}}}"]
    for table in tables:
        lines += ["", *_table(table)]
    for name in figures:
        lines += ["", *_figure(name)]
    lines += ["", r"\clearpage"]
    for note in reading_notes(analysis):
        lines += ["", r"\noindent " + _words(note)]
    for kind in KINDS:
        if notes := footnotes(analysis.results, kind):
            lines += ["", r"\noindent " + latex_text(f"{kind.symbol} {kind.heading}"), r"\begin{itemize}\raggedright"]
            lines += [rf"\item {_footnote(note)}" for note in notes]
            lines.append(r"\end{itemize}")
    return "\n".join([*lines, "", r"\end{document}"]) + "\n"


def _table(table: Printed) -> list[str]:
    name, caption = f"table_{table.name}", _macro(f"table_{table.name}")
    label = rf"\label{{tab:{table.name}}}"
    if _is_long(table):
        return [
            r"\clearpage",
            rf"\refstepcounter{{table}}\noindent Table \thetable{label}: {caption}",
            "",
            rf"\input{{{name}}}",
        ]
    inner = [rf"\caption{{{caption}}}{label}", rf"\input{{{name}}}"]
    if not table.is_wide:
        inner = [r"\begin{minipage}{3.3in}", *inner, r"\end{minipage}"]
    return [r"\begin{table}[htbp]", r"\centering", *inner, r"\end{table}"]


def _figure(name: str) -> list[str]:
    return [
        r"\begin{figure}[htbp]", r"\centering",
        rf"\includegraphics[width=\linewidth,height=.8\textheight,keepaspectratio]{{{name}}}",
        rf"\caption{{{_macro(name)}}}\label{{fig:{name}}}", r"\end{figure}",
    ]  # fmt: skip


def _footnote(note: Footnote) -> str:
    return rf"\texttt{{{_words(note.setting)}}}: {_words(note.reason)} ({_words(', '.join(note.systems))})"
