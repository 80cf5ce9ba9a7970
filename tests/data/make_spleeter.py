"""Make spleeter/: a Spleeter of two tiny nets as TensorFlow stores it, and what Keras' layers say of a test picture.

It needs tensorflow, which the tests do not: pip install tensorflow-cpu; python -m tests.data.make_spleeter
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "spleeter"
WIDTHS = (2, 1, 2, 1, 2, 1)
KINDS = {"Conv2D": "conv2d", "Conv2DTranspose": "conv2d_transpose", "BatchNormalization": "batch_normalization"}
LEAVES = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


def picture() -> NDArray[np.float32]:
    """Draw magnitudes (batch, frame, bin, channel), as TensorFlow has them."""
    return np.abs(np.sin(np.arange(64 * 128 * 2, dtype=np.float64) ** 1.5)).reshape(1, 64, 128, 2).astype(np.float32)


def net(x: Any, made: list[Any]) -> Any:
    """Build one source's net, as Keras' user would; list its layers in the order in which they are made."""
    from keras import layers  # type: ignore[import-not-found]

    def keep(layer: Any) -> Any:
        made.append(layer)
        return layer

    skips = []
    for width in WIDTHS:
        skips.append(keep(layers.Conv2D(width, 5, strides=2, padding="same"))(x))
        x = layers.LeakyReLU(negative_slope=0.2)(keep(layers.BatchNormalization())(skips[-1]))
    x = skips.pop()
    for width in (*WIDTHS[-2::-1], 1):
        x = layers.ReLU()(keep(layers.Conv2DTranspose(width, 5, strides=2, padding="same"))(x))
        x = keep(layers.BatchNormalization())(x)
        x = layers.Concatenate()([skips.pop(), x]) if skips else x
    return keep(layers.Conv2D(2, 4, dilation_rate=2, padding="same"))(x)


def make() -> None:
    """Write the checkpoint, with what an optimiser leaves in it, and the nets' answers."""
    import keras
    import tensorflow as tf  # type: ignore[import-untyped]

    made: list[Any] = []
    x = keras.Input((None, None, 2))
    model = keras.Model(x, [net(x, made), net(x, made)])
    rng = np.random.default_rng(0)
    stored: dict[str, Any] = {"global_step": np.int64(7), "beta1_power": np.float32(0.9)}
    counts = dict.fromkeys(KINDS.values(), 0)
    for layer in made:
        kind = KINDS[type(layer).__name__]
        name = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        for leaf in LEAVES:
            variable = getattr(layer, leaf, None)
            if variable is not None:
                value = rng.normal(leaf == "gamma", 0.3, variable.shape).astype(np.float32)
                value = np.abs(value) + np.float32(0.5) if leaf == "moving_variance" else value
                variable.assign(value)
                stored[f"{name}/{leaf}"] = value
    stored["conv2d/bias/Adam"] = np.zeros(WIDTHS[0], np.float32)
    stored["note"] = "no number"
    FOLDER.mkdir(exist_ok=True)
    slices = [""] * len(stored)
    tf.raw_ops.SaveV2(
        prefix=f"{FOLDER}/part", tensor_names=list(stored), shape_and_slices=slices, tensors=list(stored.values())
    )
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=[f"{FOLDER}/part"], destination_prefix=f"{FOLDER}/model")
    answers = np.stack([answer.numpy() for answer in model(picture(), training=False)])
    np.save(FOLDER / "answers.npy", answers[:, :, ::7, ::5])


if __name__ == "__main__":
    make()
