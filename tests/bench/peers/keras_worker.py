"""Keras' share of the table: model.fit on arrays in memory; frozen parts run as one graph without training."""
import sys
import time

import numpy as np
from keras_model import build, compile_for, keras, tf
from worker import batches, data, rate, serve

x, y = data(sys.argv[1])
keras.utils.set_random_seed(42)
ready = {}  # model and its inputs by work


class Epochs(keras.callbacks.Callback):
    def __init__(self, seconds):
        super().__init__()
        self.until, self.times = time.perf_counter() + seconds, []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.times.append(time.perf_counter() - self.start)
        if time.perf_counter() > self.until:
            self.model.stop_training = True


def tail_model(base, model):
    """What follows block_14, as a model of its own: for features cached by hand."""
    entry = keras.Input(base.get_layer("block_14_add").output.shape[1:])
    tensors = {base.get_layer("block_14_add").output.name: entry}
    value = entry
    past = False
    for layer in model.layers:
        if past:
            inputs = layer.input if isinstance(layer.input, list) else [layer.input]
            value = layer([tensors[i.name] for i in inputs] if len(inputs) > 1 else tensors[inputs[0].name])
            tensors[layer.output.name] = value
        past = past or layer.name == "block_14_add"
    return keras.Model(entry, value)


def prepare(work):
    """The compiled model and the arrays it trains on."""
    kind = work.split("_")[0]
    base, model = build()
    inputs = x
    if kind == "phase1hand":
        inputs = base.predict(x, batch_size=32, verbose=0)
        model = keras.Sequential([keras.Input(inputs.shape[1:]), model.get_layer("predictions")])
    if kind == "phase2hand":
        front = keras.Model(base.input, base.get_layer("block_14_add").output)
        inputs = front.predict(x, batch_size=32, verbose=0)
        compile_for(base, model, "tail")
        model = tail_model(base, model)
        model.compile(keras.optimizers.Adam(1e-5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    else:
        compile_for(base, model, {"phase2": "tail", "all": "all"}.get(kind, "head"))
    return model, inputs


def measure(work, seconds):
    kind, batch = work.split("_")[0], int(work.split("_")[1])
    if kind == "forward":
        if work not in ready:
            base, _ = build()
            ready[work] = tf.function(lambda t: base(t, training=False))
        source = batches(tf.constant(x), y, batch)
        return rate(lambda: ready[work](next(source)[0])[0, 0].numpy(), batch, seconds)
    if work not in ready:
        ready[work] = prepare(work)
        model, inputs = ready[work]
        model.fit(inputs[:batch], y[:batch], batch_size=batch, epochs=2, verbose=0)
    model, inputs = ready[work]
    count = len(inputs)
    if kind == "all":  # slow: shorter epochs, and no whole one to warm up
        count = 4 * batch
    epochs = Epochs(seconds)
    model.fit(inputs[:count], y[:count], batch_size=batch, epochs=10000, verbose=0, callbacks=[epochs])
    times = epochs.times[1:] or epochs.times
    return count * len(times) / sum(times)


serve(measure)
