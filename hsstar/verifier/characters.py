r"""Characters of Unicode and what they stand for in LaTeX: `⅔`, `𝑥`, `xⁿ`, `log₂8`, `∛2`, `α`, `Ⅱ`."""

import re
import unicodedata

_INVISIBLE = (0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), 0x2060, 0xFEFF)
_BLANK = (0xA0, *range(0x2000, 0x200B), 0x202F, 0x3000)
_GREEK = (
    "αalpha βbeta γgamma δdelta εepsilon ϵepsilon ζzeta ηeta θtheta ϑtheta ιiota κkappa λlambda μmu µmu νnu "
    "ξxi πpi ρrho σsigma ςsigma τtau υupsilon φphi ϕphi χchi ψpsi ωomega ΓGamma ΔDelta ΘTheta ΛLambda ΞXi "
    "ΠPi ΣSigma ΦPhi ΨPsi ΩOmega"
)
_COMMANDS = (
    "×times ·cdot ⋅cdot ∙cdot ≤le ⩽le ≦le ≥ge ⩾ge ≧ge ≠ne ≈approx ≡equiv ∞infty ∪cup ∩cap ∈in ∉notin ⊂subset "
    "⊆subseteq ∖setminus ∅emptyset ⌀emptyset ±pm ∓mp →to ⟶to ↦mapsto ↔leftrightarrow ⇔Leftrightarrow "
    "⇒Rightarrow ∴therefore "
    "∧land ∨lor ¬neg ∀forall ∃exists ∠angle △triangle ⟨langle ⟩rangle 〈langle 〉rangle "
    "⌊lfloor ⌋rfloor ⌈lceil "
    "⌉rceil ∑sum ∏prod ∫int ∂partial ∇nabla ⊥perp ∥parallel ≅cong ∼sim ℓell …ldots ⋯ldots"
)
_PLAIN = {
    **dict(zip("−–‐‑‒﹣－", "-------", strict=True)),
    **dict(zip("÷∕⁄", "///", strict=True)),
    "°": r"^\circ ",
    "º": r"^\circ ",
    "˚": r"^\circ ",
    "∶": ":",
    "∗": "*",
    "‖": r"\|",
    "¢": r"\text{ cents}",
    "￥": "¥",
    "℃": r"^\circ C",
    "℉": r"^\circ F",
    "、": ",",
    "。": ".",
    "′": "'",
    "″": "''",
}
_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys(map(chr, _INVISIBLE)),
        **dict.fromkeys(map(chr, _BLANK), " "),
        **{entry[0]: f"\\{entry[1:]} " for entry in f"{_GREEK} {_COMMANDS}".split()},
        **{letter: rf"\mathbb{{{name}}}" for letter, name in zip("ℝℕℤℚℂ", "RNZQC", strict=True)},
        **_PLAIN,
    }
)
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣʸᵃᵇᶜᵏᵐ"
_LOWERED = "₀₁₂₃₄₅₆₇₈₉₊₋ₙₓᵢⱼₖₐₘ"
_RAISED_RUN = re.compile(f"[{_RAISED}]+")
_LOWERED_RUN = re.compile(f"[{_LOWERED}]+")
_AS_PLAIN = str.maketrans(f"{_RAISED}{_LOWERED}", "0123456789+-()nixyabckm0123456789+-nxijkam")
_ROOT = re.compile(r"([∛∜])\s*(?:\(((?:[^()]|\([^()]*\)){1,200}+)\)|(\d+(?:\.\d+)?|[A-Za-z]))")
_ROOT_INDEX = re.compile(r"([²³⁴⁵⁶⁷⁸⁹ⁿ])√\s*(?:\(((?:[^()]|\([^()]*\)){1,200}+)\)|(\d+(?:\.\d+)?|[A-Za-z]))")
_FRACTION = re.compile(r"(\d)?\s?([¼½¾⅐-⅞↉])")
_COMPATIBLE = re.compile(
    "[\uff01-\uff5d\u2160-\u217f\U0001d400-\U0001d7ff\u210a-\u2113\u2115-\u211d\u212f-\u2134]"
)
_COMPOSED = re.compile("[\u0300-\u036f]")
_OVERLINED = re.compile("((?:[0-9][\u0304\u0305])+)|([A-Za-z])[\u0304\u0305]")
_LINES = re.compile("[\u0304\u0305]")
_LEADING_DASH = re.compile("\\A\\s*—(?=\\s?[\\d.\\\\])")
_SIGMA = re.compile("Σ(?=\\s?_)")


def in_latex(text: str) -> str:
    """Return a text with one character, or the command of LaTeX, for characters that mean the same."""
    if text.isascii():
        return text
    if _COMPOSED.search(text):
        text = _OVERLINED.sub(_overlined, unicodedata.normalize("NFC", text))
    text = _SIGMA.sub(r"\\sum", _LEADING_DASH.sub("-", text))
    text = _FRACTION.sub(_fraction, text)
    text = _ROOT_INDEX.sub(_root, text)
    text = _RAISED_RUN.sub(lambda run: f"^{{{run[0].translate(_AS_PLAIN)}}}", text)
    text = _LOWERED_RUN.sub(lambda run: f"_{{{run[0].translate(_AS_PLAIN)}}}", text)
    text = _ROOT.sub(lambda root: rf"\sqrt[{'34'[root[1] == '∜']}]{{{root[2] or root[3]}}}", text)
    text = _COMPATIBLE.sub(_compatible, text.translate(_CHARACTERS))
    return text.translate(_CHARACTERS)


def _overlined(match: re.Match[str]) -> str:
    return rf"\overline{{{_LINES.sub('', match[1])}}}" if match[1] else rf"\bar{{{match[2]}}}"


def _root(match: re.Match[str]) -> str:
    return rf"\sqrt[{match[1].translate(_AS_PLAIN)}]{{{match[2] or match[3]}}}"


def _fraction(match: re.Match[str]) -> str:
    numerator, denominator = unicodedata.normalize("NFKC", match[2]).split("⁄")
    return rf"{match[1] or ''}\frac{{{numerator}}}{{{denominator}}}"


def _compatible(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", match[0])
