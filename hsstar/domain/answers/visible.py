r"""What of a response counts as its reply: not its thinking, not the markup around it."""

import re

from hsstar.domain.answers.delimiters import contains_any
from hsstar.domain.answers.thinking import outside_thinking

_PARTS_OF_MARKUP = (  # folded; without these and "<" a response is its reply
    "◁", "~", "\x08", "\x0b", "\x0c", "[think]", "[/", "response", r"\\boxed",
)  # fmt: skip
_REPLY = re.compile(
    r"(?<!#)#{2,6}\s{0,4}Response\b:?|<\|im_start\|>assistant|<\|assistant\|>|<｜Assistant｜>|\[/INST\]",
    re.IGNORECASE,
)
_WORDS_OF_REPLIES = ("response", "assistant", "[/inst]")
_BLOCK = re.compile(r"</?(?:p|div|li|ul|ol|h[1-6])>|<br\s?/?>", re.IGNORECASE)
_FONT = re.compile(r"</?(?:b|strong|i|em|u|span|center|code|pre)>", re.IGNORECASE)
_CLOSING = re.compile(r"</[a-z]|<br", re.IGNORECASE)
_STRUCK_OUT = re.compile(r"~~[^~\n]{1,400}~~")
_SPECIAL_TOKEN = re.compile(r"<\|[a-z_]{1,40}\|>|</s>\s*\Z")
_POWER_OR_INDEX = re.compile(r"<(su[pb])>([^<>]{1,40})</\1>", re.IGNORECASE)
_READ_AS_ESCAPES = ("\x08oxed", "\x0box", "\x0crac")
_ESCAPES = str.maketrans({"\x07": r"\a", "\x08": r"\b", "\x0b": r"\v", "\x0c": r"\f"})
_ESCAPED_TAB = re.compile(r"\t(?=ext\{|imes|heta|frac)")
_DOUBLE_BOX = re.compile(r"(?<!\\)\\\\boxed")
_DOUBLE_COMMAND = re.compile(r"(?<!\\)\\\\(?=[A-Za-z{}])")


def visible_part(response: str) -> str:
    r"""Return the reply: what stands outside of blocks of thinking and behind the last mark of a reply.

    Markup of HTML goes; `\boxed` is put right where its backslash was doubled or read as an escape.
    """
    # Most responses have no markup, and to look for a part of it takes a hundredth of the time.
    folded = response.casefold()
    if "<" not in folded and not contains_any(folded, _PARTS_OF_MARKUP):
        return response if response.strip() else ""
    reply = _last_reply(outside_thinking(response), folded)
    if "<|" in reply or "</s>" in reply:
        reply = _SPECIAL_TOKEN.sub("", reply)
    if "~~" in reply:
        reply = _STRUCK_OUT.sub("", reply)
    if "<" in reply and _CLOSING.search(reply):
        reply = _POWER_OR_INDEX.sub(lambda tag: f"{'_^'[tag[1] in ('sup', 'SUP')]}{{{tag[2]}}}", reply)
        reply = _FONT.sub("", _BLOCK.sub("\n", reply))
    if contains_any(reply, _READ_AS_ESCAPES):
        reply = _ESCAPED_TAB.sub(r"\\t", reply.translate(_ESCAPES))
    doubled = r"\\boxed" in reply and _DOUBLE_BOX.search(reply)
    return _DOUBLE_COMMAND.sub(r"\\", reply) if doubled else reply


def _last_reply(text: str, folded: str) -> str:
    if not contains_any(folded, _WORDS_OF_REPLIES):
        return text if text.strip() else ""
    replies = (reply for reply in reversed(_REPLY.split(text)) if reply.strip())
    return next(replies, "")
