"""The shapes of networks: one function each, from what a row holds to one number an output.

Hidden layers are normalised over their units (Ba et al. 2016), not over the batch: a batch's statistics would differ
between ranks and would have to be reduced too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Shape = Mapping[str, Any]


class _Layers:
    """Keras layers whose first weights and dropout follow from one seed, in the order in which they are made."""

    def __init__(self, seed: int, dropout: float) -> None:
        self._seed, self._dropout = seed, dropout

    def _next(self) -> int:
        self._seed += 1
        return self._seed - 1

    def start(self) -> Any:
        import keras

        return keras.initializers.GlorotUniform(seed=self._next())

    def spread(self, limit: float) -> Any:
        import keras

        return keras.initializers.RandomUniform(-limit, limit, seed=self._next())

    def dense(self, flow: Any, units: int) -> Any:
        import keras

        return keras.layers.Dense(units, kernel_initializer=self.start())(flow)

    def convolution(self, flow: Any, filters: int, width: int, *, dilation: int = 1, padding: str = "same") -> Any:
        import keras

        layer = keras.layers.Conv1D(
            filters, width, padding=padding, dilation_rate=dilation, kernel_initializer=self.start()
        )
        return layer(flow)

    def finish(self, flow: Any) -> Any:
        """Normalise, bend, leave some out."""
        import keras

        hidden = keras.layers.Activation("gelu")(keras.layers.LayerNormalization()(flow))
        return self.drop(hidden)

    def drop(self, flow: Any) -> Any:
        import keras

        seed = self._next()
        return keras.layers.Dropout(self._dropout, seed=seed)(flow) if self._dropout > 0 else flow


def dense_net(shape: Shape, inputs: int, outputs: int, seed: int) -> Any:
    """Dense layers of ``shape["layers"]`` units."""
    import keras

    make = _Layers(seed, shape["dropout"])
    flow = keras.Input((inputs,), dtype="float32")
    hidden = flow
    for units in shape["layers"]:
        hidden = make.finish(make.dense(hidden, units))
    return keras.Model(flow, make.dense(hidden, outputs))


def conv_net(shape: Shape, inputs: int, outputs: int, seed: int) -> Any:
    """Convolutions along the features, in the order of the contract, ``shape["filters"]`` of them a layer; then a dense layer."""
    import keras

    make = _Layers(seed, shape["dropout"])
    flow = keras.Input((inputs,), dtype="float32")
    hidden = keras.layers.Reshape((inputs, 1))(flow)
    for filters in shape["filters"]:
        hidden = make.finish(make.convolution(hidden, filters, shape["width"]))
    hidden = make.finish(make.dense(keras.layers.Flatten()(hidden), shape["units"]))
    return keras.Model(flow, make.dense(hidden, outputs))


def attention_net(shape: Shape, inputs: int, outputs: int, seed: int) -> Any:
    """A transformer over features: each becomes a token, a token of its own gathers what is answered [1]_.

    References
    ----------
    .. [1] Gorishniy et al., "Revisiting deep learning models for tabular data", 2021. https://arxiv.org/abs/2106.11959
    """
    import keras

    make, units = _Layers(seed, shape["dropout"]), shape["units"]
    flow = keras.Input((inputs,), dtype="float32")
    # A feature's token is a line of its own, ``value * direction + place``; the first token has no value, only a place.
    ahead = keras.layers.ZeroPadding1D((1, 0))(keras.layers.Reshape((inputs, 1))(flow))
    tokens = keras.layers.EinsumDense(
        "bfi,fiu->bfu", (inputs + 1, units), bias_axes="fu", kernel_initializer=make.spread(units**-0.5),
        bias_initializer=make.spread(units**-0.5),
    )(ahead)
    for _ in range(shape["blocks"]):
        calm = keras.layers.LayerNormalization()(tokens)
        tokens = tokens + make.drop(_attend(make, calm, units, shape["heads"]))
        wide = keras.layers.Activation("gelu")(make.dense(keras.layers.LayerNormalization()(tokens), 2 * units))
        tokens = tokens + make.drop(make.dense(wide, units))
    gathered = keras.layers.LayerNormalization()(tokens[:, 0])
    return keras.Model(flow, make.dense(gathered, outputs))


def _attend(make: _Layers, tokens: Any, units: int, heads: int) -> Any:
    # Not Keras' own layer: from one seed it would start queries, keys and values alike.
    import keras

    queries, keys, values = (
        keras.layers.Reshape((-1, heads, units // heads))(make.dense(tokens, units)) for _ in ("query", "key", "value")
    )
    odds = keras.ops.softmax(keras.ops.einsum("bqhd,bkhd->bhqk", queries, keys) / (units // heads) ** 0.5)
    seen = keras.ops.einsum("bhqk,bkhd->bqhd", odds, values)
    return make.dense(keras.layers.Reshape((-1, units))(seen), units)


def sequence_net(shape: Shape, inputs: int, outputs: int, seed: int) -> Any:
    """A temporal convolution [1]_ over ``shape["windows"]`` windows, oldest first; the answer is of the last.

    Each window is its features and whether it was there. Convolutions look back only, so that what is said of a window
    does not depend on how many places are behind it.

    References
    ----------
    .. [1] Bai et al., "An empirical evaluation of generic convolutional and recurrent networks for sequence modeling",
       2018. https://arxiv.org/abs/1803.01271
    """
    import keras

    make, windows, units = _Layers(seed, shape["dropout"]), shape["windows"], shape["units"]
    flow = keras.Input((inputs,), dtype="float32")
    rows = keras.layers.Reshape((windows, inputs // windows))(flow)
    hidden = make.finish(make.dense(rows, units))
    dilation = 1
    while dilation < windows:
        hidden = hidden + make.finish(make.convolution(hidden, units, 3, dilation=dilation, padding="causal"))
        dilation *= 2
    # What the row itself says is not washed out by what came before it.
    last = keras.layers.Concatenate()([hidden[:, -1], make.finish(make.dense(rows[:, -1], units))])
    return keras.Model(flow, make.dense(make.finish(make.dense(last, units)), outputs))


def autoencoder(shape: Shape, inputs: int, outputs: int, seed: int) -> Any:
    """Dense layers down to ``shape["code"]`` numbers and up again, as many out as in."""
    import keras

    make = _Layers(seed, shape["dropout"])
    flow = keras.Input((inputs,), dtype="float32")
    hidden = flow
    for units in shape["layers"]:
        hidden = make.finish(make.dense(hidden, units))
    hidden = make.dense(hidden, shape["code"])
    for units in reversed(shape["layers"]):
        hidden = make.finish(make.dense(hidden, units))
    return keras.Model(flow, make.dense(hidden, inputs))


ARCHITECTURES: dict[str, Callable[[Shape, int, int, int], Any]] = {
    build.__name__: build for build in (dense_net, conv_net, attention_net, sequence_net, autoencoder)
}


# What layers compute in, by the name of a precision; weights are float32 in both.
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def build_network(shape: Shape, inputs: int, outputs: int, seed: int, precision: str = "float32") -> Any:
    """A network.

    Parameters
    ----------
    shape : mapping
        ``kind``, one of `ARCHITECTURES`, and what that one asks for.
    inputs, outputs : int
        Numbers of a row and of an answer.
    seed : int
        Of initial weights and dropout.
    precision : str
        One of `PRECISIONS`.

    Returns
    -------
    keras.Model
        From float32 of shape (rows, inputs) to one logit an output, or the rows again (`autoencoder`).
    """
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(PRECISIONS[precision])
    try:
        return ARCHITECTURES[shape["kind"]](shape, inputs, outputs, seed)
    finally:
        keras.config.set_dtype_policy(before)
