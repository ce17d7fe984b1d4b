"""The exact minimum of margins over a rectangle of two inputs: regions of one sign pattern are polygons, cut in fractions."""

from fractions import Fraction

from torch import nn

Affine = tuple[list[Fraction], Fraction]


def rational(net):
    """The weights and biases of a plain network's linear layers, as they are."""

    def fractions(values):
        return [Fraction(v) for v in values.tolist()]

    return [([fractions(row) for row in m.weight], fractions(m.bias)) for m in net if isinstance(m, nn.Linear)]


def _combined(row, const, maps):
    slope = [sum((a * m[0][k] for a, m in zip(row, maps, strict=True)), Fraction(0)) for k in range(2)]
    return slope, const + sum((a * m[1] for a, m in zip(row, maps, strict=True)), Fraction(0))


def _at(value, point):
    return value[0][0] * point[0] + value[0][1] * point[1] + value[1]


def _cut(polygon, value):
    """The parts where an affine function is at least 0, and at most 0."""
    above, below = [], []
    for i, p in enumerate(polygon):
        q = polygon[i - 1]
        a, b = _at(value, q), _at(value, p)
        if a * b < 0:
            edge = [u + a / (a - b) * (v - u) for u, v in zip(q, p, strict=True)]
            above.append(edge)
            below.append(edge)
        above += [p] * (b >= 0)
        below += [p] * (b <= 0)
    return above, below


def least_margin(net, low, high, margins):
    """The least of the margins, pairs (row, const) on the logits, where the inputs run from ``low`` to ``high``."""
    layers = rational(net)
    zero, one = Fraction(0), Fraction(1)
    corners = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
    todo = [(corners, 0, [([one, zero], zero), ([zero, one], zero)], [])]
    least = []
    while todo:
        polygon, depth, before, done = todo.pop()
        weights, biases = layers[depth]
        if depth == len(layers) - 1:
            logits = [_combined(row, bias, before) for row, bias in zip(weights, biases, strict=True)]
            values = [_combined(row, const, logits) for row, const in margins]
            least.append(min(_at(value, point) for value in values for point in polygon))
        elif len(done) == len(weights):
            todo.append((polygon, depth + 1, done, []))
        else:
            z = _combined(weights[len(done)], biases[len(done)], before)
            for part, a in zip(_cut(polygon, z), (z, ([zero, zero], zero)), strict=True):
                todo += [(part, depth, before, [*done, a])] if part else []
    return min(least)
