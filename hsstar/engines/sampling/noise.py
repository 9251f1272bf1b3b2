"""Random noise as a pure function of an address, so that a sample does not depend on its batch."""

from torch import Tensor

_WORD = 2**64
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_ONE = 0xBF58476D1CE4E5B9
_MIX_TWO = 0x94D049BB133111EB


def _signed(word: int) -> int:
    word %= _WORD
    return word - _WORD if word >= _WORD // 2 else word


def _shift_right(bits: Tensor, count: int) -> Tensor:
    return (bits >> count).bitwise_and_((1 << (64 - count)) - 1)


def _mix(bits: Tensor) -> Tensor:
    """Apply the finaliser of splitmix64 (Steele, Lea and Flood 2014), in place."""
    bits.bitwise_xor_(_shift_right(bits, 30)).mul_(_signed(_MIX_ONE))
    bits.bitwise_xor_(_shift_right(bits, 27)).mul_(_signed(_MIX_TWO))
    return bits.bitwise_xor_(_shift_right(bits, 31))


def gumbel_noise(seeds: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
    """Return standard Gumbel noise, float32, (rows, tokens), for token ids of a position in each row.

    An entry is a function of (seed, position, token id) alone. The argmax of logits plus noise is a draw
    from the softmax of the logits. All are int64: `seeds` and `positions`, (rows,), and `tokens`, which are
    (rows, tokens) or the same for every row.
    """
    row_keys = _mix(_mix(seeds + _signed(_GOLDEN)) + (positions + 1) * _signed(_GOLDEN))
    bits = _shift_right(_mix(row_keys[:, None] + (tokens + 1) * _signed(_GOLDEN)), 32)
    uniform = bits.float().add_(0.5).mul_(2.0**-32).clamp_(max=1 - 2.0**-24)
    return uniform.neg_().log1p_().neg_().log_().neg_()
